"""Collect the contents of a model's page and write it, for every kind of run and for models of the user."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from priory._support.messages import duration
from priory._support.seeds import own_noise
from priory._version import __version__
from priory.evaluation import Estimate
from priory.maps import TopographicMap
from priory.maps.conditional_surface import ConditionalSurface
from priory.maps.quality import evenly_spaced
from priory.maps.surfaces import Surface
from priory.model import device_of
from priory.plots.landscapes import LOG_MAGNIFICATION, log_magnification
from priory.rows import Conditions
from priory.workbench.data import Dataset, DatasetRows, telling_rows
from priory.workbench.data.splits import split_names
from priory.workbench.report import MapContents, Metric, NodeContents, Picture, ReportContents, write_report
from priory.workbench.report.metric_help import HOW_TO_READ
from priory.workbench.runs.folder import FIGURES, Made

REPORT = "report.html"
SCORE = "log p(x), nats"
SCORE_SAMPLES = 16  # importance samples per row: enough to separate likely from unlikely rows
ESTIMATED = f"{SCORE}, by {SCORE_SAMPLES} samples"
SEED = 0
MOST_ROWS = 200_000  # rows of the page's map
MOST_MAPPED = 5000  # rows of a picture of the map; more are not distinguishable
MOST_JUDGED = 20_000  # rows of the other pictures
# title and caption of each picture; {judged} and {mapped} describe its rows
CAPTIONS = {
    "map": ("The map", "Each row at its place on the map, colored by its first label, which was not used for the map."),
    "nodes": ("The nodes", "The decoded mean of each node; u1 increases to the right, u2 upwards."),
    "landscape": (
        "The first label over the map",
        "The label of the rows near each node, from {mapped}. For classes, the legend counts nodes, and colors are "
        "paler where the rows disagree.",
    ),
    "conditions": (
        "The conditions on the map",
        "The density p(u | c) of each value of a condition, and its difference from the density of all rows; the "
        "arrow is the shift of the mean place. Other conditions are averaged out.",
    ),
    "magnification": (
        "Magnification",
        "How much the sheet is stretched: ridges separate regions that are far apart in the data. Dots: places of "
        "{mapped}.",
    ),
    "prior": ("The prior", "Contours of the prior's density, and the codes (means of q(z | x)) of {judged}."),
    "pairwise": (
        "The prior, pair by pair",
        "Marginals of the prior, and one draw from q(z | x) of each of {judged}: they should agree.",
    ),
    "samples": ("Samples", "New data: z drawn from the prior, then decoded."),
    "reconstructions": ("Reconstructions", "Some of {judged}, and the decoded means of their codes."),
    "pseudo_inputs": ("Pseudo-inputs", "The learned inputs whose codes are the prior's components."),
    "exemplars": (
        "Exemplars",
        "Decoded codes of some training rows, and next to each, draws from the prior around it: variations of the row.",
    ),
    "clusters": (
        "The clusters",
        "The decoded center of each component of the prior that is the most likely one for some of {judged}, "
        "largest first.",
    ),
    "components": (
        "Use of the components",
        "Weights of the prior's components, and how much {judged} use them, by one draw from each q(z | x).",
    ),
    "training": ("Training", "The objective during training. A VAE keeps the weights of its best epoch."),
}


class Subject(Protocol):
    """The subject of a page. `RunFolder` documents the members that both have."""

    @property
    def path(self) -> Path: ...

    @property
    def columns(self) -> tuple[str, ...]: ...

    @property
    def constants(self) -> Mapping[str, float | None]: ...

    @property
    def seed(self) -> int: ...

    @property
    def made(self) -> Made | None: ...

    @property
    def seconds(self) -> float | None: ...

    @property
    def has_map(self) -> bool: ...

    @property
    def rows_shape(self) -> tuple[int, int] | None: ...

    @property
    def estimates(self) -> dict[str, Estimate]: ...

    def described(self) -> list[tuple[str, str]]: ...

    def restored(self, x: Tensor) -> Tensor: ...


class PageJobs(Protocol):
    """The functions of a kind of model that the page needs."""

    def surface(self, model: Any, num_samples: int) -> Surface: ...

    def embed(self, model: Any, rows: DatasetRows) -> dict[str, np.ndarray]: ...

    def score(
        self, model: Any, rows: DatasetRows, num_samples: int, seed: int, *, progress: Any = None
    ) -> np.ndarray: ...


def write_run_report(run: Subject, model: Any, dataset: Dataset, jobs: PageJobs) -> Path:
    """Write `report.html` into the subject's folder: metrics, pictures and the map of all rows."""
    every = dataset.all_rows()
    rows = DatasetRows(dataset, every.indices[evenly_spaced(len(every), MOST_ROWS)])
    notes = []
    if len(rows) < len(every):
        notes.append(f"The map shows {len(rows)} of the {len(every)} rows, evenly spaced.")
    contents = ReportContents(
        title=": ".join(filter(None, [dataset.name, run.described()[0][1]])),
        facts=_facts(run, dataset, len(rows)),
        metrics=_metrics(run),
        map=_map(run, model, rows, jobs, notes),
        pictures=_pictures(run, dataset),
        notes=notes,
    )
    return write_report(run.path / REPORT, contents)


