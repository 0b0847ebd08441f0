"""The quick tests on every Python and every torch that can be had without CUDA packages, with old and new dependencies.

    python benchmarks/matrix.py --python python3.11 --python python3.12 --python python3.13

For each Python, the registry is asked for torch from the oldest minor version on. One that needs CUDA packages on this
platform is listed with that reason and not installed. One that does not is installed, first and pinned, into a new
environment, and the package after it, once with the oldest version of each dependency that `pyproject.toml` allows and
once with the newest. Where old versions meet newer ones of what they use in turn, deprecations are not counted.
"""

import argparse
import json
import re
import subprocess
import tempfile
import time
import tomllib
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "benchmarks" / "results"
CUDA = re.compile(r"nvidia[-_]|cuda[-_]|triton")
COUNTS = re.compile(r"(\d+) (passed|failed|skipped|errors?)")
OLDEST_TORCH = (2, 6)  # of which releases the registry is asked


class Row(NamedTuple):
    """A cell of the matrix: what was run, or why it was not."""

    python: str
    torch: str
    dependencies: str
    counts: dict[str, int]
    failures: list[str]
    seconds: float
    versions: dict[str, str]
    reason: str = ""


def output(*command: str | Path) -> str:
    return subprocess.run([str(part) for part in command], capture_output=True, text=True, check=True).stdout


def environment(interpreter: str, folder: Path) -> Path:
    """A new virtual environment with a new pip; its Python."""
    output(interpreter, "-m", "venv", folder)
    python = folder / "bin" / "python"
    output(python, "-m", "pip", "install", "--quiet", "--upgrade", "pip")
    return python


def torch_releases(python: Path) -> list[str]:
    """The newest release of each minor version, the newest first."""
    listed = json.loads(output(python, "-m", "pip", "index", "versions", "torch", "--json"))["versions"]
    newest: dict[tuple[int, int], str] = {}
    for version in listed:
        major, minor = map(int, version.split(".")[:2])
        if (major, minor) >= OLDEST_TORCH:
            newest.setdefault((major, minor), version)
    return list(newest.values())


def why_not(python: Path, torch: str) -> str:
    """What torch needs that is not wanted; nothing where it can be installed. Only its metadata are fetched."""
    options = ("--dry-run", "--ignore-installed", "--no-deps", "--only-binary=:all:", "--use-feature=fast-deps")
    try:
        said = output(python, "-m", "pip", "install", *options, "--quiet", "--report=-", f"torch=={torch}")
    except subprocess.CalledProcessError as error:
        said = error.stderr.strip().splitlines()[-1]
        return "pip of this machine is told not to install it" if "ResolutionImpossible" in said else said
    required = json.loads(said)["install"][0]["metadata"].get("requires_dist", [])
    cuda = sorted({re.split(r"[\[ (<>=!~;]", text)[0] for text in required if CUDA.match(text)})
    return f"its build for this platform requires {len(cuda)} CUDA packages: {', '.join(cuda[:2])}, ..." if cuda else ""


def requirements(oldest: bool) -> Iterable[str]:
    """Everything that pyproject.toml names, at its lower bounds or as it stands."""
    tree = tomllib.loads((ROOT / "pyproject.toml").read_text())
    extras = tree["project"]["optional-dependencies"]
    tested = (text for name in extras if name != "benchmarks" for text in extras[name])
    for text in [*tree["project"]["dependencies"], *tree["build-system"]["requires"], *tested]:
        if not text.startswith(("torch>", "priory")):
            yield text.replace(">=", "==") if oldest else text


