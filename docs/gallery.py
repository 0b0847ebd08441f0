"""Write `docs/gallery.md` and its pictures from runs, with the commands that the page shows.

    python docs/gallery.py [--data-dir DIR] [--runs DIR]

Finished runs under --runs are not run again; delete a folder to train it again. MNIST needs the benchmark data
(--data-dir or PRIORY_DATA).
"""

import argparse
import os
import shlex
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from PIL import Image
from sklearn.datasets import load_wine

from priory._support.files import read_json, replacing

DOCS = Path(__file__).parent
IMAGES = DOCS / "images" / "gallery"
MOST_PIXELS = 900  # along a side
SHOWN = {
    "nll": "NLL {:.1f} nats",
    "trustworthiness": "trustworthiness {:.3f}",
    "knn_accuracy": "10-NN accuracy on the map {:.2f}",
}


@dataclass(frozen=True)
class Entry:
    """A section of the page: a run and its pictures.

    Attributes:
        name: name of the run folder.
        title: heading of the section.
        text: description of the pictures.
        command: what a user types, without --out. In that of a script, RUNS and DIR are the folders of runs and data.
        pictures: names of the figures.
        data: the file that it needs from the data folder; None: no file.
    """

    name: str
    title: str
    text: str
    command: str
    pictures: tuple[str, ...]
    data: str | None = None


ENTRIES = (
    Entry(
        "digits-map",
        "Digits: sixteen latent dimensions on a map",
        "scikit-learn's digits. The model has seen no label. The pictures show the rows on the map, the decoded nodes, "
        "the classes of the rows near each node, and the magnification.",
        "priory fit digits --prior gtm-vamp",
        ("map", "nodes", "landscape", "magnification"),
    ),
    Entry(
        "mnist-map",
        "MNIST",
        "70 000 images in 16 latent dimensions; the picture has 5000 of them.",
        "priory fit mnist.npz --binarize dynamic --prior gtm-vamp --grid 20x20 --epochs 30 "
        "--batch-size 200 --set model.hidden=[300,300] --set training.validation_draws=1 --samples 16",
        ("map", "nodes"),
        "mnist.npz",
    ),
    Entry(
        "dynamic_mnist-1-vamp-ours-0",
        "MNIST: samples of a VampPrior with 40 latent dimensions",
        "Gated networks of two layers of 300 units, 500 pseudo-inputs: the model of the "
        "[papers' tables](../benchmarks/results/tables.md), with our training. Samples from the prior, test images "
        "with their reconstructions, and the pseudo-inputs.",
        "python benchmarks/tables.py --only dynamic_mnist 1 vamp ours 0 --data-dir DIR --runs RUNS "
        "--out RUNS/tables.json",
        ("samples", "reconstructions", "pseudo_inputs"),
        "mnist.npz",
    ),
    Entry(
        "omniglot-1-vamp-ours-0",
        "OMNIGLOT: samples of the same model",
        "Handwritten characters of 50 alphabets: samples from the prior, and test images with their reconstructions.",
        "python benchmarks/tables.py --only omniglot 1 vamp ours 0 --data-dir DIR --runs RUNS --out RUNS/tables.json",
        ("samples", "reconstructions"),
        "omniglot.npz",
    ),
    Entry(
        "fashion_mnist-1-vamp-ours-0",
        "Fashion-MNIST: samples of the same model",
        "Samples from the prior, and the pseudo-inputs.",
        "python benchmarks/tables.py --only fashion_mnist 1 vamp ours 0 --data-dir DIR --runs RUNS "
        "--out RUNS/tables.json",
        ("samples", "pseudo_inputs"),
        "fashion_mnist.npz",
    ),
    Entry(
        "wine-map",
        "A table: the chemistry of wines",
        "178 Italian wines with 13 measurements, by the classical GTM: the place of each wine, the columns that vary "
        "most over the map, and the cultivar at each node.",
        "priory gtm fit wine.csv --labels cultivar --points-per-side 12",
        ("map", "nodes", "landscape"),
    ),
    Entry(
        "digits-compare",
        "All priors side by side",
        "The same VAE with each prior in two latent dimensions: contours of the prior around the encoded test rows, "
        "the maps of the priors that have one, and rate against distortion.",
        "priory compare digits --priors all --seeds 1 --latent-dim 2 --set model.points_per_side=8",
        ("contours", "maps", "rate_distortion"),
    ),
    Entry(
        "digits-pairs",
        "Beyond two dimensions without a grid",
        "Marginals of a VampPrior and of the codes of the test rows, pair by pair, and the usage of the components.",
        "priory fit digits --prior vamp --latent-dim 8 --components 100",
        ("pairwise", "components", "samples", "training"),
    ),
)


