"""Sizes of the source tree: modules, levels of imports, files, lines, lengths of functions, imports of `priory --help`.

    python benchmarks/house.py [--source src/priory]

A module is a file or folder at the top of the package. Its level is one more than the highest level that it imports.
"""

import argparse
import ast
import statistics
import subprocess
import sys
from pathlib import Path

HELP = """
import atexit, runpy, sys
atexit.register(lambda: print(len(sys.modules), "torch" in sys.modules, file=sys.stderr))
sys.argv = ["priory", "--help"]
runpy.run_module("priory", run_name="__main__")
"""


def imported(file: Path, package: str) -> set[str]:
    """Return the top modules of the package that a file imports when it is imported."""
    modules = set()
    for node in ast.parse(file.read_text()).body:
        if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == package:
            parts = (node.module or "").split(".")
            modules |= {parts[1]} if len(parts) > 1 else {alias.name for alias in node.names}
    return modules


def levels(source: Path) -> dict[str, int]:
    """Return the level of each module, from 1; modules in a circle of imports have one level."""
    needs: dict[str, set[str]] = {}
    for file in source.rglob("*.py"):
        module = file.relative_to(source).parts[0].removesuffix(".py")
        if not module.startswith("__"):
            needs.setdefault(module, set()).update(imported(file, source.name) - {module})
    level: dict[str, int] = {}
    while len(level) < len(needs):
        free = [name for name in needs if name not in level and (needs[name] & needs.keys()) <= level.keys()]
        for name in free or [name for name in needs if name not in level]:
            level[name] = 1 + max((level.get(other, 0) for other in needs[name]), default=0)
    return level


def functions(source: Path) -> list[int]:
    """Return the lines of each function, without its docstring."""
    lengths = []
    for file in source.rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                docstring = ast.get_docstring(node, clean=False)
                lines = (node.end_lineno or 0) - node.lineno + 1
                lengths.append(lines - (docstring.count("\n") + 1 if docstring else 0))
    return lengths


def imports_of_help() -> tuple[int, bool]:
    """Return the number of modules that `priory --help` loads, and whether torch is one of them."""
    done = subprocess.run([sys.executable, "-c", HELP], capture_output=True, text=True, check=False)
    number, torch = done.stderr.split()[-2:]
    return int(number), torch == "True"


def main() -> None:
    parser = argparse.ArgumentParser(description="Sizes of the source tree.")
    parser.add_argument("--source", type=Path, default=Path(__file__).parents[1] / "src" / "priory")
    source = parser.parse_args().source
    files = sorted(source.rglob("*.py"))
    lengths = functions(source)
    modules, torch = imports_of_help()
    level = levels(source)
    print(f"modules at the top: {len(level)}, levels: {max(level.values())}")
    print(f"files: {len(files)}, lines: {sum(len(file.read_text().splitlines()) for file in files)}")
    tenth = statistics.quantiles(lengths, n=10)[8]
    print(f"functions: {len(lengths)}, median {statistics.median(lengths):g} lines, 90th percentile {tenth:g}")
    print(f"modules loaded by `priory --help`: {modules}{', torch too' if torch else ', torch is not'}")


if __name__ == "__main__":
    main()