def _facts(run: Subject, dataset: Dataset, mapped: int) -> list[tuple[str, str]]:
    named = f"{dataset.name}: " if dataset.name else ""
    sizes = ", ".join(f"{len(index)} {name}" for name, index in dataset.splits.items() if len(index))
    left_out = f" ({len(run.constants)} more are constant and left out)" if run.constants else ""
    few = ": there are too few other rows" if dataset.splits and len(telling_rows(dataset)) == len(dataset) else ""
    measured = [("numbers", f"of {_judged(dataset)}{few}")] if run.estimates else []
    return [
        ("data", f"{named}{len(dataset)} rows, {len(dataset.columns)} columns{left_out}"),
        *([("split", sizes or "none")] if dataset.splits else []),
        *run.described(),
        *measured,
        ("map", f"of {_mapped(dataset, mapped)}"),
        ("seed", str(run.seed)),
        *_made(run),
        ("made by", f"priory {__version__}, torch {torch.__version__}"),
    ]


def _made(run: Subject) -> list[tuple[str, str]]:
    """Return the command, the date and the duration that the run has stored."""
    if (made := run.made) is None:
        return []
    known = [("command", made.command), ("begun", f"{made.begun:%Y-%m-%d %H:%M} UTC")]
    if (seconds := run.seconds) is not None:
        known.append(("fitting took", duration(seconds) if seconds >= 1 else "less than a second"))
    return [(name, text) for name, text in known if text]


def _judged(dataset: Dataset, most: int | None = None) -> str:
    """Describe the rows of the numbers and of some pictures: "the 60 test rows", "all 9 rows", or the first `most`."""
    judged = telling_rows(dataset)
    split = next((name for name, index in dataset.splits.items() if np.array_equal(index, judged.indices)), None)
    rows = f"the {len(judged)} {split} rows" if split else f"all {len(judged)} rows"
    return rows if most is None or len(judged) <= most else f"the first {most} of {rows}"


def _mapped(dataset: Dataset, number: int) -> str:
    total = len(dataset)
    return f"all {total} rows" if number >= total else f"{number} of the {total} rows"


def _pictures(run: Subject, dataset: Dataset) -> list[Picture]:
    """Return the run's figures, except the map, which the page draws itself."""
    rows = {"judged": _judged(dataset, MOST_JUDGED), "mapped": _mapped(dataset, MOST_MAPPED)}
    files = {name: run.path / FIGURES / f"{name}.png" for name in CAPTIONS if name != "map"}
    return [
        Picture(CAPTIONS[name][0], CAPTIONS[name][1].format(**rows), file)
        for name, file in files.items()
        if file.is_file()
    ]


