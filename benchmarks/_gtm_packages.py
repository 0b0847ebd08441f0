"""Published packages of the classical GTM, each called through its own functions with settings equal to ours.

Equal settings, with h the distance between neighboring centers of the basis and v the data's mean variance:

- width w in distances h: the argument of ugtm is w^2; of GTMAnalysisToolkit, dcekit and pygtm the square (w h)^2; of
  ChemographyKit and gtmx w, but they stretch the grid of centers by m / (m - 1).
- weight decay a, for data scaled to a mean variance of one: the other packages do not scale, so they get a / v. In gtmx
  the decay does not change with the noise either. It gets a, which is equal if the noise is the data's variance.
- no standardization; if a package needs data around zero, the mean is subtracted before and added afterwards.
"""

import contextlib
import io
from collections.abc import Callable
from importlib.metadata import PackageNotFoundError, version
from typing import Any, NamedTuple

import numpy as np

Array = np.ndarray


class Settings(NamedTuple):
    """Settings of a fit: nodes and centers per side, width in distances between centers, decay, iterations of EM."""

    points_per_side: int = 16
    basis_per_side: int = 8
    basis_width: float = 1.0
    weight_decay: float = 0.1
    iterations: int = 20

    @property
    def spacing(self) -> float:
        """Distance between neighboring centers on [-1, 1].

        >>> Settings(basis_per_side=5).spacing
        0.5
        """
        return 2 / (self.basis_per_side - 1)

    def decay_of(self, x: Array) -> float:
        """Return the weight decay for `x` in its own units."""
        return self.weight_decay / float(np.var(x, axis=0).mean())


class Model(NamedTuple):
    """A fitted model: means_k = images of the nodes (K, D), and noise, in the units of (x - shift) / scale."""

    means: Array
    noise_variance: float
    claim: Callable[[], float]  # nats per training row, as the package computes it
    place: Callable[[Array], Array] | None = None  # coordinates of any rows; None if the package has no such function
    shift: Array | float = 0.0
    scale: Array | float = 1.0


class Package(NamedTuple):
    """A package. `fit` is timed; `read` makes a `Model` from the result of `fit` and the training rows."""

    name: str
    distribution: str
    fit: Callable[[Array, Settings], Any]
    read: Callable[[Any, Array], Model]
    remark: str = ""

    @property
    def label(self) -> str:
        """Name and version."""
        return f"{self.name} {version(self.distribution)}" if self.distribution != "priory" else self.name

    @property
    def installed(self) -> bool:
        try:
            return self.distribution == "priory" or bool(version(self.distribution))
        except PackageNotFoundError:
            return False


def quietly(function: Callable[..., Any], *arguments: Any, **keywords: Any) -> Any:
    """Call a function without its progress bars and its lines per iteration."""
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        return function(*arguments, **keywords)


def fit_priory(x: Array, settings: Settings, **keywords: Any) -> Any:
    """Fit with exactly `iterations` iterations, annealed over half of them as by default."""
    from priory import GTM

    points, centers, width, decay, iterations = settings
    grid = {"points_per_side": points, "basis_per_side": centers, "basis_width": width, "weight_decay": decay}
    return GTM(**grid, max_iter=iterations, tol=0.0, **keywords).fit(x)


def read_priory(gtm: Any, x: Array) -> Model:
    return Model(gtm.means_, gtm.noise_variance_, lambda: gtm.score(x), gtm.transform)


def fit_ugtm(x: Array, settings: Settings) -> Any:
    """Fit `eGTM`, which does not standardize, unlike `runGTM`."""
    from ugtm import eGTM

    points, centers, width, _, iterations = settings
    return eGTM(k=points, m=centers, s=width**2, regul=settings.decay_of(x), niter=iterations).fit(x)


def read_ugtm(fitted: Any, x: Array) -> Model:
    return _ugtm_model(fitted.optimizedModel, x)


def _ugtm_model(model: Any, x: Array, scaler: Any = None) -> Model:
    """Return the final model, with the likelihood as `optimize` prints it; `scaler` standardizes rows, if given."""
    from ugtm import projection
    from ugtm.ugtm_core import computelogLikelihood

    def standardized(rows: Array) -> Array:
        return rows if scaler is None else scaler.transform(rows)

    def claim() -> float:
        return -float(computelogLikelihood(projection(model, standardized(x)).matP.T, model.betaInv, x.shape[1]))

    shift, scale = (0.0, 1.0) if scaler is None else (scaler.mean_, scaler.scale_)

    def place(rows: Array) -> Array:
        return projection(model, standardized(rows)).matMeans

    return Model(model.matY.T, float(model.betaInv), claim, place, shift, scale)


