"""The maps of grid priors beside those of PCA, the classical GTM, a VAE with L = 2, t-SNE and UMAP.

    python benchmarks/maps.py [--data-dir DIR] [--runs DIR] [--data digits MNIST] [--maps PCA gtm-vamp-16] [--seeds 0 1]

In an environment of its own (`benchmarks/requirements-maps.txt` says how). A map that is there is not made again unless
its settings have changed; a training that was interrupted goes on in its run folder, under --runs. The models are the
lines of `benchmarks/_maps_variants.py`: add one, and name it by --maps to run it alone. Ways to place rows are in
`_maps_places.py`: after a new one, `--judge-again` reads the finished runs anew.

Protocol: coordinates of all rows; 10-NN fitted to the training rows' coordinates and scored on the test rows;
trustworthiness and continuity with 10 neighbors on the test rows, against the pixels (oil flow: standardized columns;
cells: 50 principal components). NLL by importance sampling: 512 samples on all test rows, of (Fashion-)MNIST 128 on
every tenth. Grids have 20 x 20 nodes. Models have five seeds, baselines of (Fashion-)MNIST one. The lines of
validation rows choose what becomes the default.

Results go to `benchmarks/results/maps.json` after each row, and to `.md`.
"""

import argparse
import json
import os
import platform
import time
from importlib.metadata import version
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before torch reads it

from _map_data import Split, load
from _map_judging import judged
from _maps_baselines import BASELINES
from _maps_report import page, report, without_seed
from _maps_runs import run_row, settings_of
from _maps_variants import OF_DATA, VARIANTS
from _results import RESULTS, write_results

Row = dict[str, Any]
QUICK = ("training.epochs=2",)


class Results:
    """The rows, written after each of them."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.rows: list[Row] = json.loads(path.read_text()) if path.exists() else []

    def add(self, row: Row) -> None:
        """In place of those that it makes stale, among what other processes have written too."""
        others = Results(self.path).rows
        self.rows = sorted([*(r for r in others if not _stale(r, row)), row], key=_order)
        print(json.dumps(row), flush=True)
        self.write()

    def has(self, row: Row) -> bool:
        """Whether it is there, made by the same settings."""
        return any(all(r.get(name) == value for name, value in row.items()) for r in self.rows)

    def write(self) -> None:
        write_results(self.path, self.rows, page(report(self.rows), versions()))


def _stale(old: Row, new: Row) -> bool:
    """Whether it is the same row, or the same map by other settings, which must not be averaged with these."""
    if (old["data"], old["map"]) != (new["data"], new["map"]):
        return False
    return old["seed"] == new["seed"] or without_seed(old.get("settings", "")) != without_seed(new.get("settings", ""))


def _order(row: Row) -> tuple[int, ...]:
    """As the tables of this file and its neighbors have them; what they no longer name comes last."""
    maps, data = [*BASELINES, *VARIANTS], list(OF_DATA)
    return (
        data.index(row["data"]),
        maps.index(row["map"]) if row["map"] in maps else len(maps),
        row["seed"],
    )


def versions() -> str:
    """Of what decides the numbers."""
    return ", ".join([platform.machine(), *(f"{name} {version(name)}" for name in ("torch", "numpy", "scikit-learn"))])


def splits(data: str, data_dir: str | None) -> Split:
    """What baselines are fitted to and all maps are judged by."""
    split = load(data.partition(",")[0], data_dir)
    return split.standardized() if data == "oil flow" else split


def baseline_row(name: str, split: Split, seed: int) -> Row:
    """One map without a VAE."""
    start = time.perf_counter()
    places = BASELINES[name].places(split.train[0], split.test[0], seed)
    seconds = time.perf_counter() - start
    return {"remark": BASELINES[name].remark, "places": {"map": judged(split, *places)}, "s": seconds}


def run_baselines(data: str, split: Split, arguments: argparse.Namespace, results: Results) -> None:
    """Those that were asked for, on the data as they are."""
    for name in (name for name in BASELINES if name in arguments.maps and ", " not in data):
        baseline = BASELINES[name]
        if baseline.largest is not None and len(split.train[0]) > baseline.largest:
            continue
        for seed in seeds(data, arguments.seeds) if baseline.stochastic else [0]:
            key = {"data": data, "map": name, "seed": seed}
            if arguments.again or not results.has(key):
                results.add(key | baseline_row(name, split, seed))


def run_variants(data: str, split: Split, arguments: argparse.Namespace, results: Results) -> None:
    """Those that were asked for; a seed of all of them before the next, so that half a night is half a table."""
    for seed in seeds(data, arguments.seeds):
        for name in (name for name in VARIANTS if name in arguments.maps):
            settings = settings_of(data, name, seed, QUICK if arguments.quick else ())
            key = {"data": data, "map": name, "seed": seed}
            if arguments.judge_again or not results.has(key | {"settings": " ".join(settings)}):
                row = run_row(data, arguments.data_dir, split, name, settings, arguments.runs)
                results.add(key | row)


def seeds(data: str, asked: list[int] | None) -> list[int]:
    """Of a data set."""
    return asked if asked is not None else [0] if data.endswith("MNIST") else [0, 1, 2, 3, 4]


def parse(line: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data-dir", default=os.environ.get("PRIORY_DATA"))
    parser.add_argument("--runs", type=Path, default=Path("runs/maps"), help="where the run folders go")
    parser.add_argument("--data", nargs="+", choices=OF_DATA, default=list(OF_DATA))
    parser.add_argument("--maps", nargs="+", choices=[*BASELINES, *VARIANTS], default=[*BASELINES, *VARIANTS])
    parser.add_argument("--seeds", nargs="+", type=int)
    parser.add_argument("--again", action="store_true", help="make the named maps without a VAE anew")
    parser.add_argument("--judge-again", action="store_true", help="judge runs that are there anew")
    parser.add_argument("--quick", action="store_true", help="two epochs, to see that it runs; writes no results")
    parser.add_argument("--table", action="store_true", help="only the tables, from what is there")
    parser.add_argument("--out", type=Path, default=RESULTS / "maps.json")
    return parser.parse_args(line)


def main(line: list[str] | None = None) -> None:
    arguments = parse(line)
    if arguments.quick and arguments.out == RESULTS / "maps.json":
        raise SystemExit("--quick trains for two epochs: name another file than the results' by --out")
    results = Results(arguments.out)
    for data in [] if arguments.table else arguments.data:
        split = splits(data, arguments.data_dir)
        run_baselines(data, split, arguments, results)
        run_variants(data, split, arguments, results)
    results.write()
    print(report(results.rows))


if __name__ == "__main__":
    main()
