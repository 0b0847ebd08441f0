"""The tables of the benchmark of maps, as Markdown, and which targets were met."""

from collections.abc import Iterable, Iterator
from statistics import mean, median, stdev
from typing import Any, NamedTuple

from _maps_variants import OF_DATA, VARIANTS

Row = dict[str, Any]
HEAD = ("map", "place", "10-NN", "trustworthiness", "continuity", "NLL, nats", "seconds", "seeds")
ACCURACY, TRUST, CONTINUITY = "10-NN accuracy", "trustworthiness", "continuity"
MOST_NATS = 0.5


class Target(NamedTuple):
    """Of 10-NN accuracy and trustworthiness."""

    name: str
    accuracy: float
    trust: float


DIGITS = (Target("required", 0.86, 0.95), Target("stretch", 0.90, 0.96))


class Line(NamedTuple):
    """A map, by one way to place rows, over seeds."""

    data: str
    map: str
    place: str
    values: dict[str, list[float]]

    def mean(self, name: str) -> float:
        return mean(self.values[name])


def lines(rows: Iterable[Row]) -> Iterator[Line]:
    """One for each data set, map and place; a run's NLL and seconds stand in each of its lines."""
    found: dict[tuple[str, str, str], list[Row]] = {}
    for row in rows:
        for place, quality in row["places"].items():
            found.setdefault((row["data"], row["map"], place), []).append(row | quality)
    for key, runs in found.items():
        names = [name for name in (ACCURACY, TRUST, CONTINUITY, "nll", "s") if name in runs[0]]
        yield Line(*key, {name: [run[name] for run in runs] for name in names})


def spread(values: list[float] | None, digits: int) -> str:
    """Mean and standard deviation over seeds.

    >>> spread([0.861, 0.859], 3), spread([0.5], 3), spread(None, 2)
    ('0.860 ± 0.001', '0.500', '')
    """
    if values is None:
        return ""
    text = f"{mean(values):.{digits}f}"
    return text if len(values) == 1 else f"{text} ± {stdev(values):.{digits}f}"


def table(chosen: list[Line]) -> str:
    """In the order of the rows."""
    text = [HEAD, ("---",) * len(HEAD)]
    for line in chosen:
        quality = [spread(line.values[name], digits) for name, digits in ((ACCURACY, 3), (TRUST, 4), (CONTINUITY, 3))]
        effort = [spread(line.values.get("nll"), 2), f"{median(line.values['s']):.3g}", str(len(line.values[ACCURACY]))]
        text.append((line.map, line.place, *quality, *effort))
    return "\n".join(f"| {' | '.join(cells)} |" for cells in text)


def on_grid(line: Line) -> bool:
    """Whether it is the map of a prior, not of latents, and not of something fitted afterwards."""
    return line.map in VARIANTS and "prior=gtm" in VARIANTS[line.map].settings and not line.place.startswith("latents")


def digits_verdicts(all_lines: list[Line]) -> Iterator[str]:
    """Each map of a prior beside the targets."""
    for line in filter(on_grid, all_lines):
        accuracy, trust = line.mean(ACCURACY), line.mean(TRUST)
        met = [f"{t.name} {'met' if accuracy >= t.accuracy and trust >= t.trust else 'missed'}" for t in DIGITS]
        yield f"- {line.map}, {line.place}: {accuracy:.3f} and {trust:.4f}: {', '.join(met)}; {_nats(line, all_lines)}"


def _nats(line: Line, all_lines: list[Line]) -> str:
    beside = VARIANTS[line.map].beside
    other = next((o for o in all_lines if o.map == beside and "nll" in o.values), None)
    if other is None:
        return f"{beside} was not run"
    difference = line.mean("nll") - other.mean("nll")
    return f"NLL {difference:+.2f} nats from {beside}: {'met' if difference <= MOST_NATS else 'missed'}"