def fit_ugtm_blocks(x: Array, settings: Settings) -> Any:
    """Fit with `optimize_igtm`, the same EM by blocks of 5000 rows."""
    from ugtm import initialize, optimize_igtm

    points, centers, width, _, iterations = settings
    start = initialize(x, points, centers, width**2)
    return optimize_igtm(x, start, settings.decay_of(x), iterations, max(1, -(-len(x) // 5000)))


def fit_ugtm_defaults(x: Array, settings: Settings) -> Any:
    """Fit `runGTM` with its defaults, except for the number of nodes; it standardizes columns."""
    from ugtm import runGTM

    return runGTM(x, k=settings.points_per_side, niter=settings.iterations)


def read_ugtm_defaults(model: Any, x: Array) -> Model:
    from sklearn.preprocessing import StandardScaler

    return _ugtm_model(model, x, StandardScaler().fit(x))


def fit_chemographykit(x: Array, settings: Settings) -> Any:
    """Fit with one more iteration, because the last one has no M-step."""
    import torch
    from chemographykit.gtm import GTM

    points, centers, width, _, iterations = settings
    gtm = GTM(
        num_nodes=points**2,
        num_basis_functions=centers**2,
        basis_width=width,
        reg_coeff=settings.decay_of(x),
        max_iter=iterations + 1,
        tolerance=0.0,
    )
    quietly(gtm.fit, torch.from_numpy(x))
    return gtm


def read_chemographykit(gtm: Any, x: Array) -> Model:
    import torch

    def claim() -> float:
        return float(gtm.project(torch.from_numpy(x))[1].mean())

    def place(rows: Array) -> Array:
        return gtm.transform(torch.from_numpy(rows)).numpy()

    return Model((gtm.phi @ gtm.weights).numpy(), 1 / float(gtm.beta), claim, place)


def kaneko(module: str) -> Callable[[Array, Settings], Any]:
    """Return the fit of GTMAnalysisToolkit or dcekit, which are two versions of one program."""

    def fit(x: Array, settings: Settings) -> Any:
        import importlib

        points, centers, width, _, iterations = settings
        gtm = importlib.import_module(module).GTM(
            shape_of_map=[points, points],
            shape_of_rbf_centers=[centers, centers],
            variance_of_rbfs=(width * settings.spacing) ** 2,
            lambda_in_em_algorithm=settings.decay_of(x),
            number_of_iterations=iterations,
            display_flag=False,
        )
        gtm.fit(x - x.mean(0))
        if not gtm.success_flag:
            raise ArithmeticError("the package stopped at a singular matrix")
        return gtm

    return fit


def read_kaneko(gtm: Any, x: Array) -> Model:
    mean = x.mean(0)

    def place(rows: Array) -> Array:
        return gtm.responsibility(rows - mean) @ gtm.map_grids

    means = gtm.phi_of_map_rbf_grids @ gtm.W + gtm.bias
    return Model(means, 1 / float(gtm.beta), lambda: float(gtm.likelihood(x - mean)) / len(x), place, shift=mean)


def fit_gtmx(x: Array, settings: Settings) -> Any:
    from gtmx import GTMBase

    points, centers, width, decay, iterations = settings
    gtm = GTMBase(s=width, l=decay, map_shape=(points, points), rbf_shape=(centers, centers))
    quietly(gtm.fit, x, epoch=iterations)
    return gtm


def read_gtmx(gtm: Any, x: Array) -> Model:
    return Model(gtm.mu, 1 / float(gtm.beta), lambda: float(gtm.score(x)) / len(x))


def fit_pygtm(x: Array, settings: Settings) -> Any:
    """Fit pygtm, which counts the steps of a grid, not its points."""
    from pygtm import GTM

    points, centers, width, _, iterations = settings
    gtm = GTM(
        n_rbfs=centers - 1,
        sigma=(width * settings.spacing) ** 2,
        alpha=settings.decay_of(x),
        n_grids=points - 1,
        max_iter=iterations,
        tol=0.0,
    )
    gtm.fit(x - x.mean(0))
    return gtm


def read_pygtm(gtm: Any, x: Array) -> Model:
    mean = x.mean(0)
    means, noise_variance = gtm.phi @ gtm.W, 1 / float(gtm.beta)

    def claim() -> float:
        return float(gtm.likelihood(x - mean)) / len(x)

    return Model(means, noise_variance, claim, lambda rows: gtm.transform(rows - mean), shift=mean)


PRIORY = Package("priory", "priory", fit_priory, read_priory)
PACKAGES = [
    Package("ugtm", "ugtm", fit_ugtm, read_ugtm, "`eGTM`"),
    Package("ugtm by blocks", "ugtm", fit_ugtm_blocks, _ugtm_model, "`optimize_igtm`"),
    Package("ChemographyKit", "chemographykit", fit_chemographykit, read_chemographykit, "centers stretched by 8/7"),
    Package("GTMAnalysisToolkit", "GTMAnalysisToolkit", kaneko("GTMAnalysisToolkit"), read_kaneko),
    Package("dcekit", "dcekit", kaneko("dcekit.generative_model"), read_kaneko),
    Package("gtmx", "gtmx", fit_gtmx, read_gtmx, "centers stretched by 8/7; decay not scaled by the noise"),
    Package("pygtm", "pygtm", fit_pygtm, read_pygtm, "no bias"),
]
UGTM_DEFAULTS = Package("ugtm, its defaults", "ugtm", fit_ugtm_defaults, read_ugtm_defaults, "`runGTM`, 4 x 4 basis")
