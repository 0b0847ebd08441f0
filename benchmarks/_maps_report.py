"""Write the tables of the benchmark of maps in Markdown, and say which targets were met."""

from collections.abc import Iterable, Iterator
from statistics import mean, median, stdev
from typing import Any, NamedTuple

from _maps_variants import OF_DATA, VARIANTS

Row = dict[str, Any]
HEAD = ("map", "place", "10-NN", "trustworthiness", "continuity", "NLL, nats", "seconds", "seeds")
ACCURACY, TRUST, CONTINUITY = "10-NN accuracy", "trustworthiness", "continuity"
MOST_NATS = 0.5


class Target(NamedTuple):
    """The smallest 10-NN accuracy and trustworthiness that meet it."""

    name: str
    accuracy: float
    trust: float


DIGITS = (Target("required", 0.86, 0.95), Target("stretch", 0.90, 0.96))


class Line(NamedTuple):
    """A row of a table: a map and a way to place rows, with the values of each measure over seeds."""

    data: str
    map: str
    place: str
    values: dict[str, list[float]]

    def mean(self, name: str) -> float:
        return mean(self.values[name])


def lines(rows: Iterable[Row]) -> Iterator[Line]:
    """Yield a line for each data set, map and way to place rows; all lines of a run have its NLL and seconds."""
    grouped: dict[tuple[str, str, str], list[Row]] = {}
    for row in rows:
        for place, quality in row["places"].items():
            grouped.setdefault((row["data"], row["map"], place), []).append(row | quality)
    for key, runs in grouped.items():
        names = [name for name in (ACCURACY, TRUST, CONTINUITY, "nll", "s") if name in runs[0]]
        yield Line(*key, {name: [run[name] for run in runs] for name in names})


def spread(values: list[float] | None, digits: int) -> str:
    """Return mean and standard deviation over seeds as text.

    >>> spread([0.861, 0.859], 3), spread([0.5], 3), spread(None, 2)
    ('0.860 ± 0.001', '0.500', '')
    """
    if values is None:
        return ""
    text = f"{mean(values):.{digits}f}"
    return text if len(values) == 1 else f"{text} ± {stdev(values):.{digits}f}"


def table(chosen: list[Line]) -> str:
    """Return the table of these lines in Markdown."""
    text = [HEAD, ("---",) * len(HEAD)]
    for line in chosen:
        quality = [spread(line.values[name], digits) for name, digits in ((ACCURACY, 3), (TRUST, 4), (CONTINUITY, 3))]
        effort = [spread(line.values.get("nll"), 2), f"{median(line.values['s']):.3g}", str(len(line.values[ACCURACY]))]
        text.append((line.map, line.place, *quality, *effort))
    return "\n".join(f"| {' | '.join(cells)} |" for cells in text)


def drawn(line: Line) -> bool:
    """Return whether a line is the map that priory draws for a prior with a grid."""
    return line.map in VARIANTS and "prior=gtm" in VARIANTS[line.map].settings and line.place == "place"


def digits_verdicts(all_lines: list[Line]) -> Iterator[str]:
    """Compare the map of each prior with the targets."""
    for line in filter(drawn, all_lines):
        accuracy, trust = line.mean(ACCURACY), line.mean(TRUST)
        met = [f"{t.name} {'met' if accuracy >= t.accuracy and trust >= t.trust else 'missed'}" for t in DIGITS]
        yield f"- {line.map}: {accuracy:.3f} and {trust:.4f}: {', '.join(met)}; {_nats(line, all_lines)}"


def _nats(line: Line, all_lines: list[Line]) -> str:
    beside = VARIANTS[line.map].beside
    other = next((o for o in all_lines if o.map == beside and "nll" in o.values), None)
    if other is None:
        return f"{beside} was not run"
    difference = line.mean("nll") - other.mean("nll")
    return f"NLL {difference:+.2f} nats from {beside}: {'met' if difference <= MOST_NATS else 'missed'}"


def mnist_verdicts(all_lines: list[Line], gray: list[Line]) -> Iterator[str]:
    """Compare the map of each prior with the classical GTM of the gray values, and the VAE with L = 2."""
    rivals = [line for line in gray if line.map == "GTM"] + [line for line in all_lines if line.map == "vae-2"]
    for line in filter(drawn, all_lines):
        compared = []
        for rival in rivals:
            better = [line.mean(name) > rival.mean(name) for name in (ACCURACY, TRUST)]
            compared.append(f"better than {rival.map} ({rival.place}) on {('neither', 'one', 'both')[sum(better)]}")
        yield f"- {line.map}: {'; '.join(compared)}"


