"""What each command does and says."""

import re
import shlex
import sys
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
import typer

from priory import experiment
from priory.assembly import check_name
from priory.datasets import RULE, Dataset, LikelihoodProposal, Rows, check_output, write_rows
from priory.evaluation import Estimate, LowEffectiveSampleSizeWarning
from priory.locking import sole_writer
from priory.memory import require_memory
from priory.messages import shortened
from priory.priors import PRIORS, GridPrior
from priory.runs import CONFIG, HISTORY, METRICS, MODEL, Run, model_stamp
from priory.settings import RunSettings, override, validated
from priory.stored import metrics_tree
from priory.terminal import console, errors, print_json, row_progress, show_metrics
from priory.training import NonFiniteLossError, process_rank
from priory.training.settings import TrainingSettings
from priory.training.states import STATE_FILE
from priory.training.trainer import SIGTERM_EXIT
from priory.vae import VAE

MACHINE = ("training.accelerator", "training.devices", "training.strategy")  # may change when a run goes on
EPOCHS = "training.epochs"  # may grow
SAME_AGAIN = "give the same command again; what is finished is not done again"
EVALUATION_SEED = 0
SAMPLE_BYTES = 3 * 4  # bytes of a sampled number: in parts, together, and as it is written


def fit_run(
    given: Mapping[str, Any],
    grid: str | None,
    assignments: list[str],
    out: Path | None,
    resume: bool,
    num_samples: int | None,
    tensorboard: bool,
) -> None:
    """`priory fit`."""
    given = {**given, **_grid(grid)}
    settings = _settings(RunSettings(), given, assignments)
    check_name("--prior", settings.model.prior, PRIORS)
    out = out or Path("runs") / f"{Path(settings.data.source).name.split('.')[0]}-{settings.model.prior}"
    if process_rank() > 0:  # the first process has written the configuration, and says and writes everything
        run = Run.open(out)
        experiment.train(run, run.load_dataset(), resume=resume)
        return
    with _saying_how_to_go_on(out), _run_to_fit(settings, given, assignments, out, resume) as (run, dataset):
        _fit(run, dataset, resume, num_samples, tensorboard)


@contextmanager
def _run_to_fit(
    settings: RunSettings, given: Mapping[str, Any], assignments: list[str], out: Path, resume: bool
) -> Iterator[tuple[Run, Dataset]]:
    """The run that was asked for, its folder held against other processes."""
    if resume and (out / CONFIG).exists():
        with sole_writer(out):
            yield _resumed(out, given, assignments)
        return
    if given["data.source"] is None:
        raise ValueError(
            f"--resume: {out} holds no run yet; give DATA to begin one, or check --out"
            if resume
            else "DATA: expected a file or an embedded data set, such as: priory fit digits --out runs/first"
        )
    with experiment.new_run(settings, out) as (run, dataset, proposal):
        _say_what_was_found(run, dataset, proposal)
        yield run, dataset


@contextmanager
def _saying_how_to_go_on(out: Path, line: str | None = None) -> Iterator[None]:
    """An interruption, and a training that failed, end with what to do next: the line, or what `out` asks for."""
    try:
        yield
    except KeyboardInterrupt:
        errors.print(f"interrupted; {line or _how_to_go_on(out)}", markup=False)
        raise
    except SystemExit as stop:
        if stop.code == SIGTERM_EXIT:
            errors.print(f"terminated; {line or _how_to_go_on(out)}", markup=False)
        raise
    except NonFiniteLossError as error:
        error.add_note(_what_a_failure_left(out))
        raise


def _how_to_go_on(out: Path) -> str:
    if not (out / CONFIG).exists():
        return "no run was begun yet; give the same command again"
    return f"go on with: {Run.open(out).resume_line}"


def _what_a_failure_left(out: Path) -> str:
    run = Run.open(out)
    kept = f"the epochs before it are kept: priory evaluate {shlex.quote(str(out))}" if run.begun else "nothing is kept"
    rate = run.settings.training.learning_rate
    return (
        f"{out}: {kept}. --resume would fail again, because a run's settings are fixed; begin another one, with "
        f"another --out and for example --set training.learning_rate={rate / 10:g}"
    )


def _fit(run: Run, dataset: Dataset, resume: bool, num_samples: int | None, tensorboard: bool) -> None:
    """Train, evaluate, draw."""
    vae = experiment.train(run, dataset, resume=resume, progress=errors.is_terminal, tensorboard=tensorboard)
    if num_samples is not None:
        rows = experiment.telling_rows(dataset)
        metrics = _evaluate(vae, rows, num_samples)
        run.write_metrics(metrics, num_samples, EVALUATION_SEED)
        show_metrics(metrics, f"{dataset.name}, {run.settings.model.prior} prior: {len(rows)} rows, nats per row")
    pictures = experiment.draw(run, vae, dataset)
    _say_what_was_written(run, vae, pictures)


