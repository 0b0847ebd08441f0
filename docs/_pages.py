"""Pages of the site that are made of the package itself: commands, settings, metrics, results, files at the top."""

import json
import re
from collections.abc import Iterator
from math import hypot
from pathlib import Path
from statistics import mean, stdev
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "benchmarks" / "results"


def setup(app: Any) -> None:
    """Sphinx's entry point."""
    app.connect("config-inited", lambda app, config: write(Path(app.srcdir) / "_generated"))
    app.connect("source-read", site_links)


def write(folder: Path) -> None:
    """Write all pages, and leave those alone that have not changed: Sphinx builds only what is new."""
    pages = {
        "commands.md": commands(),
        "settings.md": settings(),
        "metrics.md": metrics(),
        "which_prior.md": which_prior(),
        "changelog.md": _from_top("CHANGELOG.md"),
        "contributing.md": _from_top("CONTRIBUTING.md"),
        "benchmarks/index.md": benchmarks(),
        **{f"benchmarks/{path.name}": _result(path) for path in sorted(RESULTS.glob("*.md"))},
    }
    for name, text in pages.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if not path.exists() or path.read_text(encoding="utf-8") != text:
            path.write_text(text, encoding="utf-8")


# Links that are right in the repository lead to pages of the site.
SITE_LINKS = {
    r"\]\((?:\.\./)+benchmarks/results/(\w+)\.md": r"](/_generated/benchmarks/\1.md",
    r"\]\((?:\.\./)+README\.md(?:#[\w-]+)?\)": r"](/explanation/family.md)",
    r"\]\((?:\.\./)+CONTRIBUTING\.md": r"](/_generated/contributing.md",
    r"\]\((?:\.\./)+CHANGELOG\.md": r"](/_generated/changelog.md",
}
TOP_LINKS = {
    r"\]\(docs/": "](/",
    r"\]\(benchmarks/results/(\w+)\.md": r"](/_generated/benchmarks/\1.md",
    r"\]\(README\.md(?:#[\w-]+)?\)": "](/start/install.md)",
    r"\]\(CONTRIBUTING\.md": "](/_generated/contributing.md",
    r"\]\(CHANGELOG\.md": "](/_generated/changelog.md",
    r"\]\(examples/\)": "](/start/examples.md)",
}


def site_links(app: Any, name: str, content: list[str]) -> None:
    """Sphinx's event `source-read`: links lead to pages of the site; "1.5 ± 0.2" in a table stays on one line."""
    cells = re.compile(r"^\|.*", re.MULTILINE)
    content[0] = cells.sub(lambda line: line[0].replace(" ± ", "\N{NO-BREAK SPACE}±\N{NO-BREAK SPACE}"), content[0])
    content[0] = _replaced(SITE_LINKS, content[0])


def _from_top(name: str) -> str:
    return _replaced(TOP_LINKS, (ROOT / name).read_text(encoding="utf-8"))


def _replaced(links: dict[str, str], text: str) -> str:
    for pattern, replacement in links.items():
        text = re.sub(pattern, replacement, text)
    return text


def commands() -> str:
    """Every command with its arguments and options, as `--help` lists them."""
    parts = [
        "# Commands",
        "The help texts of all commands. `priory COMMAND --help` prints the same.",
        *(_command(path, command) for path, command in all_commands()),
    ]
    return "\n\n".join(parts) + "\n"


def all_commands() -> Iterator[tuple[str, Any]]:
    """Every command that does something, by its path: `priory gtm fit`."""
    import typer

    from priory.workbench.cli.app import app

    yield from _below("priory", typer.main.get_command(app))


def _below(path: str, command: Any) -> Iterator[tuple[str, Any]]:
    for name, each in getattr(command, "commands", {}).items():
        yield from _below(f"{path} {name}", each)
    if not hasattr(command, "commands"):
        yield path, command


