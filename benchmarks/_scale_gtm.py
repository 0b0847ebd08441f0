"""The GTM and its map for many rows: seconds and peak memory of the fit, of the measures of a map, and of a run.

    python benchmarks/_scale_gtm.py --out benchmarks/results/scale_gtm.json [--only fit --rows 1000000]

Each measurement runs in its own process with one thread. Seconds are processor seconds, because the machine was shared;
megabytes are the peak of the process's resident memory. `--only index_faiss` and `--only index_pynndescent` measure the
neighbors that an approximate index finds, and need `faiss-cpu` or `pynndescent`.
"""

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch

COLUMNS, SIDE = 50, 20
ROWS_AT_ONCE = 100_000  # rows of a shard
ITERATIONS = 3
QUERIES, NEIGHBORS = 1000, 10
CURVES = {
    "fit": (10**5, 10**6, 10**7),
    "quality": (10**4, 10**5, 10**6),
    "run": (10**5, 10**6),
    "evaluate": (10**4, 10**5),
    "index_faiss": (10**4, 10**5, 10**6),
    "index_pynndescent": (10**4, 10**5, 10**6),
}


def made_rows(number: int, seed: int) -> np.ndarray:
    """Draw rows around a curved sheet of two dimensions, with noise, in float32."""
    random = np.random.default_rng(seed)
    u = random.uniform(-1, 1, size=(number, 2))
    directions = np.random.default_rng(0).normal(size=(6, COLUMNS))
    bent = np.concatenate([u, u**2, np.sin(3 * u)], 1)
    return (bent @ directions + 0.5 * random.normal(size=(number, COLUMNS))).astype(np.float32)


def shards(number: int) -> Iterator[np.ndarray]:
    for shard, start in enumerate(range(0, number, ROWS_AT_ONCE)):
        yield made_rows(min(ROWS_AT_ONCE, number - start), shard)


def write_parquet(number: int, folder: Path) -> None:
    import pyarrow
    from pyarrow import parquet

    for shard, x in enumerate(shards(number)):
        table = pyarrow.table({f"x{i}": x[:, i] for i in range(COLUMNS)})
        parquet.write_table(table, folder / f"part-{shard:04d}.parquet", compression="none")


def fit(number: int) -> dict[str, Any]:
    """Fit by EM over Parquet files, read by Dask in one thread; the last passes over the rows are the iterations."""
    import dask
    import dask.dataframe as dd
    from dask.callbacks import Callback

    from priory.gtm import GTM

    ticks = [0.0]
    with tempfile.TemporaryDirectory() as folder:
        write_parquet(number, Path(folder))
        rows = dd.read_parquet(f"{folder}/*.parquet")
        ticks[0] = time.process_time()
        gtm = GTM(SIDE, max_iter=ITERATIONS, tol=0, tether=0.0)
        with (
            dask.config.set(scheduler="threads", num_workers=1),
            Callback(finish=lambda *_: ticks.append(time.process_time())),
        ):
            gtm.fit(rows)
    return {
        "seconds": ticks[-1] - ticks[0],
        "passes": len(ticks) - 1,
        "seconds_of_an_iteration": float(np.median(np.diff(ticks)[-ITERATIONS:])),
    }


def quality(number: int) -> dict[str, Any]:
    """Measure trustworthiness, PCA's trustworthiness and continuity of a linear map, among all rows."""
    from priory.maps.quality import neighborhoods

    x, places = _rows_and_places(number)
    began = time.process_time()
    metrics = neighborhoods(places, lambda: x.split(1024), COLUMNS)
    sampled = int(metrics.pop("sampled_rows").value) if "sampled_rows" in metrics else number
    measures = {name: list(each) for name, each in metrics.items()}
    return {"seconds": time.process_time() - began, "queries": sampled} | measures


def run(number: int) -> dict[str, Any]:
    """Run `gtm fit` for three iterations, with pictures and page; then `map` of all rows, and `report`."""
    import pandas as pd

    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        x = np.concatenate(list(shards(number)))
        frame = pd.DataFrame(x, columns=[f"x{i}" for i in range(COLUMNS)])
        frame.assign(kind=np.where(x[:, 0] > 0, "a", "b")).to_parquet(folder / "rows.parquet")
        options = ["--labels", "kind", "--points-per-side", str(SIDE), "--max-iter", "3", "--tether", "0"]
        fitting = _command("gtm", "fit", folder / "rows.parquet", "--out", folder / "run", *options)
        mapping = _command("map", folder / "run", "--out", folder / "map.csv")
        paging = _command("report", folder / "run")
        size = (folder / "run" / "report.html").stat().st_size / 1e6
    return {"fit": fitting, "map": mapping, "report": paging, "megabytes_of_the_page": size}


