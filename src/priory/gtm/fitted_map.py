"""Predictions of a fitted map for rows and for positions on the map; and samples."""

import math
from collections.abc import Callable, Iterable, Iterator
from copy import copy
from functools import partial
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from sklearn.base import BaseEstimator, ClassNamePrefixFeaturesOutMixin, DensityMixin, TransformerMixin
from sklearn.utils import check_random_state
from sklearn.utils.validation import _num_samples, check_is_fitted
from torch import Tensor

from priory.density.components import Exponentials
from priory.density.isotropic import IsotropicNormals
from priory.grid.nodes import RadialBasis
from priory.gtm.checks import DTYPES, checked_device, checked_places, checked_rows
from priory.gtm.reader import Batch, Block, BlockReader
from priory.gtm.table import TableLike, as_table, is_dask


class FittedMap(ClassNamePrefixFeaturesOutMixin, TransformerMixin, DensityMixin, BaseEstimator):
    """The methods of a `GTM` that use its fitted attributes; rows are read in blocks.

    For a Dask array or data frame, the result is a lazy Dask array.
    """

    points_per_side: int
    n_components: int
    device: str | None
    dtype: str
    random_state: Any
    means_: NDArray[np.float64]
    nodes_: NDArray[np.float64]
    weights_: NDArray[np.float64]
    noise_variance_: float
    basis_: RadialBasis
    basis_weights_: NDArray[np.float64]

    def transform(self, X: TableLike) -> NDArray[np.float64]:
        """Return each row's position on the map, E[u | x] = sum_k p(k | x) u_k, (N, C)."""
        check_is_fitted(self)
        nodes = torch.from_numpy(self.nodes_).to(checked_device(self.device), DTYPES[self.dtype])
        return self._of_rows(X, lambda exponentials, block, normals: _responsibilities(exponentials) @ nodes)

    def predict(self, X: TableLike) -> NDArray[np.int64]:
        """Return the node with the largest responsibility for each row, (N,)."""
        return self._of_rows(X, lambda exponentials, block, normals: exponentials.terms.argmax(-1))

    def predict_proba(self, X: TableLike) -> NDArray[np.float64]:
        """Return the responsibilities p(k | x), (N, K)."""
        return self._of_rows(X, lambda exponentials, block, normals: _responsibilities(exponentials))

    def score_samples(self, X: TableLike) -> NDArray[np.float64]:
        """Return log p(x) of the observed cells of each row in nats, (N,); -inf if the squares of a row overflow."""

        def log_prob(exponentials: Exponentials, block: Block, normals: IsotropicNormals) -> Tensor:
            total = exponentials.log_sum + normals.shift(block.squares, block.cells)
            return total.masked_fill(total.isnan(), -torch.inf)  # infinite products give NaN

        return self._of_rows(X, log_prob)

    def score(self, X: TableLike, y: Any = None) -> float:
        """Return the mean of `score_samples`, in nats per row."""
        return float(self.score_samples(X).mean())

    def sample(self, n_samples: int = 1) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
        """Draw rows, (n_samples, D), and the nodes they come from, (n_samples,)."""
        check_is_fitted(self)
        if n_samples < 1:
            raise ValueError(f"n_samples: expected a positive number, got {n_samples}")
        random = check_random_state(self.random_state)
        node = random.choice(len(self.means_), size=n_samples, p=self.weights_)
        noise = random.standard_normal((n_samples, self.means_.shape[1]))
        return self.means_[node] + math.sqrt(self.noise_variance_) * noise, node

    def impute(self, X: TableLike, *, draw: bool = False) -> NDArray[np.float64]:
        """Fill missing cells with E[x_d | observed cells] = sum_k p(k | x) y_d(u_k), or with a draw; (N, D).

        The other cells do not change. A draw chooses a node by p(k | x) for each row and adds noise.
        """
        check_is_fitted(self)
        if is_dask(X):
            if draw:
                raise ValueError(
                    "draw: expected False for rows of Dask, because all blocks would get the same noise, got True; "
                    "impute the blocks one by one"
                )
            return self._lazily(X, type(self).impute)
        random, means = check_random_state(self.random_state), torch.from_numpy(self.means_)

        def cells(exponentials: Exponentials, block: Block, normals: IsotropicNormals) -> Tensor:
            r, images = _responsibilities(exponentials), means.to(exponentials.terms)
            if not draw:
                return r @ images
            share = torch.from_numpy(random.uniform(size=(len(r), 1))).to(r)
            node = torch.searchsorted(r.cumsum(-1), share).clamp(max=r.shape[1] - 1).squeeze(-1)
            noise = torch.from_numpy(random.standard_normal((len(r), means.shape[1])))
            return images[node] + math.sqrt(self.noise_variance_) * noise.to(r)

        X = as_table(X)
        filled = self._of_rows(X, cells)
        values = checked_rows(self, X, reset=False)[:]
        return np.where(np.isnan(values), filled, values)

    def inverse_transform(self, X: ArrayLike) -> NDArray[np.float64]:
        """Return the images y(u) of positions on the map, (n, C) to (n, D) in the data's units; any positions work."""
        check_is_fitted(self)
        return self.basis_(checked_places(self, X)).numpy() @ self.basis_weights_

    def magnification_factors(self, X: ArrayLike | None = None) -> NDArray[np.float64]:
        """Return sqrt(det(J'J)), J = dy/du, at the nodes or at positions (n, C): how much the sheet is stretched.

        It is a volume in data space, in the data's units to the power C, per volume of the map.

        Reference: Bishop, Svensen & Williams 1997, Magnification factors for the GTM algorithm, eq. 6.
        """
        check_is_fitted(self)
        slopes = self.basis_.slopes(checked_places(self, self.nodes_ if X is None else X))
        weights = torch.from_numpy(self.basis_weights_)
        metric = slopes @ (weights @ weights.mT) @ slopes.mT
        return torch.linalg.det(metric).clamp(min=0.0).sqrt().numpy()

    @property
    def _n_features_out(self) -> int:  # used by scikit-learn
        return self.nodes_.shape[1]

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.allow_nan = True
        tags.transformer_tags.preserves_dtype = [self.dtype]
        return tags

    def _rows(self, batches: Callable[[], Iterable[Batch]]) -> BlockReader:
        num_nodes = self.points_per_side**self.n_components
        return BlockReader(batches, num_nodes, checked_device(self.device), DTYPES[self.dtype])

    def _of_rows(self, X: TableLike, number: Callable[[Exponentials, Block, IsotropicNormals], Tensor]) -> NDArray[Any]:
        """Return `number` of each row, computed block by block; for Dask rows, a lazy Dask array."""
        if is_dask(X):
            return self._lazily(X, partial(type(self)._of_rows, number=number))
        X = as_table(X)
        result: Tensor | None = None
        for exponentials, block, normals in self._walk(X):
            of_block = number(exponentials, block, normals)
            if result is None:  # allocated first: small results between large blocks fragment the heap
                shape = _num_samples(X), *of_block.shape[1:]
                result = torch.empty(shape, dtype=of_block.dtype, device="cpu")
            result[block.place.cpu()] = of_block.cpu()
        assert result is not None
        return result.numpy()

    def _lazily(self, X: Any, of_block: Callable[[Any, NDArray[Any]], NDArray[Any]]) -> Any:
        """Return a lazy Dask array of the results of `of_block` for this map and each block of rows."""
        from priory.gtm.dask_rows import checked_array, lazily

        check_is_fitted(self)
        rows = checked_array(self, X, reset=False)
        model = copy(self)
        if hasattr(model, "feature_names_in_"):
            del model.feature_names_in_  # blocks have no column names
        return lazily(partial(of_block, model), rows)

    def _walk(self, X: TableLike) -> Iterator[tuple[Exponentials, Block, IsotropicNormals]]:
        """Yield blocks of rows with their exponentials, from which densities and responsibilities are computed."""
        check_is_fitted(self)
        checked = checked_rows(self, X, reset=False)
        rows = self._rows(lambda: [Batch(checked)])
        center = torch.from_numpy(self.means_.mean(0)).to(rows.device)
        loc = torch.from_numpy(self.means_).to(rows.device) - center
        log_weights = torch.from_numpy(np.log(self.weights_)).to(rows.device)
        normals = IsotropicNormals(log_weights.to(rows.dtype), loc.to(rows.dtype), self.noise_variance_)
        for block in rows.centered(center, keep=False):
            yield normals.exponentials(block.rows), block, normals


def _responsibilities(exponentials: Exponentials) -> Tensor:
    return exponentials.terms * exponentials.reciprocal.unsqueeze(-1)
