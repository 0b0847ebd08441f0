"""Measure the command line's start-up: processor time, imported modules, the slowest imports.

python benchmarks/startup.py
"""

import resource
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

REPEATS = 5
RESULTS = Path(__file__).parent / "results" / "startup.md"
LIMITS = {
    "--version": 0.3,
    "--help": 0.3,
    "fit --help": 0.3,
    "fit missing.csv": 0.3,
    "fit digits --no-such-option": 0.3,
    "fit digits --prior vmap": 0.3,
    "evaluate missing": 0.3,
    "fit table.csv": 1.5,
    "gtm fit table.csv": 1.5,
}


def seconds(arguments: list[str], folder: str) -> float:
    """Return the processor time of the command, including its start."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run(arguments, cwd=folder, capture_output=True, check=False)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def imports(arguments: list[str], folder: str) -> list[tuple[int, str]]:
    """Return microseconds of each import, including the imports inside it, the slowest first."""
    command = [sys.executable, "-X", "importtime", "-m", "priory", *arguments]
    times = subprocess.run(command, cwd=folder, capture_output=True, check=False, text=True).stderr
    lines = [line.split("|") for line in times.splitlines() if line.startswith("import time:") and "cumul" not in line]
    return sorted(((int(total), name.strip()) for _, total, name in lines), reverse=True)


def main() -> None:
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "table.csv").write_text("a,kind\n" + "1,x\n2,y\n" * 500)  # with a column that `fit` refuses
        bare = statistics.median(seconds([sys.executable, "-c", "pass"], folder) for _ in range(REPEATS))
        for command, limit in LIMITS.items():
            arguments = command.split()
            times = [seconds([sys.executable, "-m", "priory", *arguments], folder) for _ in range(REPEATS)]
            slowest = imports(arguments, folder)
            first = ", ".join(f"{name} {total / 1e3:.0f}" for total, name in slowest if "." not in name)[:60]
            rows.append(f"| `priory {command}` | {statistics.median(times):.2f} | {limit} | {len(slowest)} | {first} |")
    header = ["| command | s | at most | modules | slowest imports, ms |", "|---|---|---|---|---|"]
    title = (
        f"Made by `benchmarks/startup.py`: processor time, median of {REPEATS} runs; Python alone takes {bare:.2f} s."
    )
    lines = ["# Start-up time of the command line", "", title, "", *header, *rows]
    RESULTS.write_text("\n".join(lines) + "\n")
    print(RESULTS.read_text())


if __name__ == "__main__":
    main()
