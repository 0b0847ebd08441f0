"""The quick tests on the oldest versions that `pyproject.toml` allows, on a middle set and on the newest versions.

    python benchmarks/matrix.py [oldest] [middle] [newest] [--python 3.13=PATH ...]

Each cell is a new virtual environment, made without `constraints.txt` and removed after its tests. torch installs its
CUDA libraries if the registry has no other build: 5 to 7 GB per cell. Cells that are not run keep their rows in the
results. Deprecations are ignored in the two older cells: their packages run with newer versions of their dependencies.
"""

import argparse
import json
import re
import subprocess
import tempfile
import time
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "benchmarks" / "results"
COUNTS = re.compile(r"(\d+) (passed|failed|skipped|errors?)")


class Cell(NamedTuple):
    """Versions of Python and of packages to install; None for the lower bounds of `pyproject.toml`."""

    python: str
    versions: dict[str, str] | None


CELLS = {
    "oldest": Cell("3.11", None),
    "middle": Cell(
        "3.12",
        {"torch": "2.9.1", "numpy": "2.2.6", "pandas": "2.3.3", "scikit-learn": "1.7.2", "scipy": "1.15.3"},
    ),
    "newest": Cell("3.13", {}),
}


class Row(NamedTuple):
    """The results of a cell's tests."""

    cell: str
    python: str
    versions: dict[str, str]
    counts: dict[str, int]
    failures: list[str]
    seconds: float


def output(*command: str | Path) -> str:
    return subprocess.run([str(part) for part in command], capture_output=True, text=True, check=True).stdout


def requirements() -> Iterator[tuple[str, str]]:
    """Yield each package in pyproject.toml, with its lower bound."""
    tree = tomllib.loads((ROOT / "pyproject.toml").read_text())
    extras = tree["project"]["optional-dependencies"]
    listed = [text for name in extras if name != "benchmarks" for text in extras[name]]
    for text in [*tree["project"]["dependencies"], *tree["build-system"]["requires"], *listed]:
        if not text.startswith("priory"):
            package, bound = text.split(">=")
            yield package, bound


def run_cell(name: str, interpreter: str) -> Row:
    """Install the versions of a cell and run the quick tests."""
    began, cell = time.monotonic(), CELLS[name]
    bounds = dict(requirements())
    pinned = bounds if cell.versions is None else cell.versions
    requested = [f"{package}=={pinned[package]}" if package in pinned else package for package in bounds]
    with tempfile.TemporaryDirectory() as folder:
        output(interpreter, "-m", "venv", folder)
        python = Path(folder) / "bin" / "python"
        pip = (python, "-m", "pip")
        output(*pip, "install", "--quiet", "--upgrade", "pip")
        output(*pip, "install", "--quiet", *requested, "editables")
        output(*pip, "install", "--quiet", "--no-deps", "--no-build-isolation", "--editable", ROOT)
        installed = {p["name"].lower(): p["version"] for p in json.loads(output(*pip, "list", "--format=json"))}
        lenient = () if name == "newest" else ("-W", "ignore::DeprecationWarning")
        command = [f"{folder}/bin/pytest", "-q", "-n", "2", "-p", "no:cacheprovider", *lenient]
        report = subprocess.run(command, capture_output=True, text=True, check=False, cwd=ROOT).stdout
        version = output(python, "-c", "import platform; print(platform.python_version())").strip()
    counts = {kind: int(number) for number, kind in COUNTS.findall(report.strip().splitlines()[-1])}
    failures = [line.split(" - ")[0] for line in report.splitlines() if line.startswith(("FAILED", "ERROR"))]
    shown = {package: installed[package.lower()] for package in sorted(bounds)}
    return Row(name, version, shown, counts, failures, time.monotonic() - began)


def report(rows: list[Row]) -> str:
    """Return the matrix in Markdown."""
    lines = ["# Versions that the quick tests ran on", "", "Made by `benchmarks/matrix.py`.", ""]
    heads = ("", "Python", "torch", "numpy", "pandas", "scikit-learn", "passed", "failed", "skipped", "minutes")
    lines += [f"| {' | '.join(heads)} |", f"{len(heads) * '|---'}|"]
    for row in rows:
        versions = [row.versions[package] for package in ("torch", "numpy", "pandas", "scikit-learn")]
        numbers = [str(row.counts.get(kind, 0)) for kind in ("passed", "failed", "skipped")]
        lines.append(f"| {' | '.join([row.cell, row.python, *versions, *numbers, f'{row.seconds / 60:.0f}'])} |")
    for row in rows:
        named = ", ".join(f"{package} {version}" for package, version in row.versions.items())
        lines += ["", f"{row.cell}: Python {row.python}, {named}.", *(f"- {failure}" for failure in row.failures)]
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("cells", nargs="*", help=f"{', '.join(CELLS)}; all by default")
    parser.add_argument("--python", action="append", default=[], metavar="VERSION=PATH", help="path of an interpreter")
    parser.add_argument("--out", type=Path, default=RESULTS, help="folder of matrix.md and matrix.json")
    options = parser.parse_args()
    interpreters = dict(text.split("=", 1) for text in options.python)
    stored = options.out / "matrix.json"
    rows = {row["cell"]: Row(**row) for row in (json.loads(stored.read_text()) if stored.is_file() else [])}
    for name in options.cells or CELLS:
        version = CELLS[name].python
        rows[name] = run_cell(name, interpreters.get(version, f"python{version}"))
        print(name, rows[name].counts, rows[name].failures, flush=True)
        table = [rows[cell] for cell in CELLS if cell in rows]
        stored.write_text(json.dumps([row._asdict() for row in table], indent=1) + "\n")
        (options.out / "matrix.md").write_text(report(table))


if __name__ == "__main__":
    main()
