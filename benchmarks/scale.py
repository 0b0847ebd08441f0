"""All curves of scale, over rows, components and workers, and one picture of them.

    python benchmarks/scale.py [--only stream parallel gtm ranks] [--draw]

Each topic has its own script, `benchmarks/_scale_<topic>.py`, which runs in its own process and writes
`benchmarks/results/scale_<topic>.json`: rows that stay in their files, rows in parallel, the GTM and the evaluation of
many rows, training on several processes. Together they take about an hour on one core and 10 GB of temporary files.
The picture, docs/images/scale.png, is drawn from the stored results; --draw only draws it.
"""

import argparse
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure

HERE = Path(__file__).parent
PICTURE = HERE.parent / "docs" / "images" / "scale.png"
TOPICS = {"stream": ("OUT",), "parallel": (), "gtm": ("--out", "OUT"), "ranks": ()}  # arguments of each file


def result_of(topic: str) -> Path:
    """Return the file of a topic's curves."""
    return HERE / "results" / f"scale_{topic}.json"


def measured(topic: str) -> None:
    """Measure a topic and write its curves."""
    arguments = [str(result_of(topic)) if each == "OUT" else each for each in TOPICS[topic]]
    subprocess.run([sys.executable, str(HERE / f"_scale_{topic}.py"), *arguments], check=True)


def logarithmic(axes: Axes, title: str, x: str, y: str) -> None:
    """Label a panel with two logarithmic axes."""
    axes.set(title=title, xlabel=x, ylabel=y, xscale="log", yscale="log")
    axes.grid(alpha=0.3)
    axes.legend(frameon=False, fontsize="small")


def seconds_by_rows(axes: Axes, curves: dict[str, Any]) -> None:
    """Plot the processor seconds of the passes over rows."""
    for name in ("embed", "map", "score"):
        rows = [each for each in curves["parallel"]["passes"][name] if each["rows"] >= 100]
        axes.plot([each["rows"] for each in rows], [each["seconds"] for each in rows], "o-", label=name)
    fit = curves["gtm"]["fit"]
    axes.plot(*zip(*((each["rows"], each["seconds_of_an_iteration"]) for each in fit), strict=True), "s-", label="EM")
    logarithmic(axes, "Passes over rows", "rows", "seconds of one core")


def megabytes_by_rows(axes: Axes, curves: dict[str, Any]) -> None:
    """Plot the peaks of resident memory."""
    lines = {
        "fit, streamed": curves["stream"]["memory"],
        "GTM by Dask": curves["gtm"]["fit"],
        "evaluate": curves["gtm"]["evaluate"],
    }
    for name, line in lines.items():
        axes.plot([each["rows"] for each in line], [each["megabytes"] for each in line], "o-", label=name)
    logarithmic(axes, "Peak memory of a process", "rows", "MB")
    axes.set_ylim(100, 3000)


def seconds_by_components(axes: Axes, curves: dict[str, Any]) -> None:
    """Plot the processor seconds of a step."""
    for ranks in (1, 2):
        line = [each for each in curves["ranks"]["components"] if each["ranks"] == ranks]
        x, y = [each["components"] for each in line], [each["processor_seconds"] for each in line]
        axes.plot(x, y, "o-", label=f"{ranks} process{'es' * (ranks > 1)}")
    logarithmic(axes, "A training step with K pseudo-inputs", "K", "seconds of a core, each process")


def hours_by_workers(axes: Axes, curves: dict[str, Any]) -> None:
    """Plot the simulated hours of 10^9 rows x 100 columns in 1000 parts."""
    for name, line in curves["parallel"]["costs"].items():
        axes.plot([int(cores) for cores in line], list(line.values()), "o-", label=name)
    logarithmic(axes, "10⁹ rows x 100 columns, simulated", "cores", "hours")


def draw() -> None:
    """Draw the picture of all topics."""
    curves = {topic: json.loads(result_of(topic).read_text(encoding="utf-8")) for topic in TOPICS}
    figure = Figure(figsize=(11, 8), layout="constrained")
    panels = (seconds_by_rows, megabytes_by_rows, seconds_by_components, hours_by_workers)
    for axes, panel in zip(figure.subplots(2, 2).flat, panels, strict=True):
        panel(axes, curves)
    figure.savefig(PICTURE, dpi=110)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="+", choices=TOPICS, default=list(TOPICS))
    parser.add_argument("--draw", action="store_true", help="only draw the picture")
    arguments = parser.parse_args()
    for topic in () if arguments.draw else arguments.only:
        measured(topic)
    if all(result_of(topic).exists() for topic in TOPICS):
        draw()


if __name__ == "__main__":
    main()