def tested(interpreter: str, name: str, torch: str, dependencies: str) -> Row:
    """Install and run the quick tests."""
    began, oldest = time.monotonic(), dependencies == "oldest"
    with tempfile.TemporaryDirectory() as folder:
        python = environment(interpreter, Path(folder) / "environment")
        pip = (python, "-m", "pip")
        output(*pip, "install", "--quiet", f"torch=={torch}")
        output(*pip, "install", "--quiet", f"torch=={torch}", *requirements(oldest), "editables")
        output(*pip, "install", "--quiet", "--no-deps", "--no-build-isolation", "--editable", ROOT)
        versions = {p["name"].lower(): p["version"] for p in json.loads(output(*pip, "list", "--format=json"))}
        unwanted = [package for package in versions if CUDA.match(package)]
        if unwanted:
            raise RuntimeError(f"torch {torch}: expected no CUDA packages, got {', '.join(unwanted)}")
        lenient = ("-W", "ignore::DeprecationWarning") if oldest else ()
        command = [str(python), "-m", "pytest", "-q", "-n", "2", "-p", "no:cacheprovider", *lenient]
        said = subprocess.run(command, capture_output=True, text=True, check=False, cwd=ROOT).stdout
    counts = {kind: int(number) for number, kind in COUNTS.findall(said.strip().splitlines()[-1])}
    failures = [line.split(" - ")[0] for line in said.splitlines() if line.startswith(("FAILED", "ERROR"))]
    wanted = {re.split(r"[><=\[]", text)[0] for text in requirements(oldest)} | {"torch"}
    shown = {package: versions[package] for package in sorted(wanted)}
    return Row(name, versions["torch"], dependencies, counts, failures, time.monotonic() - began, shown)


def rows(interpreter: str) -> Iterable[Row]:
    """Every torch for one Python."""
    try:
        name = output(interpreter, "-c", "import platform; print(platform.python_version())").strip()
    except (OSError, subprocess.CalledProcessError):
        yield Row(interpreter, "", "", {}, [], 0.0, {}, "this Python is not on this machine")
        return
    with tempfile.TemporaryDirectory() as folder:
        asking = environment(interpreter, Path(folder) / "environment")
        reasons = {torch: why_not(asking, torch) for torch in torch_releases(asking)}
    for torch, reason in reasons.items():
        if reason:
            yield Row(name, torch, "", {}, [], 0.0, {}, reason)
            continue
        for dependencies in ("oldest", "newest"):
            yield tested(interpreter, name, torch, dependencies)


def report(table: list[Row]) -> str:
    """The matrix as Markdown."""
    run, not_run = [row for row in table if not row.reason], [row for row in table if row.reason]
    lines = ["# Versions that the quick tests ran on", "", "Made by `benchmarks/matrix.py`.", ""]
    heads = ("Python", "torch", "dependencies", "passed", "failed", "skipped", "minutes")
    lines += [f"| {' | '.join(heads)} |", f"{len(heads) * '|---'}|"]
    for row in run:
        numbers = [row.counts.get(kind, 0) for kind in ("passed", "failed", "skipped")]
        cells = [row.python, row.torch, row.dependencies, *map(str, numbers), f"{row.seconds / 60:.0f}"]
        lines.append(f"| {' | '.join(cells)} |")
    for row in run:
        named = ", ".join(f"{package} {version}" for package, version in row.versions.items())
        lines += ["", f"Python {row.python}, torch {row.torch}, {row.dependencies}: {named}."]
        lines += [f"- {failure}" for failure in row.failures]
    lines += ["", "## Not run", "", "| Python | torch | why not |", "|---|---|---|"]
    lines += [f"| {row.python} | {row.torch} | {row.reason} |" for row in not_run]
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--python", action="append", help="an interpreter; repeatable")
    parser.add_argument("--out", type=Path, default=RESULTS, help="folder of matrix.md and matrix.json")
    options = parser.parse_args()
    table: list[Row] = []
    for interpreter in options.python or ["python3.11", "python3.12", "python3.13"]:
        for row in rows(interpreter):
            table.append(row)
            print(row.python, row.torch, row.dependencies, row.counts, row.failures, row.reason, flush=True)
            (options.out / "matrix.json").write_text(json.dumps([r._asdict() for r in table], indent=1) + "\n")
            (options.out / "matrix.md").write_text(report(table))


if __name__ == "__main__":
    main()