def evaluate_run(
    path: Path, data: str | None, num_samples: int, seed: int, device: str, reading: dict[str, Any], as_json: bool
) -> None:
    """`priory evaluate`."""
    stamp = model_stamp(path)
    run, vae = _model(path, device)
    rows = _rows(run, data, reading, experiment.telling_rows)
    if len(rows) < 2:
        raise ValueError(
            f"{rows.dataset.origin}: expected at least two rows to evaluate, for a standard error, got {len(rows)}; "
            f"give more, or ask for the row's log-likelihood: priory score {shlex.quote(str(path))} DATA"
        )
    metrics = _evaluate(vae, rows, num_samples, seed)
    if as_json:
        print_json(metrics_tree(metrics, num_samples, seed))
    else:
        show_metrics(metrics, f"{data or run.settings.data.source}: {len(rows)} rows, nats per row")
    if data is None and stamp is not None:  # after the numbers were said: the folder may not be one to write to
        _keep_metrics(run, stamp, metrics, num_samples, seed)


def _keep_metrics(run: Run, stamp: object, metrics: dict[str, Estimate], num_samples: int, seed: int) -> None:
    """Write the metrics of the model with this stamp, unless the run is being trained, or has been, in the meantime."""
    try:
        with sole_writer(run.path):
            if model_stamp(run.path) == stamp:
                run.write_metrics(metrics, num_samples, seed)
                return
            reason = "the run has been trained on since"
    except BlockingIOError as error:
        reason = str(error.strerror)
    errors.print(f"note: {run.path / METRICS} was not written: {reason}", markup=False)


def sample_run(path: Path, number: int, out: Path, seed: int, mean: bool, device: str) -> None:
    """`priory sample`."""
    check_output(out)
    run, vae = _model(path, device)
    require_memory(SAMPLE_BYTES * number * len(run.columns), f"-n {number}: {number} samples", "take fewer at a time")
    torch.manual_seed(seed)
    chunks = [vae.sample(min(1024, number - start), mean=mean).cpu() for start in range(0, number, 1024)]
    x = run.restored(torch.cat(chunks)).numpy()
    ids = np.array([f"sample-{i}" for i in range(number)])
    if out.suffix == ".npz":
        write_rows(out, ids=ids, columns={}, arrays={"x": x})
    else:
        write_rows(out, ids=ids, columns=dict(zip(run.columns, x.T, strict=True)))
    console.print(f"{number} samples: {out}")


def embed_run(path: Path, data: str | None, out: Path, copy: bool, device: str, reading: dict[str, Any]) -> None:
    """`priory embed`."""
    template, ids_column = _template(path, data, out, copy, reading)
    run, vae = _model(path, device)
    rows = _rows(run, data, reading, Dataset.all_rows)
    arrays = experiment.embed(vae, rows)
    columns = {} if template else _kept(rows, run, data, taken=("id", "ids", *arrays))
    write_rows(out, ids=rows.ids, columns=columns, arrays=arrays, template=template, ids_column=ids_column)
    what = ", ".join(f"{name} {values.shape}" for name, values in arrays.items())
    console.print(f"{len(rows)} rows ({what}): {out}")


def score_run(
    path: Path,
    data: str | None,
    out: Path,
    num_samples: int,
    seed: int,
    copy: bool,
    device: str,
    reading: dict[str, Any],
) -> None:
    """`priory score`."""
    template, ids_column = _template(path, data, out, copy, reading)
    run, vae = _model(path, device)
    rows = _rows(run, data, reading, Dataset.all_rows)
    with row_progress("score", len(rows)) as progress:
        scores = experiment.score(vae, rows, num_samples, seed, progress=progress)
    columns = {"log_likelihood": scores}
    if template is None:
        columns |= _kept(rows, run, data, taken=("id", "ids", "log_likelihood"))
    write_rows(out, ids=rows.ids, columns=columns, template=template, ids_column=ids_column)
    lowest = ", ".join(f"{rows.ids[i]} ({scores[i]:.1f})" for i in np.argsort(scores)[:5])
    console.print(f"{len(rows)} rows scored: {out}\nlowest log-likelihoods in nats: {lowest}")