def main() -> None:
    """Run what is missing, then write the page."""
    arguments = _arguments()
    arguments.runs.mkdir(parents=True, exist_ok=True)
    _write_wine(arguments.runs / "wine.csv")
    IMAGES.mkdir(parents=True, exist_ok=True)
    sections = []
    for entry in ENTRIES:
        if entry.data is not None and arguments.data_dir is None:
            print(f"{entry.name}: left out, because it needs {entry.data} in --data-dir")
            continue
        folder = arguments.runs / entry.name
        _make(entry, folder, arguments)
        sections.append(_section(entry, folder))
    page = "\n\n".join([_INTRODUCTION, *sections]) + "\n"
    with replacing(DOCS / "gallery.md") as temporary:
        temporary.write_text(page, encoding="utf-8")


_INTRODUCTION = """# Gallery

Each picture is a figure of a run, made by the command above it. `python docs/gallery.py --data-dir DIR` trains the runs
and writes this page."""


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data-dir", type=Path, default=os.environ.get("PRIORY_DATA"))
    parser.add_argument("--runs", type=Path, default=Path("runs/gallery"))
    return parser.parse_args()


def _write_wine(path: Path) -> None:
    """Write the wines as a table that a user could have."""
    bunch = load_wine(as_frame=True)
    with replacing(path) as temporary:
        bunch.frame.rename(columns={"target": "cultivar"}).to_csv(temporary, index=False)


def _make(entry: Entry, folder: Path, arguments: argparse.Namespace) -> None:
    """Run the command, unless its pictures are there."""
    if all((folder / "figures" / f"{name}.png").exists() for name in entry.pictures):
        return
    program, *words = shlex.split(entry.command)
    files = {"DIR": arguments.data_dir, "RUNS": arguments.runs, "RUNS/tables.json": arguments.runs / "tables.json"}
    files["wine.csv"] = arguments.runs / "wine.csv"
    if entry.data is not None:
        files[entry.data] = Path(arguments.data_dir) / entry.data
    words = [str(files.get(word, word)) for word in words]
    if program == "priory":
        words = ["-m", "priory", *words, "--out", str(folder)]
    subprocess.run([sys.executable, *words], check=True)


def _section(entry: Entry, folder: Path) -> str:
    """Return the section: the description, the numbers, the command, the pictures."""
    lines = [f"## {entry.title}", entry.text + _numbers(folder), f"    {entry.command}"]
    for name in entry.pictures:
        target = IMAGES / f"{entry.name}-{name}.png"
        _shrink(folder / "figures" / f"{name}.png", target)
        lines.append(f"![{entry.title}: {name.replace('_', ' ')}](images/gallery/{target.name})")
    return "\n\n".join(lines)


def _numbers(folder: Path) -> str:
    """Return the numbers of `metrics.json`; empty if the folder has none."""
    file = folder / "metrics.json"
    if not file.is_file():
        return ""
    metrics = read_json(file)
    numbers = [text.format(metrics[name]["value"]) for name, text in SHOWN.items() if name in metrics]
    return f" On test rows: {', '.join(numbers)}." if numbers else ""


def _shrink(source: Path, target: Path) -> None:
    """Write a copy in 128 colors, not larger than the page needs."""
    picture = Image.open(source).convert("RGB")
    picture.thumbnail((MOST_PIXELS, MOST_PIXELS), Image.Resampling.LANCZOS)
    with replacing(target) as temporary:
        picture.quantize(128, dither=Image.Dither.NONE).save(temporary, format="PNG", optimize=True)


if __name__ == "__main__":
    main()
