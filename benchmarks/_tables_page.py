"""Write the page of `tables.py`: the numbers of the papers beside ours, and a list of missing cells."""

from collections.abc import Sequence
from statistics import mean
from typing import Any, NamedTuple

TITLES = {
    "static_mnist": "Static MNIST",
    "dynamic_mnist": "Dynamic MNIST",
    "omniglot": "OMNIGLOT, reconstructed",
    "fashion_mnist": "Fashion-MNIST, dynamic binarization",
}
LABELS = {
    "standard": "standard normal",
    "mog": "MoG",
    "vamp": "VampPrior",
    "gtm": "GTM",
    "gtm-vamp": "GTM-VampPrior",
    "flow": "flow",
    "exemplar": "exemplar",
}
# NLL by 5000 samples. For the same model on OMNIGLOT, the two papers differ by 2 nats.
TOMCZAK = {  # Tomczak & Welling 2018, arXiv:1705.07120, table 1
    ("static_mnist", 1): {"standard": 88.56, "vamp": 85.57},
    ("static_mnist", 2): {"standard": 86.05, "vamp": 83.19},
    ("dynamic_mnist", 1): {"standard": 84.50, "vamp": 82.38},
    ("dynamic_mnist", 2): {"standard": 82.42, "vamp": 81.24},
    ("omniglot", 1): {"standard": 108.50, "vamp": 104.75},
    ("omniglot", 2): {"standard": 103.52, "vamp": 101.18},
}
NOROUZI = {  # Norouzi, Fleet & Norouzi 2020, arXiv:2004.04795
    ("dynamic_mnist", 1): {"standard": 84.45, "vamp": 82.43, "exemplar": 82.09},
    ("dynamic_mnist", 2): {"standard": 82.39, "vamp": 81.56, "exemplar": 81.22},
    ("omniglot", 1): {"standard": 108.34, "vamp": 106.78, "exemplar": 105.22},
    ("omniglot", 2): {"standard": 104.92, "vamp": 103.30, "exemplar": 102.25},
    ("fashion_mnist", 1): {"standard": 228.70, "vamp": 227.35, "exemplar": 226.75},
    ("fashion_mnist", 2): {"standard": 227.37, "vamp": 226.72, "exemplar": 226.53},
}


HEAD = """# The papers' tables

NLL of all test rows in nats, by 5000 importance samples from q (500 if the prior is an exemplar prior). Lower is
better. Networks and latent dimensions are those of the papers: 40 or 40 + 40 latent dimensions, gated layers of 300 and
300 units, K = 500. T&W is Tomczak & Welling 2018, NFN is Norouzi, Fleet & Norouzi 2020.

*As published* is the training of T&W, with at most 230 epochs, or 600 with a standard normal (theirs: 2000). *Ours* has
the same model and another training: the importance-weighted bound of five draws, 30 000 steps of 250 rows (150 epochs
of MNIST; 20 000 steps with two levels), bf16 or float32, and training images that are moved by at most one pixel, 80 %
of them in the first epoch, hardly any in the last. The papers do not move images. Validation rows chose this
([levers](levers.md)) and choose the epoch of the weights. More steps help: after 13 800 (150 epochs) of OMNIGLOT, the
VampPrior has an NLL of 107.09 ± 0.46.

The ± is the standard error over test rows. Minutes are those of one core, for the whole training, in float32 unless
bf16 stands beside them; those in bf16 are of a faster processor. [Minutes to the papers' numbers](time_to_paper.md).

`python benchmarks/tables.py --data-dir DIR` makes this page; `tables.json` has all settings."""


class Place(NamedTuple):
    """The data, number of levels and prior of a line in a table."""

    data: str
    levels: int
    prior: str


def page(done: Sequence[dict[str, Any]], planned: Sequence[tuple[str, int, str, str, int]]) -> str:
    """Return the results in Markdown."""
    lines = [HEAD]
    for data, title in TITLES.items():
        lines += ["", f"## {title}", "", *_table(data, done, planned)]
    missing = [cell for cell in planned if not _results(done, Place(*cell[:3]), cell[3], cell[4])]
    lines += ["", f"## Missing: {len(missing)} of {len(planned)} cells", ""]
    lines += [
        f"- {TITLES[data]}, {_label(levels, prior)}, {training}, seed {seed}"
        for data, levels, prior, training, seed in missing
    ]
    return "\n".join(lines) + "\n"


def _table(data: str, done: Sequence[dict[str, Any]], planned: Sequence[tuple[str, int, str, str, int]]) -> list[str]:
    lines = ["| model | T&W | NFN | as published | ours | -ELBO | KL | active units | minutes |", "|---|" + "---|" * 8]
    for levels in (1, 2):
        papers = [paper.get((data, levels), {}) for paper in (TOMCZAK, NOROUZI)]
        for prior in LABELS:
            place = Place(data, levels, prior)
            ran = [cell[3] for cell in planned if cell[:3] == place]
            if not ran and not any(prior in paper for paper in papers):
                continue
            known = [f"{paper[prior]:.2f}" if prior in paper else "" for paper in papers]
            results = {training: _results(done, place, training) for training in ("published", "ours")}
            cells = [_nll(results[training], planned=training in ran) for training in results]
            shown = results["ours"] or results["published"]
            lines.append(f"| {' | '.join([_label(levels, prior), *known, *cells, *_details(shown)])} |")
    return lines


def _label(levels: int, prior: str) -> str:
    return f"{'two levels, ' * (levels == 2)}{LABELS[prior]}"


def _results(
    done: Sequence[dict[str, Any]], place: Place, training: str, seed: int | None = None
) -> list[dict[str, Any]]:
    key = (*place, training)
    rows = [row for row in done if (row["data"], row["levels"], row["prior"], row["training"]) == key]
    return [row for row in rows if seed is None or row["seed"] == seed]


def _nll(rows: list[dict[str, Any]], *, planned: bool) -> str:
    if not rows:
        return "missing" * planned
    seeds = f" ({len(rows)} seeds)" * (len(rows) > 1)
    return f"{mean(row['nll'] for row in rows):.2f} ± {rows[0]['nll_se']:.2f}{seeds}"


def _details(rows: list[dict[str, Any]]) -> list[str]:
    if not rows:
        return [""] * 4
    units = f"{mean(row['active_units'] for row in rows):.0f}"
    numbers = (f"{mean(sign * row[name] for row in rows):.2f}" for name, sign in (("elbo", -1), ("kl", 1)))
    return [*numbers, units, minutes(rows)]


def minutes(rows: list[dict[str, Any]]) -> str:
    """Return the mean minutes of trainings, and their products' format if it is not float32."""
    bf16 = rows[0]["settings"]["training"]["precision"] == "bf16-mixed"
    return f"{mean(row['minutes'] for row in rows):.0f}" + " (bf16)" * bf16