def mnist_verdicts(all_lines: list[Line], gray: list[Line]) -> Iterator[str]:
    """Each map of a prior beside the classical GTM of the gray values and the VAE with two latent dimensions."""
    rivals = [line for line in gray if line.map == "GTM"] + [line for line in all_lines if line.map == "vae-2"]
    for line in filter(on_grid, all_lines):
        said = []
        for rival in rivals:
            better = [line.mean(name) > rival.mean(name) for name in (ACCURACY, TRUST)]
            said.append(f"better than {rival.map} ({rival.place}) on {('neither', 'one', 'both')[sum(better)]}")
        yield f"- {line.map}, {line.place}: {'; '.join(said)}"


def verdicts(data: str, of_data: dict[str, list[Line]]) -> Iterator[str]:
    """Those that the data set's targets allow."""
    if data == "digits":
        return digits_verdicts(of_data[data])
    return mnist_verdicts(of_data[data], of_data["MNIST"]) if data.startswith("MNIST") else iter(())


def report(rows: list[Row]) -> str:
    """All data sets that there are."""
    every = list(lines(rows))
    of_data = {data: [line for line in every if line.data == data] for data in OF_DATA}
    parts = []
    for data, chosen in of_data.items():
        if chosen:
            said = "\n".join(verdicts(data, of_data))
            parts += [f"## {data}", TEXT[data], table(chosen), *filter(None, [said, how(rows, data)])]
    return "\n\n".join(parts)


def how(rows: list[Row], data: str) -> str:
    """What each map is, in the words of its row."""
    said = {
        row["map"]: row.get("remark") or f"`{without_seed(row['settings'])}`" for row in rows if row["data"] == data
    }
    return "\n".join(f"- {name}: {text}" for name, text in said.items())


def without_seed(settings: str) -> str:
    """What all seeds of a run have in common, and decides its numbers.

    >>> without_seed("training.accelerator=cpu model.latent_dim=2 seed=3")
    'model.latent_dim=2'
    """
    return " ".join(text for text in settings.split() if not text.startswith(("seed=", "training.accelerator=")))


def page(text: str, versions: str) -> str:
    """What is written."""
    return f"# Maps\n\n{INTRODUCTION.format(versions=versions)}\n\n{text}\n"


INTRODUCTION = """Made by `benchmarks/maps.py`, which says what was run; {versions}; one thread of a shared machine.

10-NN: accuracy of ten nearest neighbors, fitted to the training rows' coordinates and scored on the test rows.
Trustworthiness and continuity: ten neighbors, of the test rows alone, against the pixels (or standardized columns).
NLL: importance sampling on test rows (512 samples; MNIST 128 on every tenth row). Mean ± standard deviation over
seeds; seconds of fitting, and of placing where that is one step with it, are medians by the clock, beside other work.

Places on the map of a grid prior: *place*, the mean of the nodes within three steps of the likeliest one, weighted by
p(k given z) at the mean of q(z given x), which is what priory draws; *mean*, E[u given z] over all nodes; *mode*, the
likeliest node.
*latents* are the means of q(z given x) themselves, no map where they have more than two dimensions; *GTM of latents* is
a classical GTM that is fitted to them afterwards."""


TEXT = {
    "digits": (
        "1000 training and 447 test rows of the book's split. Targets, means over five seeds: 10-NN >= 0.86 and "
        "trustworthiness >= 0.95 from the prior itself (required), >= 0.90 and >= 0.96 (stretch), with an NLL at most "
        "0.5 nats above that of the same model with a VampPrior."
    ),
    "oil flow": "1000 training and 1000 test rows, judged by standardized columns; no targets.",
    "MNIST": (
        "50 000 training and 10 000 test rows, as they are: the VAEs have the discretized logistic likelihood of 256 "
        "gray values. Target: better on 10-NN and trustworthiness than a classical GTM with the same grid, and than a "
        "VAE with L = 2."
    ),
    "MNIST, binary": (
        "50 000 training rows, binarized anew in each epoch, and 10 000 test rows, binarized once, with a Bernoulli "
        "likelihood. The encoder gets the gray values, or (*binary rows*) what was drawn from them; both are judged by "
        "the gray values. Target: as for MNIST; the classical GTM is that of the gray values."
    ),
}
