"""`GTMClassifier` and `GTMRegressor`: labels or numbers are spread over a map that was fitted without them.

    answer(x) = sum_k p(k | x) answer_k

Node k learns answer_k from the training rows near it; `priory.grid.landscapes` has the formula and its sources.
`GTMClassifier(smoothing=0)` is ugtm's eGTC (Gaspar 2018, J. Open Research Software 6:26).
"""

import math
from collections.abc import Callable
from typing import Any, Self

import numpy as np
import torch
from jaxtyping import Float, Int
from numpy.typing import ArrayLike, NDArray
from sklearn.base import BaseEstimator, ClassifierMixin, RegressorMixin, clone
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import check_is_fitted, column_or_1d
from torch import Tensor

from priory.grid.landscapes import (
    check_smoothing,
    class_probabilities,
    predicted_value,
    value_landscape,
    weighted_powers,
)
from priory.gtm.checks import checked_rows_and_answers, checked_weights
from priory.gtm.estimator import GTM
from priory.gtm.table import TableLike


class OnMap(BaseEstimator):
    """The common base of classifier and regressor: a map, and sums over rows at its nodes."""

    gtm: GTM | None
    smoothing: float
    gtm_: GTM

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.allow_nan = True
        return tags

    def _check_parameters(self) -> None:
        if self.gtm is not None and not isinstance(self.gtm, GTM):
            raise ValueError(f"gtm: expected None or a GTM, got {type(self.gtm).__name__}")
        check_smoothing(self.smoothing)

    def _fit_map(self, X: TableLike, weight: NDArray[Any] | None) -> None:
        """Fit the map to X in its original form, so that the map stores the names of the columns too."""
        self.gtm_ = (GTM() if self.gtm is None else clone(self.gtm)).fit(X, sample_weight=weight)

    @property
    def _grid_shape(self) -> tuple[int, ...]:
        return (self.gtm_.points_per_side,) * self.gtm_.n_components

    def _node_sums(
        self, X: TableLike, columns: Callable[[Int[Tensor, " point"]], Float[Tensor, "point column"]]
    ) -> Float[Tensor, "node column"]:
        """Return sum_n r_nk c_n; `columns` returns c of the rows with these indices, in float64."""
        total: Tensor | float = 0.0
        for exponentials, block, _ in self.gtm_._walk(X):
            share = columns(block.place.cpu()).to(
                exponentials.terms.device
            ) * exponentials.reciprocal.double().unsqueeze(-1)
            total = total + exponentials.terms.double().mT @ share
        assert isinstance(total, Tensor)
        return total.cpu()

    def _predicted(
        self, X: TableLike, predict: Callable[[Float[Tensor, "point node"]], Float[Tensor, "point *column"]]
    ) -> NDArray[np.float64]:
        """Apply `predict` to the rows' responsibilities, block by block."""

        def of_block(exponentials: Any, block: Any, normals: Any) -> Tensor:
            terms = exponentials.terms.double()  # also for a float32 map, so that responsibilities sum to one
            return predict(terms / terms.sum(-1, keepdim=True))

        return self.gtm_._of_rows(X, of_block)