def _command(path: str, command: Any) -> str:
    import click

    context = click.Context(command, info_name=path)
    sections: dict[str, list[str]] = {}
    for parameter in command.get_params(context):
        record = parameter.get_help_record(context)
        if record is not None and "--help" not in record[0]:
            usual = "Options" if parameter.param_type_name == "option" else "Arguments"
            lines = sections.setdefault(getattr(parameter, "rich_help_panel", None) or usual, [])
            lines.append(f"| `{_cell(record[0])}` | {_cell(record[1])} |")
    tables = [f"| {name} | |\n|---|---|\n" + "\n".join(lines) for name, lines in sections.items()]
    return "\n\n".join([f"## `{path}`", _cell(command.help or ""), *tables])


def _cell(text: str) -> str:
    """Text for a cell of a table."""
    return re.sub(r"\s+", " ", text).replace("|", r"\|").replace("[", r"\[").replace("*", r"\*").strip()


def settings() -> str:
    """Every setting of every tree, with its type, default and description."""
    from priory.workbench.settings.gtm import GTMRunSettings
    from priory.workbench.settings.model import REGISTRIES, ModelSettings
    from priory.workbench.settings.priors import PRIORS
    from priory.workbench.settings.run import RefitRequest, RunSettings

    parts = [
        "# Settings",
        "Every setting of a run, by its name in `config.json`. `--set NAME=VALUE` sets any of them, for instance "
        "`--set training.learning_rate=2e-3`. A value is JSON if it parses, and text otherwise.",
        "## Data\n\n" + _table("data", RunSettings.model_fields["data"].annotation),
        "## Training\n\n" + _table("training", RunSettings.model_fields["training"].annotation),
        "## Model\n\nSettings of every model:\n\n" + _table("model", ModelSettings),
        "## Model: settings of one part\n\nA setting below exists only if the part is chosen.",
    ]
    base = set(ModelSettings.model_fields)
    for kind, registry in {"prior": PRIORS, **REGISTRIES}.items():
        for name, part in registry.loaded().items():
            fields = {n: f for n, f in part.settings.model_fields.items() if n not in base}
            if fields:
                parts.append(f"### {kind} `{name}`\n\n" + _fields("model", fields))
    parts += [
        "## Refit\n\nOf `priory refit`, beside those of the new prior:\n\n"
        + _table("refit", RefitRequest.model_fields["refit"].annotation),
        "## The classical GTM\n\nOf `priory gtm fit`; the settings of the data are those above:\n\n"
        + _table("model", GTMRunSettings.model_fields["model"].annotation),
    ]
    return "\n\n".join(parts) + "\n"


def _table(prefix: str, kind: Any) -> str:
    return _fields(prefix, kind.model_fields)


def _fields(prefix: str, fields: dict[str, Any]) -> str:
    rows = [
        f"| `{prefix}.{name}`<br>`{_type(field.annotation)}` | `{_default(field)}` | {_cell(field.description or '')} |"
        for name, field in fields.items()
    ]
    return "\n".join(["| setting and type | default | description |", "|---|---|---|", *rows])


def _type(annotation: Any) -> str:
    """The type as a user writes values of it: `int | None`, `'adam' | 'adamw'`, without pydantic's constraints."""
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        return _type(arguments[0])
    if origin is Literal:
        return r" \| ".join(map(repr, arguments))
    if origin in (Union, UnionType):
        return r" \| ".join(map(_type, arguments))
    if origin is not None:
        return f"{origin.__name__}[{', '.join(map(_type, arguments))}]"
    return {NoneType: "None", Ellipsis: "..."}.get(annotation) or annotation.__name__


def _default(field: Any) -> str:
    return "required" if field.is_required() else str(field.get_default(call_default_factory=True))


def metrics() -> str:
    """The glossary: every metric that `priory evaluate` may print, and how to read it."""
    from priory.workbench.report.metric_help import HOW_TO_READ

    rows = [f"| `{name}` | {_cell(text)} |" for name, text in HOW_TO_READ.items()]
    parts = [
        "# Metrics",
        "`metrics.json` and `priory evaluate` have these numbers, each with its standard error. All of them are per "
        "row, and in nats if they have a unit. [Evaluation](/evaluation.md) says how they are computed.",
        "\n".join(["| metric | how to read it |", "|---|---|", *rows]),
    ]
    return "\n\n".join(parts) + "\n"


