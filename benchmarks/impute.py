"""Imputation of missing cells by models, beside scikit-learn's imputers.

    python benchmarks/impute.py

Three tables of scikit-learn: wine (178 x 13), breast cancer (569 x 30) and digits (1797 x 64). Half of the rows are
training rows and complete. In the other rows a fifth of the cells is hidden at random, and each method imputes them.
The error is the root mean squared difference from the hidden values, in standard deviations of the training columns.
Columns that are constant in the training rows are dropped. Means and standard errors over three seeds of rows and
cells, one thread. A VAE has L = 8 and is trained by `fit` with 300 epochs; `impute` takes its default number of steps.

Results are written to `benchmarks/results/impute.json`.
"""

import json
import math
import statistics
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.datasets import load_breast_cancer, load_digits, load_wine
from sklearn.experimental import enable_iterative_imputer  # noqa: F401, enables IterativeImputer
from sklearn.impute import IterativeImputer, KNNImputer

from priory import GTM, VAE, GaussianDecoder, NormalEncoder, StandardNormal, VampPrior, fit, impute, mlp

RESULTS = Path(__file__).parent / "results" / "impute.json"
TABLES = {"wine": load_wine, "breast cancer": load_breast_cancer, "digits": load_digits}
SEEDS, SHARE, LATENT_DIM = 3, 0.2, 8

Table = NDArray[np.float64]


def of_vae(prior: Callable[[torch.Tensor], torch.nn.Module]) -> Callable[[Table, Table], Table]:
    """Return a method that trains a VAE with this prior on complete rows, and imputes the missing cells of others."""

    def fill(train: Table, gaps: Table) -> Table:
        x, width = torch.from_numpy(train).float(), train.shape[1]
        decoder = GaussianDecoder(mlp(LATENT_DIM, [64], width))
        vae = VAE(NormalEncoder(mlp(width, [64], 2 * LATENT_DIM)), decoder, prior(x))
        tenth = len(x) // 10
        fit(vae, x[tenth:], x[:tenth], epochs=300, batch_size=32, patience=50, seed=0)
        torch.manual_seed(0)
        return impute(vae, torch.from_numpy(gaps).float()).double().numpy()

    return fill


METHODS: dict[str, Callable[[Table, Table], Table]] = {
    "column mean": lambda train, gaps: np.where(np.isnan(gaps), train.mean(0), gaps),
    "10 nearest rows": lambda train, gaps: KNNImputer(n_neighbors=10).fit(train).transform(gaps),
    "chained ridge regressions": lambda train, gaps: (
        IterativeImputer(random_state=0, max_iter=30, tol=1e-2).fit(train).transform(gaps)
    ),
    "GTM": lambda train, gaps: GTM(random_state=0).fit(train).impute(gaps),
    "VAE, standard normal": of_vae(lambda x: StandardNormal(LATENT_DIM)),
    "VAE, VampPrior": of_vae(lambda x: VampPrior(x[:50].clone())),
}


def error(table: str, method: str, seed: int) -> float:
    """Return the error of one method on one table, in standard deviations of a column."""
    x = TABLES[table]().data.astype(np.float64)
    random = np.random.default_rng(seed)
    order = random.permutation(len(x))
    train, test = x[order[: len(x) // 2]], x[order[len(x) // 2 :]]
    varies = train.std(0) > 0
    train, test = ((part[:, varies] - train[:, varies].mean(0)) / train[:, varies].std(0) for part in (train, test))
    hidden = random.random(test.shape) < SHARE
    filled = METHODS[method](train, np.where(hidden, np.nan, test))
    return math.sqrt(((filled - test)[hidden] ** 2).mean())


def main() -> None:
    torch.set_num_threads(1)
    results = []
    for table in TABLES:
        for method in METHODS:
            errors = [error(table, method, seed) for seed in range(SEEDS)]
            se = statistics.stdev(errors) / math.sqrt(SEEDS)
            results.append({"data": table, "method": method, "rmse": statistics.mean(errors), "se": se})
            print(f"{table:14} {method:26} {results[-1]['rmse']:.3f} ± {se:.3f}", flush=True)
    RESULTS.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