def _command(*arguments: object) -> dict[str, float]:
    """Return processor seconds and peak memory of a priory command."""
    line = [sys.executable, "-m", "priory", *map(str, arguments)]
    process = subprocess.Popen(line, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    assert status == 0
    return {"seconds": usage.ru_utime + usage.ru_stime, "megabytes": usage.ru_maxrss / 1024}


def evaluate(number: int) -> dict[str, Any]:
    """Evaluate an untrained VAE with 50 components on binary rows, with 16 importance samples per row."""
    import warnings

    from priory import VAE, BernoulliDecoder, MixtureOfGaussians, NormalEncoder, mlp
    from priory import evaluate as evaluate_model

    torch.manual_seed(0)
    warnings.simplefilter("ignore")
    encoder, decoder = NormalEncoder(mlp(COLUMNS, [64], 16)), BernoulliDecoder(mlp(8, [64], COLUMNS))
    x = torch.rand(number, COLUMNS).round()
    began = time.process_time()
    evaluate_model(VAE(encoder, decoder, MixtureOfGaussians(8, 50)), x, num_samples=16)
    return {"seconds": time.process_time() - began}


def index_faiss(number: int) -> dict[str, Any]:
    import faiss

    faiss.omp_set_num_threads(1)

    def build(x: np.ndarray) -> Callable[[np.ndarray], np.ndarray]:
        index = faiss.IndexHNSWFlat(COLUMNS, 32)
        index.hnsw.efConstruction = index.hnsw.efSearch = 100
        index.add(x)
        return lambda queries: index.search(queries, NEIGHBORS + 1)[1]

    return _indexed(number, build)


def index_pynndescent(number: int) -> dict[str, Any]:
    import pynndescent

    def build(x: np.ndarray) -> Callable[[np.ndarray], np.ndarray]:
        index = pynndescent.NNDescent(x, n_neighbors=30, n_jobs=1, random_state=0)
        index.prepare()
        return lambda queries: index.query(queries, NEIGHBORS + 1)[0]

    return _indexed(number, build)


def _indexed(number: int, build: Callable[[np.ndarray], Callable[[np.ndarray], np.ndarray]]) -> dict[str, Any]:
    """Measure an index: its neighbors of the queries, and their error in continuity and in the accuracy of a class."""
    from sklearn.neighbors import KDTree

    from priory.evaluation.neighbors import _ranks_on_map, _scanned, rows_at

    x, places = _rows_and_places(number)
    kind = (places[:, 0].argsort().argsort() * 10 // number).numpy()
    queries = torch.from_numpy(np.sort(np.random.default_rng(0).choice(number, QUERIES, replace=False)))
    at_queries = rows_at(lambda: x.split(1024), queries)
    before, began = peak(), time.process_time()
    neighbors = torch.from_numpy(build(x.numpy())(x[queries].numpy()).astype(np.int64))
    seconds, megabytes = time.process_time() - began, peak() - before
    others = torch.stack([row[row != own][:NEIGHBORS] for row, own in zip(neighbors, queries, strict=True)])
    no_limit = torch.zeros(QUERIES, 1, dtype=torch.float64)
    exact = _scanned((part.double() for part in x.split(1024)), at_queries, no_limit, queries, NEIGHBORS)[1]
    tree = KDTree(places.numpy())
    result: dict[str, Any] = {"seconds": seconds, "megabytes_of_the_index": megabytes}
    for name, rows in (("exact", exact), ("index", others)):
        excess = (_ranks_on_map(tree, places, queries, rows) - NEIGHBORS).clamp(min=0).sum(1).double()
        votes = np.array([np.bincount(kind[row], minlength=10).argmax() for row in rows.numpy()])
        result[f"continuity_{name}"] = float(1 - 2 / (NEIGHBORS * (2 * number - 31)) * excess.mean())
        result[f"accuracy_{name}"] = float((votes == kind[queries.numpy()]).mean())
    shared = [len(set(a) & set(b)) / NEIGHBORS for a, b in zip(exact.tolist(), others.tolist(), strict=True)]
    return result | {"recall": float(np.mean(shared))}


def _rows_and_places(number: int) -> tuple[torch.Tensor, torch.Tensor]:
    x = torch.from_numpy(np.concatenate(list(shards(number))))
    plane = torch.linalg.svd(x[:5000] - x[:5000].mean(0), full_matrices=False).Vh[:2]
    return x, (x @ plane.mT).double()


def peak() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def alone(name: str, number: int) -> dict[str, Any]:
    """Run one of these functions in its own process, and return its result."""
    line = [sys.executable, __file__, "--only", name, "--rows", str(number)]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "NUMBA_NUM_THREADS": "1"}
    result = subprocess.run(line, check=True, stdout=subprocess.PIPE, text=True, env=environment)
    print(result.stdout.splitlines()[-1], file=sys.stderr)
    return dict(json.loads(result.stdout.splitlines()[-1]))


def measure(names: tuple[str, ...] = ("fit", "quality", "run", "evaluate")) -> dict[str, Any]:
    """Return the curves of these functions: the result of each at each number of rows."""
    curves = {name: [alone(name, number) for number in CURVES[name]] for name in names}
    return {"columns": COLUMNS, "nodes": SIDE**2, **curves}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--only", choices=CURVES)
    parser.add_argument("--rows", type=int, default=10**5)
    arguments = parser.parse_args()
    if arguments.only:
        result = globals()[arguments.only](arguments.rows)
        print(json.dumps({"name": arguments.only, "rows": arguments.rows, **result, "megabytes": peak()}))
    else:
        arguments.out.write_text(json.dumps(measure(), indent=2) + "\n")


if __name__ == "__main__":
    main()
