"""Checks of the arguments of `GTM`: parameters, rows, weights, batches and positions on the map."""

import math
from collections.abc import Callable, Iterable, Iterator
from numbers import Integral, Real
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from sklearn.utils import check_array, check_consistent_length, check_random_state
from sklearn.utils.validation import (
    _check_feature_names,
    _check_n_features,
    _check_sample_weight,
    _check_y,
    validate_data,
)
from torch import Tensor

from priory._support.messages import shortened
from priory.gtm.reader import Batch
from priory.gtm.table import RowsTable, as_table
from priory.rows.frames import Frame, require_numbers

DTYPES = {"float64": torch.float64, "float32": torch.float32}
MOST_FEATURES = 2**27  # pairs of a node and a radial function: a gigabyte
MOST_NODES = 2**20  # a million images of 64 columns take half a gigabyte; a larger number is probably a typo


def check_parameters(gtm: Any) -> None:
    """Raise a ValueError if a parameter of a `GTM` is wrong."""
    least = dict.fromkeys(("points_per_side", "basis_per_side", "n_components", "max_iter", "batch_size"), 1)
    least["annealing"] = 0
    for name, lowest in least.items():
        value = getattr(gtm, name)
        if value is None and name in ("batch_size", "basis_per_side"):
            continue
        if not isinstance(value, Integral) or isinstance(value, bool) or value < lowest:
            raise ValueError(f"{name}: expected a whole number, at least {lowest}, got {value!r}")
    for name, above_zero in {"basis_width": True, "weight_decay": False, "tether": False, "tol": False}.items():
        value = getattr(gtm, name)
        if value is None and name == "tether":
            continue
        number = isinstance(value, Real) and not isinstance(value, bool) and math.isfinite(value)
        if not number or value < 0 or (above_zero and value == 0):
            kind = "a positive number" if above_zero else "a number of at least 0"
            raise ValueError(f"{name}: expected {kind}, got {value!r}")
    for name, side in {"points_per_side": gtm.points_per_side, "basis_per_side": basis_per_side(gtm)}.items():
        if side**gtm.n_components > MOST_NODES:
            raise ValueError(
                f"{name}: expected at most {MOST_NODES} points on the grid, got {side}^{gtm.n_components}; take fewer, "
                "or a smaller n_components"
            )
    nodes, functions = (side**gtm.n_components for side in (gtm.points_per_side, basis_per_side(gtm)))
    if max(nodes, functions) * functions > MOST_FEATURES:
        raise ValueError(
            f"points_per_side, basis_per_side: expected at most {MOST_FEATURES} pairs of a node or a radial function "
            f"with a radial function, got {nodes} nodes and {functions} functions; take fewer"
        )
    if gtm.dtype not in DTYPES:
        raise ValueError(f"dtype: expected {' or '.join(DTYPES)}, got {gtm.dtype!r}")
    check_random_state(gtm.random_state)
    checked_device(gtm.device)


def check_same_grid(gtm: Any) -> None:
    """Raise a ValueError if a parameter of the grid has changed since the fit."""
    requested = (gtm.points_per_side**gtm.n_components, gtm.n_components)
    centers = basis_per_side(gtm) ** gtm.n_components
    if gtm.nodes_.shape != requested or len(gtm.basis_.centers) != centers:
        raise ValueError(
            f"points_per_side, basis_per_side, n_components: expected those of the fitted map, with "
            f"{len(gtm.nodes_)} nodes in {gtm.nodes_.shape[1]} dimensions and {len(gtm.basis_.centers)} radial "
            f"functions, got {requested[0]} in {requested[1]} and {centers}; change them back, or call fit"
        )


def basis_per_side(gtm: Any) -> int:
    """Radial basis functions along each side; by default half as many as nodes, rounded up."""
    return (gtm.points_per_side + 1) // 2 if gtm.basis_per_side is None else int(gtm.basis_per_side)