def compare_runs(
    given: dict[str, Any], assignments: list[str], priors: str, seeds: int, num_samples: int, out: Path
) -> None:
    """`priory compare`."""
    from priory.comparison import TABLE, comparison_table, finished_metrics

    names = list(PRIORS) if priors == "all" else [name.strip() for name in priors.split(",") if name.strip()]
    if not names:
        raise ValueError(f"--priors {priors!r}: expected names with commas between them, or all; see: priory priors")
    for name in names:
        check_name("--priors", name, PRIORS)
    results: dict[str, list[dict[str, Estimate]]] = {name: [] for name in names}
    for seed in range(seeds):
        for name in names:
            settings = _settings(RunSettings(), {**given, "model.prior": name, "seed": seed}, assignments)
            folder = out / f"{name}-{seed}"
            metrics = finished_metrics(folder, settings, num_samples, EVALUATION_SEED)
            if metrics is None:
                with _saying_how_to_go_on(folder, SAME_AGAIN):
                    metrics = _compared(folder, settings, num_samples)
                errors.print(f"{name}, seed {seed}: nll {metrics['nll'].value:.2f}")
            results[name].append(metrics)
    table = comparison_table(results, out / TABLE)
    console.print(table)
    console.print(f"runs and {TABLE}: {out}")


def check_target(
    target: str, encoder: str | None, reference: str | None, single: str | None, seed: int, as_json: bool
) -> None:
    """`priory check`."""
    from priory.conformance import check_prior

    sys.path.insert(0, str(Path.cwd()))  # as `python -m` does: one's own module, where one stands
    try:
        report = check_prior(target, encoder=encoder, reference=reference, single=single, seed=seed)
    except TypeError as error:
        raise ValueError(str(error)) from error
    if as_json:
        print_json({**asdict(report), "passed": report.passed})
    else:
        console.print(str(report), markup=False)
    if not report.passed:
        raise typer.Exit(1)


def _compared(folder: Path, settings: RunSettings, num_samples: int) -> dict[str, Estimate]:
    with _run_to_compare(folder, settings) as (run, dataset):
        vae = experiment.train(run, dataset, resume=True, progress=errors.is_terminal)
        metrics = _evaluate(vae, experiment.telling_rows(dataset), num_samples)
        run.write_metrics(metrics, num_samples, EVALUATION_SEED)
    return metrics


@contextmanager
def _run_to_compare(folder: Path, settings: RunSettings) -> Iterator[tuple[Run, Dataset]]:
    if (folder / CONFIG).exists():
        with sole_writer(folder):
            run = Run.open(folder)
            yield run, run.load_dataset()
        return
    with experiment.new_run(settings, folder) as (run, dataset, _):
        yield run, dataset


def _evaluate(vae: VAE, rows: Rows, num_samples: int, seed: int = EVALUATION_SEED) -> dict[str, Estimate]:
    with row_progress("evaluate", len(rows)) as progress, warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", LowEffectiveSampleSizeWarning)
        metrics = experiment.measure(vae, rows, num_samples, seed, progress)
    for warning in caught:
        if issubclass(warning.category, LowEffectiveSampleSizeWarning):
            errors.print(f"[yellow]note:[/] {warning.message} (--samples {8 * num_samples})")
        else:
            warnings.warn_explicit(warning.message, warning.category, warning.filename, warning.lineno)
    return metrics


def _settings(base: RunSettings, given: Mapping[str, Any], assignments: list[str]) -> RunSettings:
    """Options over the base, then `--set` over both."""
    tree = base.model_dump()
    for path, value in given.items():
        if value is None:
            continue
        branch = tree
        *parents, name = path.split(".")
        for parent in parents:
            branch = branch[parent]
        branch[name] = value
    return override(validated(tree), assignments)


def _resumed(out: Path, given: Mapping[str, Any], assignments: list[str]) -> tuple[Run, Dataset]:
    run = Run.open(out)
    wanted = _settings(run.settings, given, assignments)
    changed = experiment.changed_settings(run.settings.model_dump(), wanted.model_dump())
    if not set(changed) <= {*MACHINE, EPOCHS}:
        raise ValueError(
            f"--resume: {out} was begun with other values of {', '.join(changed)}; leave these options out, or start "
            "another run with another --out"
        )
    if EPOCHS in changed:
        _check_more_epochs(run, wanted.training)
        run = run.lengthened(wanted.training.epochs)
    console.print(f"{out}: going on")
    return replace(run, settings=wanted), run.load_dataset()  # another machine, the same run


def _check_more_epochs(run: Run, now: TrainingSettings) -> None:
    """Refuse another number of epochs where the run would not be what it had been with that number from its start."""
    out, was = run.path, run.settings.training
    if run.finished and not run.has_state:
        raise ValueError(f"--epochs {now.epochs}: {out} has no {STATE_FILE} to go on from; start another run")
    if now.epochs < was.epochs:
        raise ValueError(
            f"--epochs {now.epochs}: {out} was begun with {was.epochs}, and --resume goes on to that many or more"
        )
    if not was.independent_of_epochs():
        raise ValueError(
            f"--epochs {now.epochs}: {out} was begun with {was.epochs} and training.schedule={was.schedule}, "
            f"training.warmup={was.warmup}; --resume can go on for longer where the schedule is constant and the "
            "warm-up a number of steps (--warmup 1000), because only then does the course of the first epochs not "
            "depend on how many follow; start another run with another --out"
        )


