"""A fitted `GTM` in a safetensors file: arrays, and JSON in its header. Nothing is pickled."""

import json
import math
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from sklearn.utils.validation import check_is_fitted
from torch import Tensor

from priory._support.files import replacing, require_readable
from priory.grid.nodes import RadialBasis
from priory.gtm.checks import check_parameters, check_same_grid

FORMAT = 1
KEY = "priory gtm"
CENTERS = "basis_centers"
ARRAYS = {  # the axes of each array: nodes K, grid dimensions C, columns D, features M + 1
    "nodes_": "KC",
    "means_": "KD",
    "weights_": "K",
    "basis_weights_": "MD",
    CENTERS: "BC",
    "log_likelihoods_": "T",
    "penalized_log_likelihoods_": "P",
    "held_out_log_likelihoods_": "H",
}
NUMBERS = (
    "n_features_in_",
    "noise_variance_",
    "tether_",
    "least_noise_variance_",
    "collapsed_",
    "n_iter_",
    "converged_",
)
_CURE = "give a file that `GTM.save` wrote, or fit again"


class SafetensorsMixin:
    """`save` and `load` of a `GTM`."""

    def save(self, path: str | Path) -> None:
        """Write the fitted attributes to a safetensors file; a crash leaves no partial file.

        The file has no device, no statistics for `partial_fit`, and no `random_state` that is a generator.

        Raises:
            NotFittedError: there is nothing to write yet.
            OSError: the file cannot be written.
        """
        check_is_fitted(self)
        header = {KEY: json.dumps(_header(self))}  # one entry, because safetensors writes several in any order
        with replacing(path) as temporary:
            temporary.write_bytes(save(_tensors(self), header))  # `save_file` would give only the owner access

    @classmethod
    def load(cls, path: str | Path, *, device: str | None = None) -> Self:
        """Read a file that `save` wrote; all numbers are identical to the bit.

        Args:
            path: the file.
            device: device of later computations; None is the CPU.

        Raises:
            ValueError: the file is damaged or is not a file of a GTM, or there is no such device.
            OSError: there is no such file, or it cannot be read.
        """
        arrays, header = _read(Path(path))
        try:
            gtm: Any = cls(**header["parameters"])
            check_parameters(gtm)
            _set_fitted(gtm, arrays, header)
        except (KeyError, TypeError, AttributeError, ValueError) as error:
            raise _damaged(path, str(error)) from error
        gtm.device = device
        check_parameters(gtm)
        try:
            check_same_grid(gtm)
        except ValueError as error:
            raise _damaged(path, str(error)) from error
        return gtm


def _tensors(gtm: Any) -> dict[str, Tensor]:
    arrays = {name: getattr(gtm, name) for name in ARRAYS if name != CENTERS}
    tensors = {name: torch.from_numpy(np.array(values, dtype=np.float64, order="C")) for name, values in arrays.items()}
    return tensors | {CENTERS: gtm.basis_.centers.detach().double().contiguous()}


def _header(gtm: Any) -> dict[str, Any]:
    parameters = {name: _plain(value) for name, value in gtm.get_params(deep=False).items() if name != "device"}
    names = getattr(gtm, "feature_names_in_", None)
    return {
        "format": FORMAT,
        "parameters": parameters,
        "feature_names_in_": None if names is None else [str(name) for name in names],
        "width": float(gtm.basis_.width),
        **{name: _plain(getattr(gtm, name)) for name in NUMBERS},
    }


def _plain(value: Any) -> Any:
    """Return a value that JSON can represent; None for a generator."""
    value = value.item() if isinstance(value, np.generic) else value
    return value if isinstance(value, bool | int | float | str) else None


def _read(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Return the file's arrays, checked, and its header."""
    if path.is_dir():
        raise ValueError(f"{path}: expected a file with a fitted GTM, got a folder; {_CURE}")
    require_readable(path, _CURE)
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            arrays = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (it is not a mapping)
    except SafetensorError as error:
        raise _damaged(path, str(error)) from error
    if KEY not in metadata:
        raise ValueError(f"{path}: expected a fitted GTM, got a safetensors file of another kind; {_CURE}")
    try:
        header = json.loads(metadata[KEY])
        if header["format"] != FORMAT:
            raise ValueError(f"this version of priory reads format {FORMAT}, the file has format {header['format']}")
        _check_arrays(arrays, int(header["n_features_in_"]))
    except (KeyError, TypeError, ValueError, RecursionError) as error:
        raise _damaged(path, str(error)) from error
    return arrays, header


def _check_arrays(arrays: dict[str, Tensor], num_inputs: int) -> None:
    """Check that all arrays exist, are float64 and finite, and have shapes that fit together."""
    if arrays.keys() != ARRAYS.keys():
        raise ValueError(f"expected the arrays {', '.join(ARRAYS)}, got {', '.join(arrays) or 'none'}")
    sizes = {"D": num_inputs, "M": len(arrays[CENTERS]) + 1}
    for name, axes in ARRAYS.items():
        shape = tuple(arrays[name].shape)
        fits = len(shape) == len(axes) and all(sizes.setdefault(a, n) == n for a, n in zip(axes, shape, strict=True))
        if not fits or arrays[name].dtype != torch.float64 or not arrays[name].isfinite().all():
            raise ValueError(f"{name} is {tuple(shape)} of {arrays[name].dtype}, not finite numbers of a fitting shape")


def _set_fitted(gtm: Any, arrays: dict[str, Tensor], header: dict[str, Any]) -> None:
    for name in ARRAYS:
        if name != CENTERS:
            setattr(gtm, name, arrays[name].numpy())
    gtm.basis_ = RadialBasis(arrays[CENTERS], float(header["width"]))
    kinds = dict(zip(NUMBERS, (int, float, float, float, bool, int, bool), strict=True))
    for name, kind in kinds.items():
        if type(header[name]) is not kind:
            raise ValueError(f"{name} is {header[name]!r}")
        setattr(gtm, name, header[name])
    if not (math.isfinite(gtm.noise_variance_) and gtm.noise_variance_ > 0):
        raise ValueError(f"noise_variance_ is {gtm.noise_variance_!r}")
    names = header["feature_names_in_"]
    if names is not None:
        if len(names) != gtm.n_features_in_ or not all(isinstance(name, str) for name in names):
            raise ValueError("feature_names_in_ does not name each column")
        gtm.feature_names_in_ = np.array(names, dtype=object)
    gtm._course = None  # a file has no statistics from which EM could continue


def _damaged(path: str | Path, reason: str) -> ValueError:
    return ValueError(f"{path}: expected a fitted GTM in safetensors' format, got a damaged file ({reason}); {_CURE}")
