"""The default GTM on small tables, beside probabilistic PCA with two axes.

    python benchmarks/gtm_small.py [--splits 5] [--tables iris wine ...] [--free]

Each table is split into training rows and held-out rows, and standardized by the training rows. The measure is minus
the mean log-likelihood of the held-out rows, in nats per row: of `GTM()`, of `PCA(2).score`, and the difference per
column. `--free` also measures the paper's GTM (`tether=0`). Results are written to `benchmarks/results/gtm_small.json`
and `.md`.
"""

import argparse
import json
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from sklearn import datasets
from sklearn.decomposition import PCA
from sklearn.exceptions import ConvergenceWarning

from priory import GTM

RESULTS = Path(__file__).parent / "results" / "gtm_small.json"
Table = np.ndarray


def plane(rows: int, columns: int = 4, noise: float = 0.3) -> Table:
    """Draw normal rows in a plane, with noise."""
    random = np.random.default_rng(rows)
    directions = np.random.default_rng(99).normal(size=(2, columns))
    return random.normal(size=(rows, 2)) @ directions + noise * random.normal(size=(rows, columns))


def curved(rows: int) -> Table:
    """Draw rows around a curved sheet in five columns."""
    random = np.random.default_rng(0)
    u, v = random.uniform(-1, 1, (2, rows))
    sheet = np.stack([u, v, np.sin(2 * u), u * v], 1) @ random.standard_normal((4, 5))
    return sheet + 0.1 * random.standard_normal((rows, 5))


def spectra(rows: int, columns: int = 100) -> Table:
    """Draw three smooth peaks of random heights on a base line, with hardly any noise."""
    random = np.random.default_rng(0)
    place = np.linspace(0, 1, columns)
    peaks = np.stack([np.exp(-((place - middle) ** 2) / 0.16) for middle in (0.2, 0.5, 0.8)])
    heights, base = random.gamma(3.0, 1.0, (rows, 3)), 0.05 * random.normal(size=(rows, 1))
    return heights @ peaks + base + 0.003 * random.normal(size=(rows, columns))


def linnerud() -> Table:
    table = datasets.load_linnerud()
    return np.hstack([table.data, table.target])


TABLES: dict[str, tuple[Callable[[], Table], int]] = {  # the rows, and the number of training rows
    **{f"noisy plane {n}": (lambda n=n: plane(n + 1000), n) for n in (20, 40, 60, 100, 300, 1000)},
    "iris": (lambda: datasets.load_iris().data, 100),
    "wine": (lambda: datasets.load_wine().data, 120),
    "diabetes": (lambda: datasets.load_diabetes().data, 120),
    "breast cancer": (lambda: datasets.load_breast_cancer().data, 120),
    "linnerud": (linnerud, 15),
    "digits 300": (lambda: datasets.load_digits().data, 300),
    "swiss roll": (lambda: datasets.make_swiss_roll(1000, noise=0.1, random_state=0)[0], 200),
    "circles": (lambda: datasets.make_circles(1000, noise=0.05, factor=0.5, random_state=0)[0], 150),
    "curved sheet": (lambda: curved(1000), 100),
    "two factors, 200 columns": (lambda: plane(230, 200, 1.0), 30),
    "pure noise": (lambda: np.random.default_rng(0).normal(size=(600, 6)), 100),
    "spectra": (lambda: spectra(400), 150),
}


def split(x: Table, number: int, seed: int) -> tuple[Table, Table]:
    """Return training and held-out rows, standardized by the training rows, without constant columns."""
    order = np.random.default_rng(seed).permutation(len(x))
    fitted, others = x[order[:number]], x[order[number:]]
    scale = fitted.std(0)
    varying = scale > 1e-9
    loc = fitted.mean(0)
    return tuple(((rows - loc) / np.where(varying, scale, 1.0))[:, varying] for rows in (fitted, others))


def measured(name: str, splits: int, free: bool) -> dict[str, Any]:
    """Return a row of the table: means over splits, and the worst split."""
    make, number = TABLES[name]
    x, rows = make(), []
    for seed in range(splits):
        fitted, others = split(x, number, seed)
        start = time.perf_counter()
        gtm = GTM(random_state=0).fit(fitted)
        seconds = time.perf_counter() - start
        row = {"train": -gtm.score(fitted), "GTM": -gtm.score(others), "PCA": -PCA(2).fit(fitted).score(others)}
        row |= {"a column": (row["GTM"] - row["PCA"]) / fitted.shape[1], "s": seconds, "tether": gtm.tether_ / number}
        row |= {"free": -GTM(tether=0.0).fit(fitted).score(others) if free else np.nan}
        rows.append(row)
    means = {key: float(np.mean([row[key] for row in rows])) for key in rows[0]}
    worst = float(max(row["a column"] for row in rows))
    return {"table": name, "rows": number, "columns": fitted.shape[1], "splits": splits, **means, "worst": worst}


def report(rows: list[dict[str, Any]]) -> str:
    """Return a Markdown table."""
    head = [
        "table",
        "rows",
        "columns",
        "PCA(2)",
        "GTM()",
        "GTM(tether=0)",
        "GTM() - PCA(2) per column",
        "worst split",
        "s",
    ]
    lines = [head, ["---"] * len(head)]
    for row in rows:
        numbers = [f"{row[key]:.2f}" for key in ("PCA", "GTM", "free")]
        differences = [f"{row[key]:+.3f}" for key in ("a column", "worst")]
        lines.append([row["table"], str(row["rows"]), str(row["columns"]), *numbers, *differences, f"{row['s']:.1f}"])
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--splits", type=int, default=5)
    parser.add_argument("--tables", nargs="+", choices=TABLES, default=list(TABLES))
    parser.add_argument("--free", action="store_true")
    parser.add_argument("--out", type=Path, default=RESULTS)
    arguments = parser.parse_args()
    warnings.simplefilter("ignore", ConvergenceWarning)
    rows = []
    for name in arguments.tables:
        rows.append(measured(name, arguments.splits, arguments.free))
        print(json.dumps(rows[-1]), flush=True)
    arguments.out.write_text(json.dumps(rows, indent=1) + "\n")
    words = (
        "Minus the mean log-likelihood of held-out rows, in nats per row; means over splits, and the worst split.\n\n"
    )
    arguments.out.with_suffix(".md").write_text(f"# Small tables\n\n{words}{report(rows)}")


if __name__ == "__main__":
    main()