def benchmarks() -> str:
    """The page that leads to the results of each benchmark."""
    rows = []
    for path in sorted(RESULTS.glob("*.md")):
        numbers = RESULTS / f"{path.stem}.json"
        files = f"`{numbers.name}`" if numbers.exists() else ""
        script = f"`benchmarks/{path.stem}.py`" if (ROOT / "benchmarks" / f"{path.stem}.py").exists() else ""
        rows.append(f"| [{_title(path)}]({path.name}) | {script} | {files} |")
    only_numbers = sorted(path.stem for path in RESULTS.glob("*.json") if not (RESULTS / f"{path.stem}.md").exists())
    toctree = "\n".join(["/benchmarks", *(path.stem for path in sorted(RESULTS.glob("*.md")))])
    parts = [
        "# Benchmarks",
        "Scripts in `benchmarks/` measured every number in this documentation. Each writes its results to "
        "`benchmarks/results/`. [How the tables of the papers are measured](/benchmarks.md).",
        "\n".join(["| results | script | numbers |", "|---|---|---|", *rows]),
        "Results without a page of their own, as JSON: " + ", ".join(f"`{name}.json`" for name in only_numbers) + ".",
        "## Static MNIST",
        "40 latent dimensions, gated 300-300 networks, 150 epochs. The NLL is an estimate with 500 importance samples "
        "on 1000 test images; ± is the standard error over images.",
        _static_mnist(),
        "## The book's experiment: digits, two latent dimensions",
        "16 components, exact NLL by quadrature, mean ± standard error over five seeds. No learned prior is better "
        "than the standard one here: two latent dimensions leave little to gain, and the networks overfit 1000 rows.",
        _book(),
        f"```{{toctree}}\n:hidden:\n\n{toctree}\n```",
    ]
    return "\n\n".join(parts) + "\n"


def _result(path: Path) -> str:
    """A page of results, with a title if it has none."""
    text = path.read_text(encoding="utf-8")
    return text if text.startswith("# ") else f"# {_title(path)}\n\n{text}"


def _title(path: Path) -> str:
    first = path.read_text(encoding="utf-8").splitlines()[0]
    return first.removeprefix("# ") if first.startswith("# ") else path.stem.replace("_", " ").capitalize()


def _static_mnist() -> str:
    rows = [
        f"| {name} | {-one['elbo']:.2f} ± {one['elbo_se']:.2f} | {one['nll']:.2f} ± {one['nll_se']:.2f} | "
        f"{one['active_units']:.0f} of 40 | {one['minutes']:.0f} |"
        for name, one in _results("static_mnist").items()
    ]
    return "\n".join(["| prior | test -ELBO | test NLL | active units | minutes |", "|---|---|---|---|---|", *rows])


def _book() -> str:
    nll, bound = _book_numbers("test_nll"), _book_numbers("test_elbo")
    rows = [f"| {name} | {_mean_se(bound[name])} | {_mean_se(nll[name])} |" for name in nll]
    return "\n".join(["| prior | test ELBO | exact NLL |", "|---|---|---|", *rows])


def _book_numbers(metric: str) -> dict[str, list[float]]:
    numbers: dict[str, list[float]] = {}
    for run in _results("book")["runs"].values():
        if run["patience"] == 50 and run["initialize"] == "data" and "failure" not in run:
            numbers.setdefault(run["prior"], []).append(run[metric])
    return numbers