class GTMClassifier(ClassifierMixin, OnMap):
    """Classes on a map: the map is fitted to the rows alone; then each node learns the frequency of each class near it.

        p(c | x) = sum_k p(k | x) p(c | k),    p(c | k) ~ pi_c / f_c sum_n w_n r_nk [y_n = c]

    with r the training rows' responsibilities, w their weights, f the frequencies of the classes among them, and pi the
    prior of the classes, by default f. Nodes often have few rows, or none. So each node gets `smoothing` additional
    rows with the mean of its neighborhood, or of all rows if there are none nearby (formula: `priory.grid.landscapes`).

    Args:
        gtm: the map, a `GTM`, which is cloned before it is fitted; None is `GTM()`.
        smoothing: number of rows added to each node.
        class_prior: pi. None takes the frequencies, "equal" the same value for all classes; or one number for each of
            `classes_` in its order, with sum one.

    Attributes:
        gtm_: the fitted map.
        classes_: the labels, sorted.
        class_prior_: pi.
        node_probabilities_: p(c | k), (K, classes): the landscape.

    Reference: Gaspar et al. 2013, J. Chem. Inf. Model. 53(12), GTM-based classification models; eGTC of ugtm.

    >>> from sklearn.datasets import load_iris
    >>> x, y = load_iris(return_X_y=True)
    >>> classifier = GTMClassifier(GTM(points_per_side=10)).fit(x, y)
    >>> classifier.node_probabilities_.shape, classifier.score(x, y) > 0.95
    ((100, 3), True)
    """

    def __init__(
        self, gtm: GTM | None = None, *, smoothing: float = 1.0, class_prior: str | ArrayLike | None = None
    ) -> None:
        self.gtm = gtm
        self.smoothing = smoothing
        self.class_prior = class_prior

    def fit(self, X: TableLike, y: ArrayLike, sample_weight: ArrayLike | None = None) -> Self:
        """Fit the map to X, then the classes of the nodes to y.

        Args:
            X: (N, D), NaN in missing cells.
            y: labels of any kind, (N,).
            sample_weight: (N,), not negative: a row of weight 2 counts as two rows.

        Raises:
            ValueError: a parameter or the data are wrong; see also `GTM.fit`.
        """
        self._check_parameters()
        rows, y = checked_rows_and_answers(self, X, y)
        check_classification_targets(y)
        self.classes_, codes = np.unique(column_or_1d(y, warn=True), return_inverse=True)
        row_weights = checked_weights(rows, sample_weight)
        weight = np.ones(len(codes)) if row_weights is None else row_weights
        frequencies = np.bincount(codes, weight, len(self.classes_)) / weight.sum()
        self.class_prior_ = self._prior(frequencies)
        self._fit_map(X, row_weights)
        label, share = torch.from_numpy(codes), torch.from_numpy(weight)
        one_hot = torch.eye(len(self.classes_), dtype=torch.float64)
        sums = self._node_sums(X, lambda place: one_hot[label[place]] * share[place].unsqueeze(-1))
        prior = None if self.class_prior is None else torch.from_numpy(self.class_prior_)
        self.node_probabilities_ = class_probabilities(sums, self.smoothing, self._grid_shape, prior).numpy()
        return self

    def predict(self, X: TableLike) -> NDArray[Any]:
        """Return the most probable class of each row, (N,)."""
        probabilities = self.predict_proba(X)  # first, because it raises NotFittedError before fit
        return self.classes_[probabilities.argmax(-1)]

    def predict_proba(self, X: TableLike) -> NDArray[np.float64]:
        """Return p(c | x), (N, classes), in the order of `classes_`."""
        check_is_fitted(self)
        probabilities = torch.from_numpy(self.node_probabilities_)
        return self._predicted(X, lambda share: share @ probabilities.to(share.device))

    def _prior(self, frequencies: NDArray[Any]) -> NDArray[np.float64]:
        count = len(frequencies)
        if self.class_prior is None:
            return frequencies
        if isinstance(self.class_prior, str) and self.class_prior == "equal":
            return np.full(count, 1 / count)
        try:
            prior = np.array(self.class_prior, dtype=np.float64)
        except (TypeError, ValueError):
            prior = np.empty(0)
        if prior.shape != (count,) or not (prior >= 0).all() or not math.isclose(prior.sum(), 1.0, rel_tol=1e-6):
            raise ValueError(
                f"class_prior: expected None, 'equal' or {count} numbers that are not negative and add up to one, one "
                f"for each of the classes {self.classes_.tolist()}, got {self.class_prior!r}"
            )
        return prior