def checked_device(device: str | None) -> torch.device:
    """Return the device of this name, which must support float64; None is the CPU."""
    try:
        result = torch.device("cpu" if device is None else device)
        torch.zeros(1, device=result, dtype=torch.float64).item()  # fails on the device meta, which holds no numbers
    except (RuntimeError, AssertionError, TypeError) as error:
        raise ValueError(
            f"device: expected None (the CPU) or a device that torch finds and has float64, got {device!r}; torch: "
            f"{shortened(str(error))}"
        ) from error
    return result


def checked_rows(gtm: Any, X: Any, *, reset: bool) -> NDArray[Any] | RowsTable:
    """Rows after scikit-learn's checks, NaN allowed, in their own type: blocks are converted to floats when read."""
    X = as_table(X)
    if not isinstance(X, RowsTable):
        return _validated(gtm, X, reset=reset)
    _check_feature_names(gtm, X, reset=reset)
    _check_n_features(gtm, X, reset=reset)
    return X


def checked_rows_and_answers(
    model: Any, X: Any, y: ArrayLike, *, multi_output: bool = False, y_numeric: bool = False
) -> tuple[NDArray[Any] | RowsTable, NDArray[Any]]:
    """Rows as `checked_rows` returns them, and one or more target values for each."""
    options = {"multi_output": multi_output, "y_numeric": y_numeric}
    X = as_table(X)
    if not isinstance(X, RowsTable):
        return _validated(model, X, y, **options)
    answers = _check_y(y, estimator=model, **options)
    check_consistent_length(X, answers)
    return checked_rows(model, X, reset=True), answers


def _validated(model: Any, *data: Any, **options: bool) -> Any:
    try:
        return validate_data(model, *data, dtype="numeric", ensure_all_finite="allow-nan", **options)
    except ValueError:
        if isinstance(data[0], Frame):
            require_numbers(data[0], "X")  # its message names the columns, unlike scikit-learn's
        raise


def checked_weights(X: NDArray[Any] | RowsTable, sample_weight: ArrayLike | None) -> NDArray[Any] | None:
    """Weights of rows, finite and not negative; None if all are 1."""
    if sample_weight is None:
        return None
    return _check_sample_weight(sample_weight, X, dtype=np.float64, ensure_non_negative=True)


def checked_places(gtm: Any, X: ArrayLike) -> Tensor:
    """Positions on the map, (n, C)."""
    places = check_array(X, dtype=np.float64, input_name="X")
    if places.shape[1] != gtm.nodes_.shape[1]:
        raise ValueError(
            f"X: expected positions on the map, (n, {gtm.nodes_.shape[1]}), got {places.shape}; the nodes are in nodes_"
        )
    return torch.from_numpy(np.array(places))


def checked_batches(gtm: Any, batches: Iterable[Any] | Callable[[], Iterable[Any]]) -> Callable[[], Iterator[Batch]]:
    """Return a function that starts reading the batches; each batch is checked when it arrives."""
    if gtm.batch_size is not None:
        raise ValueError(
            f"batch_size: expected None, got {gtm.batch_size}: fit_batches uses all batches in each iteration; for "
            "incremental EM call partial_fit with each batch"
        )
    start = batches if callable(batches) else lambda: batches
    if isinstance(start(), Iterator) and start() is start():
        raise ValueError(
            "batches: expected a source that can be read repeatedly (a list, a DataLoader, a function that starts a "
            "reading), got an iterator; call partial_fit with each batch if it can be read only once"
        )
    widths: list[int] = []

    def read() -> Iterator[Batch]:
        for batch in start():
            x = as_table(batch[0] if isinstance(batch, tuple | list) else batch)
            if not len(x):
                continue
            x = checked_rows(gtm, x, reset=not widths)
            widths.append(x.shape[1])
            yield Batch(x)
        if not widths:
            raise ValueError("batches: expected batches of rows, got none")

    return read
