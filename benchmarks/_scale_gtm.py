"""The GTM and its map at size: seconds and peak memory of a fit, of the measures of a map, of pictures and page.

    python benchmarks/_scale_gtm.py --out benchmarks/results/scale_gtm.json

Each measurement is a process of its own, whose peak of resident memory is stated, with one thread.
"""

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

COLUMNS, SIDE = 50, 20
ROWS_OF_A_SHARD = 100_000
ITERATIONS = 3
SIZES = (10**5, 10**6, 10**7)


def made_rows(number: int, seed: int) -> np.ndarray:
    """Rows about a curved sheet of two dimensions, with noise, in float32."""
    random = np.random.default_rng(seed)
    u = random.uniform(-1, 1, size=(number, 2))
    directions = np.random.default_rng(0).normal(size=(6, COLUMNS))
    bent = np.concatenate([u, u**2, np.sin(3 * u)], 1)
    return (bent @ directions + 0.5 * random.normal(size=(number, COLUMNS))).astype(np.float32)


def write_shards(number: int, folder: Path) -> None:
    """Parquet files of these rows."""
    import pyarrow
    from pyarrow import parquet

    for shard, start in enumerate(range(0, number, ROWS_OF_A_SHARD)):
        x = made_rows(min(ROWS_OF_A_SHARD, number - start), shard)
        table = pyarrow.table({f"x{i}": x[:, i] for i in range(COLUMNS)})
        parquet.write_table(table, folder / f"part-{shard:04d}.parquet", compression="none")


def fit(number: int) -> dict[str, Any]:
    """The seconds of each pass of EM over Parquet files, read by Dask in one thread; the last passes are iterations."""
    import dask
    import dask.dataframe as dd
    from dask.callbacks import Callback

    from priory.gtm import GTM

    ticks: list[float] = []
    with tempfile.TemporaryDirectory() as folder:
        write_shards(number, Path(folder))
        rows = dd.read_parquet(f"{folder}/*.parquet")
        gtm = GTM(SIDE, max_iter=ITERATIONS, tol=0, tether=0.0)
        before = peak_megabytes()
        began = time.perf_counter()
        with dask.config.set(scheduler="threads", num_workers=1), Callback(finish=lambda *_: ticks.append(time.perf_counter())):
            gtm.fit(rows)
    passes = np.diff([began, *ticks])
    return {
        "rows": number,
        "seconds": ticks[-1] - began,
        "passes": len(passes),
        "seconds_of_an_iteration": float(np.median(passes[-ITERATIONS:])),
        "megabytes": peak_megabytes(),
        "megabytes_before": before,
    }


def peak_megabytes() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def alone(name: str, number: int) -> dict[str, Any]:
    """What one of these functions returns in a process of its own."""
    line = [sys.executable, __file__, "--only", name, "--rows", str(number)]
    result = subprocess.run(line, check=True, stdout=subprocess.PIPE, text=True)
    print(result.stdout.splitlines()[-1], file=sys.stderr)
    return json.loads(result.stdout.splitlines()[-1])


def measure(sizes: tuple[int, ...] = SIZES) -> dict[str, Any]:
    """The curves, as `--out` writes them."""
    return {"columns": COLUMNS, "nodes": SIDE**2, "fit": [alone("fit", number) for number in sizes]}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--only")
    parser.add_argument("--rows", type=int, default=10**5)
    asked = parser.parse_args()
    if asked.only:
        print(json.dumps(globals()[asked.only](asked.rows)))
    else:
        asked.out.write_text(json.dumps(measure(), indent=2) + "\n")


if __name__ == "__main__":
    main()