class GTMRegressor(RegressorMixin, OnMap):
    """Numbers on a map: the map is fitted to the rows alone; then each node learns mean and spread of y near it.

        E[y | x] = sum_k p(k | x) m_k,    Var[y | x] = sum_k p(k | x) (v_k + (m_k - E[y | x])^2),

        m_k = sum_n w_n r_nk y_n / sum_n w_n r_nk,    v_k = sum_n w_n r_nk (y_n - m_k)^2 / sum_n w_n r_nk

    with r the training rows' responsibilities and w their weights. Nodes often have few rows, or none. So each node
    gets `smoothing` additional rows with the mean of its neighborhood, or of all rows if there are none nearby
    (formula: `priory.grid.landscapes`; v_k + m_k^2 is the smoothed mean of y^2).

    Args:
        gtm: the map, a `GTM`, which is cloned before it is fitted; None is `GTM()`.
        smoothing: number of rows added to each node.

    Attributes:
        gtm_: the fitted map.
        node_means_: m_k, (K,) or (K, T) if y is (N,) or (N, T): the landscape.
        node_scales_: the standard deviation sqrt(v_k), of the same shape: the spread of the landscape.

    Reference: Gaspar et al. 2015, Molecular Informatics 34(6-7), GTM-based QSAR models; eGTR of ugtm.

    >>> from sklearn.datasets import load_diabetes
    >>> x, y = load_diabetes(return_X_y=True)
    >>> regressor = GTMRegressor(GTM(points_per_side=10)).fit(x, y)
    >>> mean, scale = regressor.predict(x[:5], return_std=True)
    >>> mean.shape, scale.shape, regressor.score(x, y) > 0.3
    ((5,), (5,), True)
    """

    def __init__(self, gtm: GTM | None = None, *, smoothing: float = 1.0) -> None:
        self.gtm = gtm
        self.smoothing = smoothing

    def fit(self, X: TableLike, y: ArrayLike, sample_weight: ArrayLike | None = None) -> Self:
        """Fit the map to X, then the means of the nodes to y.

        Args:
            X: (N, D), NaN in missing cells.
            y: one number for each row, (N,), or several, (N, T).
            sample_weight: (N,), not negative: a row of weight 2 counts as two rows.

        Raises:
            ValueError: a parameter or the data are wrong; see also `GTM.fit`.
        """
        self._check_parameters()
        rows, outputs = checked_rows_and_answers(self, X, y, multi_output=True, y_numeric=True)
        row_weights = checked_weights(rows, sample_weight)
        self._fit_map(X, row_weights)
        outputs = outputs.astype(np.float64)
        center = torch.from_numpy(np.array(np.average(outputs, axis=0, weights=row_weights)))
        centered = torch.from_numpy(outputs) - center
        weight = torch.from_numpy(np.ones(len(outputs)) if row_weights is None else row_weights)
        sums = self._node_sums(X, lambda place: weighted_powers(centered[place], weight[place]))
        landscape = value_landscape(sums, center, self.smoothing, self._grid_shape)
        self.node_means_, self.node_scales_ = landscape.mean.numpy(), landscape.scale.numpy()
        return self

    def predict(self, X: TableLike, return_std: bool = False) -> NDArray[Any] | tuple[NDArray[Any], NDArray[Any]]:
        """Return E[y | x], with the shape of y; with return_std, also the standard deviation sqrt(Var[y | x])."""
        check_is_fitted(self)
        landscape = torch.from_numpy(self.node_means_), torch.from_numpy(self.node_scales_)

        def predict(share: Tensor) -> Tensor:
            return torch.stack(predicted_value(share, *(part.to(share.device) for part in landscape)), -1)

        mean, scale = np.moveaxis(self._predicted(X, predict), -1, 0)
        return (mean, scale) if return_std else mean

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.target_tags.multi_output = True
        tags.regressor_tags.poor_score = True  # a smooth map cannot memorize 200 rows of noise
        return tags
