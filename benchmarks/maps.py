"""Compare the maps of grid priors with those of PCA, the classical GTM, a VAE with L = 2, t-SNE and UMAP.

    python benchmarks/maps.py [--data-dir DIR] [--runs DIR] [--data digits MNIST] [--maps PCA gtm-vamp-16] [--seeds 0 1]

It needs its own environment (see `benchmarks/requirements-maps.txt`). A finished map is made again only if its settings
have changed. An interrupted training continues in its run folder, under --runs. `_maps_variants.py` lists the models:
to try another one, add it there, and name it with --maps. `_maps_places.py` lists the ways to place rows: after a
change, `--judge-again` measures the finished runs again.

Grids have 20 x 20 nodes. By default there are five seeds, and one of (Fashion-)MNIST. The results on validation rows
choose the defaults of the package. The page explains the measures.

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

os.environ.setdefault("OMP_NUM_THREADS", "1")  # must be set before torch is imported

from _map_data import Split, load
from _map_judging import judged
from _maps_baselines import BASELINES
from _maps_report import page, report, without_seed
from _maps_runs import run_row, settings_of
from _maps_variants import OF_DATA, VARIANTS
from _results import RESULTS, read_results, write_results

Row = dict[str, Any]
QUICK = ("training.epochs=2",)


class Results:
    """The rows, written after each of them."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.rows: list[Row] = read_results(path, [])

    def add(self, row: Row) -> None:
        """Add a row, and remove the rows that it replaces; keep what other processes have written."""
        others = Results(self.path).rows
        self.rows = sorted([*(r for r in others if not _stale(r, row)), row], key=_order)
        print(json.dumps(row), flush=True)
        self.write()

    def has(self, row: Row) -> bool:
        """Return whether there is such a row with the same settings."""
        return any(all(r.get(name) == value for name, value in row.items()) for r in self.rows)

    def write(self) -> None:
        write_results(self.path, self.rows, page(report(self.rows), versions()))


def _stale(old: Row, new: Row) -> bool:
    """Return whether `row` replaces `old`: it is the same map with the same seed, or with other settings."""
    if (old["data"], old["map"]) != (new["data"], new["map"]):
        return False
    return old["seed"] == new["seed"] or without_seed(old.get("settings", "")) != without_seed(new.get("settings", ""))


def _order(row: Row) -> tuple[int, ...]:
    """Return the sort key of a row: its place in the lists of data sets and maps; other maps come last."""
    maps, data = [*BASELINES, *VARIANTS], list(OF_DATA)
    return (
        data.index(row["data"]),
        maps.index(row["map"]) if row["map"] in maps else len(maps),
        row["seed"],
    )


def versions() -> str:
    """Return the machine and the versions of the packages that determine the numbers."""
    return ", ".join([platform.machine(), *(f"{name} {version(name)}" for name in ("torch", "numpy", "scikit-learn"))])


def splits(data: str, data_dir: str | None) -> Split:
    """Return the rows that baselines are fitted to, and in which neighbors are searched."""
    split = load(data.partition(",")[0], data_dir)
    return split.standardized() if data == "oil flow" else split


def baseline_row(name: str, split: Split, seed: int) -> Row:
    """Make and measure a map without a VAE."""
    start = time.perf_counter()
    places = BASELINES[name].places(split.train[0], split.test[0], seed)
    seconds = time.perf_counter() - start
    return {"remark": BASELINES[name].remark, "places": {"map": judged(split, *places)}, "s": seconds}


def run_baselines(data: str, split: Split, arguments: argparse.Namespace, results: Results) -> None:
    """Make the requested maps without a VAE."""
    for name in (name for name in BASELINES if name in arguments.maps and ", " not in data):
        baseline = BASELINES[name]
        if baseline.largest is not None and len(split.train[0]) > baseline.largest:
            continue
        for seed in seeds(data, arguments.seeds) if baseline.stochastic else [0]:
            key = {"data": data, "map": name, "seed": seed}
            if arguments.again or not results.has(key):
                results.add(key | baseline_row(name, split, seed))


def run_variants(data: str, split: Split, arguments: argparse.Namespace, results: Results) -> None:
    """Train and measure the requested models: all of them with one seed before the next seed."""
    for seed in seeds(data, arguments.seeds):
        for name in (name for name in VARIANTS if name in arguments.maps):
            settings = settings_of(data, name, seed, QUICK if arguments.quick else ())
            key = {"data": data, "map": name, "seed": seed}
            if arguments.judge_again or not results.has(key | {"settings": " ".join(settings)}):
                row = run_row(data, arguments.data_dir, split, name, settings, arguments.runs)
                results.add(key | row)


def seeds(data: str, asked: list[int] | None) -> list[int]:
    """Return the seeds for a data set."""
    return asked if asked is not None else [0] if data.endswith("MNIST") else [0, 1, 2, 3, 4]


def parse(line: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data-dir", default=os.environ.get("PRIORY_DATA"))
    parser.add_argument("--runs", type=Path, default=Path("runs/maps"), help="the folder of the run folders")
    parser.add_argument("--data", nargs="+", choices=OF_DATA, default=list(OF_DATA))
    parser.add_argument("--maps", nargs="+", choices=[*BASELINES, *VARIANTS], default=[*BASELINES, *VARIANTS])
    parser.add_argument("--seeds", nargs="+", type=int)
    parser.add_argument("--again", action="store_true", help="make the named maps without a VAE again")
    parser.add_argument("--judge-again", action="store_true", help="measure finished runs again")
    parser.add_argument("--quick", action="store_true", help="two epochs, to test that it runs; needs another --out")
    parser.add_argument("--table", action="store_true", help="only write the tables of the results that exist")
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
