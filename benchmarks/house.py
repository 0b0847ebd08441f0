"""Sizes of the source tree: rooms, floors, files, lines, lengths of functions, and what `priory --help` imports.

    python benchmarks/house.py [--source src/priory]

A room is a file or folder at the top of the package. A floor is one above the highest floor that a room imports from.
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
    """Rooms of the package that a file imports when it is imported itself."""
    rooms = set()
    for node in ast.parse(file.read_text()).body:
        if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == package:
            parts = (node.module or "").split(".")
            rooms |= {parts[1]} if len(parts) > 1 else {alias.name for alias in node.names}
    return rooms


def floors(source: Path) -> dict[str, int]:
    """The floor of each room, from 1; a circle of rooms is one floor."""
    needs: dict[str, set[str]] = {}
    for file in source.rglob("*.py"):
        room = file.relative_to(source).parts[0].removesuffix(".py")
        if not room.startswith("__"):
            needs.setdefault(room, set()).update(imported(file, source.name) - {room})
    found: dict[str, int] = {}
    while len(found) < len(needs):
        free = [room for room in needs if room not in found and (needs[room] & needs.keys()) <= found.keys()]
        for room in free or [room for room in needs if room not in found]:
            found[room] = 1 + max((found.get(other, 0) for other in needs[room]), default=0)
    return found


def functions(source: Path) -> list[int]:
    """Lines of each function, without its docstring."""
    lengths = []
    for file in source.rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                docstring = ast.get_docstring(node, clean=False)
                lines = (node.end_lineno or 0) - node.lineno + 1
                lengths.append(lines - (docstring.count("\n") + 1 if docstring else 0))
    return lengths


def imports_of_help() -> tuple[int, bool]:
    """Modules that are loaded when `priory --help` has printed, and whether torch is one of them."""
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
    found = floors(source)
    print(f"rooms at the top: {len(found)}, floors: {max(found.values())}")
    print(f"files: {len(files)}, lines: {sum(len(file.read_text().splitlines()) for file in files)}")
    tenth = statistics.quantiles(lengths, n=10)[8]
    print(f"functions: {len(lengths)}, median {statistics.median(lengths):g} lines, 90th percentile {tenth:g}")
    print(f"modules loaded by `priory --help`: {modules}{', torch too' if torch else ', torch is not'}")


if __name__ == "__main__":
    main()