def _grid(text: str | None) -> dict[str, int]:
    if text is None:
        return {}
    sides = text.lower().split("x")
    if not re.fullmatch("[1-9][0-9]{0,5}", sides[0]) or len(set(sides)) != 1:
        raise ValueError(f"--grid {shortened(text)}: expected equal sides such as 10x10, or 5x5x5 for three dimensions")
    return {"model.points_per_side": int(sides[0]), "model.grid_dim": len(sides) if len(sides) > 1 else 2}


def _model(path: Path, device: str) -> tuple[Run, VAE]:
    run = Run.open(path)
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        torch.zeros(1, device=device).item()  # of the device meta, which holds no numbers, too
    except (RuntimeError, AssertionError) as error:
        reason = shortened(str(error))
        raise ValueError(
            f"--device {device}: expected auto, cpu or a device that torch sees; torch: {reason}"
        ) from error
    vae = run.load_model().to(device)
    if not run.finished:
        errors.print(f"training has not ended: these are the best weights so far; {_how_to_go_on(path)}", markup=False)
    return run, vae


def _rows(run: Run, data: str | None, reading: dict[str, Any], choose: Any) -> Rows:
    if data is None:
        return choose(run.load_dataset(drawn=True))
    return run.load_table(data, **reading).all_rows()


def _kept(rows: Rows, run: Run, data: str | None, taken: Sequence[str]) -> dict[str, np.ndarray]:
    """The split and the labels of the rows, for an output file whose columns `taken` are spoken for."""
    labels = {f"label_{name}" if name in (*taken, "split") else name: column for name, column in rows.labels.items()}
    return {"split": _split_of(rows, run, data), **labels}


def _split_of(rows: Rows, run: Run, data: str | None) -> np.ndarray:
    """The split of each row of the run's own data; nothing for other data."""
    names = np.full(len(rows), "new", dtype="U5")
    source = run.settings.data.source
    if data is None or data == source or str(Path(data).resolve()) == source:
        for name, index in run.splits.items():
            names[np.isin(rows.indices, index)] = name
    return names


def _template(
    path: Path, data: str | None, out: Path, copy: bool, reading: dict[str, Any]
) -> tuple[Path | None, str | None]:
    """The file to write a copy of, and its column of ids; refuses what cannot be written, before any work."""
    options = Run.open(path).reading_options() | reading
    template = Path(data or options["source"]) if copy or out.suffix == ".h5ad" else None
    check_output(out, template)
    return template, options["ids"] if template else None


def _say_what_was_found(run: Run, dataset: Dataset, proposal: LikelihoodProposal) -> None:
    settings = run.settings
    sizes = ", ".join(f"{len(index)} {name}" for name, index in dataset.splits.items())
    console.print(f"[bold]{dataset.name}[/]: {dataset.summary().describe()}\nrows: {sizes}")
    if run.constants:
        number = f"{len(run.constants)} column{'s have' if len(run.constants) > 1 else ' has'}"
        shown = experiment.describe_constants(run.constants)
        console.print(f"left out of the model: {number} one value in all training rows ({shown})", markup=False)
    if settings.model.likelihood == proposal.likelihood:
        console.print(proposal.describe(), markup=False)
        console.print(RULE, style="dim", markup=False)
    else:
        console.print(f"likelihood: {settings.model.likelihood}, as asked (proposed: {proposal.likelihood})")
    console.print(f"prior: {settings.model.prior} ({PRIORS[settings.model.prior].summary})")


def _say_what_was_written(run: Run, vae: VAE, pictures: list[Path]) -> None:
    files = [name for name in (CONFIG, MODEL, METRICS, HISTORY) if (run.path / name).exists()]
    console.print(f"\nwritten to [bold]{run.path}[/]: {', '.join(files)}")
    console.print(f"figures: {', '.join(str(path.relative_to(run.path)) for path in pictures)}")
    what = "means, scales and map coordinates" if isinstance(vae.prior, GridPrior) else "means and scales"
    folder = shlex.quote(str(run.path))
    console.print(f"next: priory embed {folder} --out z.csv   ({what} of every row)")
    console.print(f"      priory sample {folder} -n 100 --out x.npz   (new data)")
    if run.settings.model.latent_dim == 2:
        console.print("      priory fit ... --latent-dim 16   (a better likelihood; 2 is for pictures)")