def _metrics(run: Subject) -> list[Metric]:
    return [
        Metric(name, estimate.value, estimate.se, HOW_TO_READ.get(name, "")) for name, estimate in run.estimates.items()
    ]


def _map(run: Subject, model: Any, rows: DatasetRows, jobs: PageJobs, notes: list[str]) -> MapContents | None:
    """Return the rows on the grid of the prior; without a grid, on the plane of their codes."""
    of_rows = dict(rows.labels)
    if splits := rows.dataset.splits:  # the split is one more label, unless the data have a label of that name
        of_rows.setdefault("split", split_names(rows.indices, splits, ""))
    x = run.restored(rows.tensor().flatten(1)).numpy() if run.constants else rows.dataset.x[rows.indices]
    device = (
        device_of(model) if isinstance(model, torch.nn.Module) else torch.device("cpu")
    )  # a GTM is no module, and draws no noise
    with own_noise(SEED, device):
        drawn = TopographicMap(jobs.surface(model, SCORE_SAMPLES), rows) if run.has_map else None
        on_grid = drawn is not None and drawn.surface.nodes.shape[1] == 2
        if drawn is not None and on_grid:
            name = ESTIMATED if drawn.surface.likelihood_is_estimated else SCORE
            places, score = drawn.places.place.numpy(), drawn.log_likelihood.numpy()
            looks: dict[str, Any] = {"nodes": _nodes(run, drawn, rows.dataset.encoding), "score_name": name}
        else:
            embedded = jobs.embed(model, rows)
            if (codes := embedded.get("z_mean")) is None:
                return None
            if (clusters := embedded.get("cluster")) is not None:
                of_rows.setdefault("cluster", clusters.astype(str))
            places = codes
            score = jobs.score(model, rows, SCORE_SAMPLES, SEED)
            looks = {"score_name": ESTIMATED}
    placed = np.isfinite(places).all(axis=1)
    if on_grid:
        places = places[placed]
    else:
        placed &= score > -np.inf
        places, looks["axes"] = _plane(places[placed])
        notes.append(f"The prior has no two-dimensional grid, so the map shows {' and '.join(looks['axes'])}.")
    if not placed.all():
        notes.append(f"Rows too far from the data to have a place on the map: {np.sum(~placed)}.")
    return MapContents(
        places,
        ids=rows.ids[placed],
        labels={name: values[placed] for name, values in of_rows.items()},
        x=x[placed],
        columns=run.columns,
        image_shape=run.rows_shape,
        score=score[placed],
        **looks,
    )


def _nodes(run: Subject, drawn: TopographicMap, encoding: Conditions | None) -> NodeContents:
    nodes = drawn.nodes
    numbers = {
        "share of the rows": nodes.usage.numpy(),
        "mixing weight": nodes.weight.numpy(),
        LOG_MAGNIFICATION: log_magnification(nodes.magnification),
        "distance to the neighbors": nodes.distance.numpy(),
    }
    surface = drawn.surface
    if encoding is not None and isinstance(surface, ConditionalSurface) and surface.depends_on_context:
        names, contexts = encoding.single()
        numbers |= {f"density of {name}": p.numpy() for name, p in zip(names, surface.density(contexts), strict=True)}
    return NodeContents(nodes.places.numpy(), run.restored(nodes.contents.flatten(1)).numpy(), numbers)


def _plane(codes: np.ndarray) -> tuple[np.ndarray, tuple[str, str]]:
    """Return two coordinates of the codes and their names: the codes themselves, or two principal components."""
    if codes.shape[1] == 1:
        return np.concatenate([codes, np.zeros_like(codes)], 1), ("z", "nothing")
    if codes.shape[1] == 2:
        return codes, ("z1", "z2")
    centered = codes.astype(np.float64) - codes.mean(0, dtype=np.float64)
    _, axes = np.linalg.eigh(centered.T @ centered)
    return centered @ axes[:, :-3:-1], ("z's first principal component", "its second")
