"""The classical GTM beside the published packages, the floor of the hardware, and principal components.

    python benchmarks/gtm.py [--data-dir DIR] [--parts speed floor growth memory maps sweep] [--repeats 3]

Run it in a separate environment (see `benchmarks/requirements-gtm.txt`); packages that are not installed are skipped.

- speed: N = 8000 rows of MNIST (without the folder: rows near a curved sheet), D = 784, 16 x 16 nodes, 8 x 8 basis
  functions one spacing wide, 20 iterations of EM; priory and each package in turn, medians, on one thread and on two.
  Fits are compared by their true likelihood, not by the values that the packages report.
- floor: an iteration beside its two matrix products and its exponentials, at the same sizes.
- growth: seconds per iteration as N, D or K grows; the difference of two fits excludes the initialization.
- memory: the peak of a process that fits a million rows of a memory-mapped file.
- maps: 20 x 20 nodes; digits, oil flow and MNIST, fitted to training rows and compared on test rows.
- sweep: settings, on validation rows; not a default part, because it takes hours. `gtm_sweep.csv` has a line per fit.

Results are written to `benchmarks/results/gtm.json` after each row, and to `.md`. Existing rows of speed and maps are
measured again only with `--again`.
"""

import argparse
import json
import os
from importlib.metadata import version
from pathlib import Path
from typing import Any

from _gtm_maps import DATA, map_row, maps_of
from _gtm_packages import PACKAGES
from _gtm_report import report, write_report
from _gtm_speed import GROWTH, floor, growth, memory, speed
from _gtm_sweep import SUBSETS, sweep
from _map_data import load
from priory._support.files import replacing

Row = dict[str, Any]
RESULTS = Path(__file__).parent / "results" / "gtm.json"
PARTS = ["speed", "floor", "growth", "memory", "maps", "sweep"]


def versions() -> str:
    """Return the versions of the packages that determine the numbers."""
    return ", ".join(f"{name} {version(name)}" for name in ("torch", "numpy", "scipy", "scikit-learn"))


class Results:
    """The rows of each part, written after each of them."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.parts: dict[str, list[Row]] = json.loads(path.read_text()) if path.exists() else {}

    def add(self, part: str, row: Row, key: tuple[str, ...]) -> None:
        """Add a row, or replace the row with the same key."""
        rows = [r for r in self.parts.get(part, []) if any(r[name] != row[name] for name in key)]
        self.parts[part] = [*rows, row]
        print(json.dumps({part: row}), flush=True)
        self.write()

    def has(self, part: str, **key: Any) -> bool:
        return any(all(row[name] == value for name, value in key.items()) for row in self.parts.get(part, []))

    def write(self) -> None:
        with replacing(self.path) as temporary:
            temporary.write_text(json.dumps(self.parts, indent=1) + "\n")
        write_report(self.path.with_suffix(".md"), self.parts, versions())


def run_speed(results: Results, arguments: argparse.Namespace) -> None:
    """Measure the speed, on one thread first."""
    size = {"num_rows": 500} if arguments.quick else {}
    for number in arguments.threads:
        for package in (p for p in PACKAGES if p.name in arguments.packages):
            if not package.installed:
                print(f"{package.name}: not installed, skipped")
            elif arguments.again or not results.has(
                "speed", package=package.label, remark=package.remark, threads=number
            ):
                row = speed(package, arguments.data_dir, number, arguments.repeats, **size)
                results.add("speed", row, ("package", "threads"))


def run_maps(results: Results, arguments: argparse.Namespace) -> None:
    """Fit and measure the maps; the small data sets come first."""
    for data in arguments.data:
        split = load(data, arguments.data_dir)
        for who in maps_of(data):
            if arguments.again or not results.has("maps", data=data, map=who):
                results.add("maps", map_row(data, who, split), ("data", "map"))


def run(part: str, results: Results, arguments: argparse.Namespace) -> None:
    """Run one part."""
    if part == "speed":
        run_speed(results, arguments)
    elif part == "floor":
        for number in arguments.threads:
            size = {"num_rows": 500} if arguments.quick else {}
            results.add("floor", floor(arguments.data_dir, number, 2 * arguments.repeats + 1, **size), ("threads",))
    elif part == "growth":
        for row in (row for which in GROWTH for row in growth(which, arguments.quick)):
            results.add("growth", row, ("varies", "N", "D", "K"))
    elif part == "memory":
        results.add("memory", memory(10_000) if arguments.quick else memory(), ("N", "D", "K"))
    elif part == "maps":
        run_maps(results, arguments)
    else:
        path = results.path.with_name("gtm_sweep.csv")
        results.parts["sweep"] = sweep(path, arguments.data, arguments.data_dir, 1 if arguments.quick else SUBSETS)
        results.write()


def parse(line: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data-dir", default=os.environ.get("PRIORY_DATA"))
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=PARTS[:-1])
    parser.add_argument("--data", nargs="+", choices=DATA, default=list(DATA), help="data sets of maps and sweep")
    parser.add_argument("--threads", nargs="+", type=int, default=[1, 2], help="numbers of threads for speed and floor")
    names = [package.name for package in PACKAGES]
    parser.add_argument("--packages", nargs="+", choices=names, default=names, help="packages of speed")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--again", action="store_true", help="measure existing rows again")
    parser.add_argument("--quick", action="store_true", help="small sizes, as a test of the script; needs --out")
    parser.add_argument("--out", type=Path, default=RESULTS)
    return parser.parse_args(line)


def main(line: list[str] | None = None) -> None:
    arguments = parse(line)
    if arguments.quick and arguments.out == RESULTS:
        raise SystemExit("--quick measures small sizes: choose another file than the results with --out")
    results = Results(arguments.out)
    for part in arguments.parts:
        run(part, results, arguments)
    print(report(results.parts))


if __name__ == "__main__":
    main()
