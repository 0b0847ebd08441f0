"""Clusters of a VampPrior mixture beside k-means and a Gaussian mixture on the same codes.

    python benchmarks/clusters.py [--data-dir DIR] [--runs DIR] [--only digits mnist bladder]

One VAE with `--prior vamp-mixture` for each data set, trained by `priory fit` on one thread with seed 0. All rows are
encoded. Normalized mutual information and adjusted Rand index compare three partitions of the codes with the labels,
which training does not use: the clusters of the prior, of k-means and of a mixture of full Gaussians (both by
scikit-learn, k = number of labels, five and two starts).

The digits come from scikit-learn. mnist (binarized again in each epoch) and bladder (single-cell counts of the mouse
bladder, 16 cell types, the 2000 genes whose logarithmic shares vary most) need `mnist.npz` and `mouse_bladder.npz` in
DIR.

An interrupted run continues; runs that are finished in `--runs` are not repeated. Results are written to
`benchmarks/results/clusters.json`, and to `.md`; data sets outside `--only` keep their last results.

Published by Stirn & Knowles 2024 (arXiv:2402.04412): MNIST, training and validation images, K = 100, L = 10, ReLU
networks of 500-500-2000 units, Gaussian likelihood, full covariances, the epoch with the best validation NMI:
accuracy 0.967, NMI 0.92, 13.9 clusters in use. It has no number for the mouse bladder.
"""

import argparse
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from scipy.sparse import csr_matrix
from sklearn.cluster import KMeans
from sklearn.metrics import adjusted_rand_score, normalized_mutual_info_score
from sklearn.mixture import GaussianMixture

from _results import RESULTS, read_results, write_results

FILE = RESULTS / "clusters.json"
SHARED = ("--prior", "vamp-mixture", "--latent-dim", "10", "--no-evaluate", "--no-report")
FITS = {
    "digits": (
        *("--components", "30", "--epochs", "56", "--batch-size", "20", "--warmup", "0"),
        *("--set", "model.hidden=[128,128]"),
    ),
    "mnist": (
        *("--components", "100", "--binarize", "dynamic", "--epochs", "30", "--batch-size", "250", "--warmup", "0"),
        *("--set", "model.hidden=[500,500]"),
    ),
    "bladder": ("--likelihood", "negative-binomial", "--epochs", "112", "--warmup", "0"),
}
GENES = 2000


def priory(*arguments: str) -> None:
    """Run the command line in its own process, on one thread."""
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    subprocess.run([sys.executable, "-m", "priory", *arguments], check=True, env=environment)


def variable_genes(source: Path, out: Path) -> Path:
    """Write a file with the counts of the genes whose log(1 + 10^4 share) varies most."""
    with np.load(source) as file:
        counts = csr_matrix((file["data"], file["indices"], file["indptr"]), shape=tuple(file["matrix_shape"]))
        labels = file["label"]
    logs = np.log1p(1e4 * counts.toarray() / counts.sum(1))
    chosen = np.sort(np.argsort(-np.asarray(logs).var(0), kind="stable")[:GENES])
    part = counts[:, chosen]
    np.savez(
        out, data=part.data, indices=part.indices, indptr=part.indptr, matrix_shape=np.array(part.shape), label=labels
    )
    return out


def source_of(name: str, data_dir: Path, folder: Path) -> str:
    if name == "digits":
        return name
    if name == "mnist":
        return str(data_dir / "mnist.npz")
    return str(variable_genes(data_dir / "mouse_bladder.npz", folder / "bladder.npz"))


def embedded(name: str, data_dir: Path, folder: Path) -> dict[str, np.ndarray]:
    """Return codes, clusters and labels of all rows; train the model first if needed."""
    run, out = folder / name, folder / f"{name}-codes.npz"
    if not out.exists():
        if not (run / "model.safetensors").exists():
            begun = (run / "config.json").exists()
            options = ("--resume",) if begun else (source_of(name, data_dir, folder), *SHARED, *FITS[name])
            priory("fit", *options, "--out", str(run))
        priory("embed", str(run), "--out", str(out))
    with np.load(out) as file:
        return dict(file)


def measured(rows: dict[str, np.ndarray]) -> dict[str, dict[str, float]]:
    """Return NMI and ARI of each partition of the rows."""
    z = rows["z_mean"].astype(np.float64)
    label = next(rows[key] for key in ("label", "y", "digit") if key in rows)
    k = len(np.unique(label))
    partitions = {
        "VampPrior mixture": rows["cluster"],
        "k-means": KMeans(k, n_init=5, random_state=0).fit_predict(z),
        "Gaussian mixture": GaussianMixture(k, n_init=2, reg_covar=1e-4, random_state=0).fit_predict(z),
    }
    return {
        name: {
            "clusters": len(np.unique(cluster)),
            "nmi": float(normalized_mutual_info_score(label, cluster)),
            "ari": float(adjusted_rand_score(label, cluster)),
        }
        for name, cluster in partitions.items()
    }


def table(results: dict[str, Any]) -> str:
    """Return the results in Markdown."""
    lines = [
        "# Clusters of a VampPrior mixture",
        "",
        "`python benchmarks/clusters.py`: all rows. k-means and the Gaussian mixture get the number of labels.",
        "",
        "| data | partition | clusters | NMI | ARI |",
        "|---|---|---|---|---|",
    ]
    for name, partitions in results.items():
        for partition, numbers in partitions.items():
            lines.append(
                f"| {name} | {partition} | {numbers['clusters']} | {numbers['nmi']:.3f} | {numbers['ari']:.3f} |"
            )
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data-dir", type=Path, default=Path(os.environ.get("PRIORY_DATA", ".")))
    parser.add_argument("--runs", type=Path, help="folder of the runs")
    parser.add_argument("--only", nargs="+", choices=FITS, default=list(FITS))
    arguments = parser.parse_args()
    results = read_results(FILE, {})
    with tempfile.TemporaryDirectory() as temporary_folder:
        folder = arguments.runs or Path(temporary_folder)
        folder.mkdir(parents=True, exist_ok=True)
        for name in arguments.only:
            results[name] = measured(embedded(name, arguments.data_dir, folder))
    print(table(results))
    write_results(FILE, results, table(results))


if __name__ == "__main__":
    main()