def which_prior() -> str:
    """The table of decisions: what each prior gained where it was measured, with standard errors and seeds."""
    mnist, book = _results("static_mnist"), _book_numbers("test_nll")
    refitted, clusters = _results("refit")["mog"]["difference"], _results("clusters")["digits"]
    levels = {(one["prior"], one["dims"]): one["nll"] for one in _results("levels") if one["data"] == "digits"}
    exemplar, resampled = _results("exemplar")["digits"], _results("resampled")[0]
    gtm = next(one for one in _results("maps") if (one["data"], one["map"]) == ("digits", "GTM, near mode"))
    gained = _mean_se(_differences(book["standard"], book["gtm-vamp"]))
    second_level = _mean_se(_differences(levels["vamp", "16"], levels["vamp", "8 + 8"]))
    against_standard = mean(_differences(levels["vamp", "8 + 8"], levels["standard", "16"]))
    exemplar_loss = exemplar["exemplar"]["nll"] - exemplar["standard"]["nll"]
    rows = [
        ("A likelihood as good as possible, many rows", "`vamp`", _mnist_gain(mnist, "vamp")),
        ("A map of the data, and a good likelihood", "`gtm-vamp`", _mnist_gain(mnist, "gtm-vamp")),
        (
            "A baseline; very few rows, or two latent dimensions",
            "`standard`",
            f"Digits, 2 latent dimensions, 5 seeds: the NLL of `gtm-vamp` is lower by {gained} nats: no clear gain",
        ),
        (
            "A better prior for a model that is trained already",
            "`priory refit` with `mog`",
            f"Digits, 8 latent dimensions, 1 seed: NLL lower by {_value_se(refitted['nll'], -1)} nats, "
            f"ELBO higher by {_value_se(refitted['elbo'])}",
        ),
        (
            "More likelihood than one level of `vamp`; training may take twice as long",
            "`vamp` with `--levels 2`",
            f"Digits, 2 seeds: NLL lower by {second_level} nats than one level: no clear gain, and higher by "
            f"{against_standard:.1f} than `standard`. The paper has 83.19 instead of 85.57 nats on static MNIST",
        ),
        (
            "More likelihood on top of any prior; sampling may be slow",
            "`resampled`",
            "Digits, 8 latent dimensions, 1 seed: NLL lower than that of `standard` by "
            f"{-resampled['resampled on standard']['nll difference']['value']:.1f} nats; by "
            f"{_value_se(resampled['standard, then resampled']['nll difference'], -1)} if fitted after training",
        ),
        (
            "Clusters, and their number is unknown",
            "`vamp-mixture`",
            f"Digits: {clusters['VampPrior mixture']['clusters']} clusters; normalized mutual information with the "
            f"class {clusters['VampPrior mixture']['nmi']:.2f} (k-means with the true number of clusters: "
            f"{clusters['k-means']['nmi']:.2f})",
        ),
        (
            "New rows that vary one given row",
            "`exemplar`",
            f"Digits, 3 seeds: NLL higher by {exemplar_loss:.1f} nats than `standard`; take it for its draws",
        ),
        (
            "A map of a table in seconds, with missing cells",
            "`priory gtm fit`",
            f"Digits: {gtm['s']:.1f} seconds; 10-NN accuracy on the map {gtm['places']['map']['10-NN accuracy']:.2f}. "
            "[The classical GTM](/gtm.md) has no encoder and no decoder network",
        ),
    ]
    return (
        "\n".join(["| you want | take | measured |", "|---|---|---|", *(f"| {' | '.join(row)} |" for row in rows)])
        + "\n"
    )


def _mnist_gain(mnist: dict[str, Any], prior: str) -> str:
    """NLL and ELBO against the standard normal. The errors are those of unpaired differences, so they are too large."""
    one, other = mnist[prior], mnist["standard"]
    nll = f"{other['nll'] - one['nll']:.1f} ± {hypot(one['nll_se'], other['nll_se']):.1f}"
    bound = f"{one['elbo'] - other['elbo']:.1f} ± {hypot(one['elbo_se'], other['elbo_se']):.1f}"
    return (
        f"Static MNIST, 40 latent dimensions, 1 seed: NLL lower by {nll} nats than `standard`, ELBO higher by {bound}"
    )


def _differences(these: list[float], those: list[float]) -> list[float]:
    return [this - that for this, that in zip(these, those, strict=True)]


def _value_se(difference: dict[str, float], sign: int = 1) -> str:
    return f"{sign * difference['value']:.2f} ± {difference['se']:.2f}"


def _mean_se(values: list[float]) -> str:
    return f"{mean(values):.1f} ± {stdev(values) / len(values) ** 0.5:.1f}"


def _results(name: str) -> Any:
    return json.loads((RESULTS / f"{name}.json").read_text(encoding="utf-8"))
