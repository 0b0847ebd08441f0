"""Maps of digits, oil flow and MNIST: likelihood of test rows, and how well the map preserves neighbors and classes."""

import time
from typing import Any

import numpy as np
from scipy.stats import multivariate_normal

from _gtm_packages import PACKAGES, UGTM_DEFAULTS, Package, Settings
from _map_data import Split
from _map_judging import judged, true_log_likelihood

Row = dict[str, Any]
SIDE = 20
FIRST_ROWS = 5000  # of MNIST, for packages that take hours for all rows
DATA = ("digits", "oil flow", "MNIST")


def priory_row(split: Split) -> Row:
    """Fit priory's GTM with its defaults, except for the number of nodes."""
    from priory import GTM

    x = split.train[0]
    start = time.perf_counter()
    gtm = GTM(points_per_side=SIDE, random_state=0).fit(x)
    elapsed = time.perf_counter() - start
    likelihood = true_log_likelihood(split.test[0], gtm.means_, gtm.noise_variance_)
    row = {"rows": len(x), "log-likelihood": likelihood} | judged(split, gtm.transform(x), gtm.transform(split.test[0]))
    return row | {"s": elapsed, "iterations": gtm.n_iter_}


def package_row(package: Package, split: Split, most: int) -> Row:
    """Fit a package to the first `most` rows, with `Settings` or its own settings, in at most 200 iterations."""
    x = split.train[0][:most]
    settings = Settings(SIDE, SIDE // 2, iterations=200)
    start = time.perf_counter()
    with np.errstate(all="ignore"):
        fitted = package.fit(x, settings)
        elapsed = time.perf_counter() - start
        model = package.read(fitted, x)
        likelihood = true_log_likelihood(split.test[0], model.means, model.noise_variance, model.shift, model.scale)
        row = {"rows": len(x), "log-likelihood": likelihood}
        if model.place is not None:
            row |= judged(split, model.place(x), model.place(split.test[0]))
    return row | {"s": elapsed}


def pca_row(split: Split) -> Row:
    """Fit two principal components, with the density of probabilistic PCA (Tipping & Bishop 1999)."""
    from sklearn.decomposition import PCA

    x = split.train[0]
    start = time.perf_counter()
    pca = PCA(2).fit(x)
    elapsed = time.perf_counter() - start
    density = multivariate_normal(pca.mean_, pca.get_covariance())
    row = {"rows": len(x), "log-likelihood": float(density.logpdf(split.test[0]).mean())}
    return row | judged(split, pca.transform(x), pca.transform(split.test[0])) | {"s": elapsed}


def map_row(data: str, who: str, split: Split) -> Row:
    """Return one row of the table; if the package raises an error, the error is its remark."""
    try:
        if who == "priory":
            return {"data": data, "map": who} | priory_row(split)
        if who == "PCA":
            return {"data": data, "map": who} | pca_row(split)
        (package,) = [p for p in (*PACKAGES, UGTM_DEFAULTS) if p.name == who]
        most = FIRST_ROWS if data == "MNIST" else len(split.train[0])
        return {"data": data, "map": who} | package_row(package, split, most)
    except (ArithmeticError, ValueError, RuntimeError) as error:
        return {"data": data, "map": who, "remark": f"{type(error).__name__}: {str(error).splitlines()[0]}"}


def maps_of(data: str) -> list[str]:
    """Return the maps of a data set: all packages for the small ones, of them only ugtm for MNIST."""
    packages = [p for p in (UGTM_DEFAULTS, *PACKAGES) if p.installed and p.name != "ugtm by blocks"]
    return ["priory", "PCA", *(p.name for p in packages if data != "MNIST" or p.distribution == "ugtm")]