def verdicts(data: str, of_data: dict[str, list[Line]]) -> Iterator[str]:
    """Return the comparisons of a data set with its targets; none if it has no targets."""
    if data == "digits":
        return digits_verdicts(of_data[data])
    return mnist_verdicts(of_data[data], of_data["MNIST"]) if data.startswith("MNIST") else iter(())


def report(rows: list[Row]) -> str:
    """Return the sections of all data sets that have results."""
    every = list(lines(rows))
    of_data = {data: [line for line in every if line.data == data] for data in OF_DATA}
    parts = []
    for data, chosen in of_data.items():
        if chosen:
            said = "\n".join(verdicts(data, of_data))
            parts += [f"## {data}", TEXT[data], table(chosen), *filter(None, [said, how(rows, data)])]
    return "\n\n".join(parts)


def how(rows: list[Row], data: str) -> str:
    """Return a list of the maps of a data set, each with its settings or its remark."""
    said = {
        row["map"]: row.get("remark") or f"`{without_seed(row['settings'])}`" for row in rows if row["data"] == data
    }
    return "\n".join(f"- {name}: {text}" for name, text in said.items())


def without_seed(settings: str) -> str:
    """Return the settings that all seeds of a run share, without the accelerator, which does not change results.

    >>> without_seed("training.accelerator=cpu model.latent_dim=2 seed=3")
    'model.latent_dim=2'
    """
    return " ".join(text for text in settings.split() if not text.startswith(("seed=", "training.accelerator=")))


def page(text: str, versions: str) -> str:
    """Return the whole page."""
    return f"# Maps\n\n{INTRODUCTION.format(versions=versions)}\n\n{text}\n"


INTRODUCTION = """`python benchmarks/maps.py` makes this page, on {versions}, with one thread of a shared machine.

- **10-NN** is the accuracy of ten nearest neighbors on the map. Their coordinates are those of training rows, and test
  rows are classified.
- **Trustworthiness and continuity** use ten neighbors among the test rows. They compare the map with the pixels; of oil
  flow, with the standardized columns; of cells, with 50 principal components.
- **NLL** is estimated by importance sampling of test rows: 512 samples; (Fashion-)MNIST: 128 samples, every tenth row.
- Numbers are means ± standard deviations over seeds. Seconds are the median duration of the fit, beside other work on
  the machine. If a package fits and places rows in one step, they are those of both.

A prior with a grid places rows in three ways. *place* is what priory draws: the mean of the nodes within three steps of
the likeliest one, weighted by p(k given x). *mean* is E[u given x] over all nodes, and *mode* is the likeliest node.
*latents* are the means of q(z given x). With more than two latent dimensions they are not a map. *GTM of latents* is a
classical GTM that is fitted to them afterwards. *validation rows*: measured on validation rows, which choose the
defaults. All other rows of the tables are of test rows."""


TEXT = {
    "digits": (
        "1000 training and 447 test rows of the book's split. Targets, as means over five seeds: 10-NN >= 0.86 and "
        "trustworthiness >= 0.95 (required), >= 0.90 and >= 0.96 (stretch), with an NLL at most 0.5 nats above that of "
        "the same model with a VampPrior."
    ),
    "oil flow": "1000 training and 1000 test rows, in standardized columns; no targets.",
    "MNIST": (
        "50 000 training and 10 000 test rows of 256 gray values; the VAEs have a discretized logistic likelihood. "
        "Target: better 10-NN and trustworthiness than a classical GTM with the same grid, and than a VAE with L = 2."
    ),
    "MNIST, binary": (
        "50 000 training rows, binarized again in each epoch, and 10 000 test rows, binarized once, with a Bernoulli "
        "likelihood. The encoder gets the gray values, in the lines *binary rows* the binarized ones. Neighbors are "
        "those of the gray values. Target: as for MNIST, with the classical GTM of the gray values."
    ),
    "Fashion-MNIST": "50 000 training and 10 000 test rows of 256 gray values, as for MNIST; no targets.",
    "Fashion-MNIST, binary": "As for MNIST, binary; no targets.",
    "cells": (
        "Mouse bladder cells: counts of the 2000 genes that vary most, with a negative binomial likelihood; 350 test "
        "and 350 validation cells. The maps without a VAE get 50 principal components of log(1 + 10 000 share), and "
        "neighbors are those of these components. No targets."
    ),
}
