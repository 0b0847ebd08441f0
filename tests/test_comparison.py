"""`priory compare`: differences for the same seeds and rows, failed runs, files and pictures."""

import csv
import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from scipy.stats import ttest_rel
from torch.distributions import Independent, Normal

from command_line import run_cli
from priory import VAE, BernoulliDecoder, DensityPrior, NormalEncoder, mlp
from priory.evaluation import Estimate
from priory.plots import plot_prior_contours
from priory.training import NonFiniteLossError
from priory.workbench.compare.cells import Cell, Finished, RowScores, read_row_scores, write_row_scores
from priory.workbench.compare.differences import paired_difference
from priory.workbench.compare.page import page_contents
from priory.workbench.compare.pictures import Shown, contours, draw_pictures
from priory.workbench.compare.results import Comparison
from priory.workbench.compare.tables import aligned, differences_table, means_table
from priory.workbench.data import load_dataset
from priory.workbench.jobs import vae as vae_jobs
from priory.workbench.settings.run import RunSettings

SIZE = ("--samples", 2, "--epochs", 1, "--set", "model.hidden=[8]", "--set", "training.batch_size=500")
GRID = ("--latent-dim", 2, "--set", "model.points_per_side=3")
NO_PICTURES = ("--latent-dim", 3, "--no-report")  # a latent space of three dimensions has no picture without a grid


def compare(out: Path, *more: object) -> int:
    return run_cli("compare", "digits", *SIZE, *more, "--out", out)


def content_of(out: Path) -> dict[str, Any]:
    return json.loads((out / "comparison.json").read_text(), parse_constant=pytest.fail)


@pytest.fixture(scope="module")
def compared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Compare two priors with two seeds, without pages; return the folder."""
    out = tmp_path_factory.mktemp("compared") / "all"
    assert compare(out, "--priors", "gtm,standard", *GRID, "--seeds", 2, "--no-report") == 0
    return out


# --- differences ------------------------------------------------------------------------------------------------------


def explicit(ours: list[np.ndarray], theirs: list[np.ndarray]) -> tuple[float, float, float]:
    """Return the mean difference and its standard errors over seeds and over rows, by loops in float64."""
    seeds, rows = len(ours), len(ours[0])
    gaps = [[float(ours[s][n]) - float(theirs[s][n]) for n in range(rows)] for s in range(seeds)]
    value = sum(gap for line in gaps for gap in line) / (seeds * rows)
    of_seeds = [sum(line) / rows for line in gaps]
    of_rows = [sum(gaps[s][n] for s in range(seeds)) / seeds for n in range(rows)]
    errors = []
    for means in (of_seeds, of_rows):
        spread = sum((mean - value) ** 2 for mean in means) / (len(means) - 1)
        errors.append(math.sqrt(spread / len(means)))
    return value, errors[0], errors[1]


def scores(generator: np.random.Generator, seeds: int, rows: int, gap: float) -> list[np.ndarray]:
    """Return scores whose rows differ by tens of nats in the same way for all models, plus small noise."""
    hardness = 100 + 20 * np.random.default_rng(1).normal(size=rows)
    return [hardness + gap + generator.normal() + 0.5 * generator.normal(size=rows) for _ in range(seeds)]


def test_a_difference_agrees_with_loops_and_scipys_paired_test() -> None:
    generator = np.random.default_rng(0)
    ours, theirs = scores(generator, 5, 40, -1.0), scores(generator, 5, 40, 0.0)
    difference = paired_difference(ours, theirs)
    assert (difference.value, difference.se_seeds, difference.se_rows) == pytest.approx(
        explicit(ours, theirs), rel=1e-12
    )
    seeds = ttest_rel([rows.mean() for rows in ours], [rows.mean() for rows in theirs])
    rows = ttest_rel(np.mean(ours, axis=0), np.mean(theirs, axis=0))
    assert difference.se_seeds == pytest.approx(difference.value / seeds.statistic)
    assert difference.se_rows == pytest.approx(difference.value / rows.statistic)
    assert (difference.over, difference.se) == ("seeds", difference.se_seeds)
    interval = seeds.confidence_interval(0.95)
    assert difference.value + difference.half_interval * np.array([-1, 1]) == pytest.approx(
        [interval.low, interval.high]
    )
    unpaired = math.hypot(np.mean(ours, axis=0).std(ddof=1), np.mean(theirs, axis=0).std(ddof=1)) / math.sqrt(40)
    assert difference.se_rows < unpaired / 20


def test_the_error_for_one_seed_is_over_rows() -> None:
    generator = np.random.default_rng(2)
    ours, theirs = scores(generator, 1, 40, 0.5), scores(generator, 1, 40, 0.0)
    difference = paired_difference(ours, theirs)
    assert math.isnan(difference.se_seeds)
    assert math.isnan(difference.half_interval)
    assert (difference.over, difference.se) == ("rows", difference.se_rows)
    assert difference.se == pytest.approx(difference.value / ttest_rel(ours[0], theirs[0]).statistic)


@pytest.mark.parametrize(("ours", "theirs"), [([3], [3, 3]), ([3], [4]), ([], [])])
def test_differences_of_other_rows_are_refused(ours: list[int], theirs: list[int]) -> None:
    with pytest.raises(ValueError, match="expected the same seeds and rows on both sides"):
        paired_difference([np.zeros(n) for n in ours], [np.zeros(n) for n in theirs])


def made_up(nll: dict[str, list[float]], rows: dict[str, list[int]] | None = None) -> Comparison:
    """Return a comparison: two rows, NLL slightly above and below these values, ELBO 1 nat lower."""
    seeds = tuple(range(max(map(len, nll.values()))))
    comparison = Comparison(RunSettings(), tuple(nll), seeds, next(iter(nll)), 16, 0)
    for prior, values in nll.items():
        for seed, value in enumerate(values):
            index = np.array((rows or {}).get(prior, [7, 9]))
            spread = np.array([value - 3.0, value + 3.0])
            metrics = {"nll": Estimate(value, 3.0), "elbo": Estimate(-value - 1, 3.0)}
            metrics |= {"rate": Estimate(2.0 + seed, 0.1), "distortion": Estimate(value - 1.0 - seed, 0.1)}
            comparison.finished[Cell(prior, seed)] = Finished(metrics, RowScores(index, spread, -spread - 1))
    return comparison


def test_the_table_notes_that_the_baseline_failed() -> None:
    table = differences_table(made_up({"standard": [], "vamp": [9.0, 10.0]}))
    assert table is not None
    assert table.rows[0][:2] == ("vamp", "none in common")
    assert table.note == "no seed has finished runs of both, so there is nothing to compare"


def test_the_tables_state_which_prior_is_better() -> None:
    comparison = made_up(
        {"standard": [10.0, 12.0, 11.0], "vamp": [9.0, 10.0], "mog": [10.25, 12.25, 11.25], "flow": []}
    )
    comparison.failures[Cell("vamp", 2)] = "training stopped"
    lines = aligned(means_table(comparison)).splitlines()
    assert lines[0] == "2 rows, nats per row; mean ± standard error over seeds"
    assert [line.split("  ")[0] for line in lines[2:]] == ["standard", "vamp", "mog", "flow"]
    assert "11.00 ± 0.58" in lines[2]
    assert "2 of 3 seeds" in lines[3]
    assert "failed" in lines[5]
    table = differences_table(comparison)
    assert table is not None
    vamp, mog, flow = table.rows
    assert vamp == ("vamp", "2", "better by 1.500 ± 6.353", "0.000", "better by 1.500 ± 6.353", "0.000")  # 12.7 x 0.5
    assert mog == ("mog", "3", "worse by 0.250 ± 0.000", "0.000", "worse by 0.250 ± 0.000", "0.000")
    assert flow[:3] == ("flow", "none in common", "")
    assert "± 95 % interval over seeds" in table.title
    assert "95 % interval" in table.note
    one_seed = differences_table(made_up({"standard": [10.0], "vamp": [9.0]}))
    assert one_seed is not None
    assert "95" not in one_seed.title + one_seed.note
    assert one_seed.rows[0][2] == "better by 1.000"


def test_each_prior_with_a_finished_run_has_rate_and_distortion() -> None:
    places = made_up({"standard": [10.0, 12.0], "flow": [], "vamp": [9.0]}).rates_and_distortions()
    assert list(places) == ["standard", "vamp"]
    assert places["standard"] == (Estimate(2.5, 0.5), Estimate(9.5, 0.5))
    assert [estimate.value for estimate in places["vamp"]] == [2.0, 8.0]


def test_runs_with_other_rows_have_no_difference() -> None:
    comparison = made_up({"standard": [10.0], "vamp": [9.0]}, rows={"vamp": [7, 8]})
    with pytest.raises(ValueError, match="evaluated on the same rows"):
        comparison.differences("vamp")


# --- the command ------------------------------------------------------------------------------------------------------


def test_differences_equal_those_computed_from_the_row_scores(compared: Path) -> None:
    content = content_of(compared)
    assert (content["baseline"], content["seeds"], content["failures"]) == ("standard", [0, 1], [])
    assert content["evaluation"] == {"num_samples": 2, "seed": 0, "num_rows": 447}
    assert content["settings"]["model"]["likelihood"] == "categorical"
    assert content["priors"]["standard"]["against_baseline"] == {}
    archives = {cell.parent.name: np.load(cell) for cell in compared.glob("*/row_scores.npz")}
    assert len(archives) == 4
    for name, sign in (("nll", -1), ("elbo", 1)):
        ours, theirs = ([archives[f"{prior}-{seed}"][name] for seed in (0, 1)] for prior in ("gtm", "standard"))
        value, over_seeds, over_rows = explicit(ours, theirs)
        difference = content["priors"]["gtm"]["against_baseline"][name]
        assert difference["prior_minus_baseline"] == pytest.approx(value, rel=1e-9)
        assert difference["better_by"] == sign * difference["prior_minus_baseline"]
        assert (difference["se"], difference["se_over"]) == (difference["se_over_seeds"], "seeds")
        assert (difference["se_over_seeds"], difference["se_over_rows"]) == pytest.approx(
            (over_seeds, over_rows), rel=1e-9
        )
        assert difference["half_interval_95"] == pytest.approx(12.706204736 * over_seeds)  # Student, 1 degree
        values = [json.loads((compared / f"gtm-{s}" / "metrics.json").read_text())[name]["value"] for s in (0, 1)]
        assert np.mean([rows.mean() for rows in ours]) == pytest.approx(np.mean(values), rel=1e-6)


def test_the_csv_file_has_the_same_numbers(compared: Path) -> None:
    priors = content_of(compared)["priors"]
    with open(compared / "comparison.csv", newline="") as file:
        lines = {line["prior"]: line for line in csv.DictReader(file)}
    assert list(lines) == ["gtm", "standard"]
    assert float(lines["gtm"]["nll_se"]) == priors["gtm"]["mean"]["nll"]["se"]
    assert float(lines["gtm"]["elbo_better_by"]) == priors["gtm"]["against_baseline"]["elbo"]["better_by"]
    half = priors["gtm"]["against_baseline"]["nll"]["half_interval_95"]
    assert float(lines["gtm"]["nll_better_by_half_interval_95"]) == half
    assert lines["standard"]["nll_better_by"] == ""
    assert lines["gtm"]["seeds_finished"] == lines["gtm"]["seeds_planned"] == "2"


@pytest.mark.slow
def test_another_baseline_needs_no_training(compared: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = (compared / "comparison.json").read_bytes()
    stamps = {file: file.stat().st_mtime_ns for file in compared.glob("*/model.safetensors")}
    assert compare(compared, "--priors", "gtm,standard", *GRID, "--seeds", 2, "--baseline", "gtm", "--no-report") == 0
    captured = capsys.readouterr()
    assert "against gtm, same seeds and same rows" in captured.out
    assert "4 of 4 runs are finished already" in captured.err
    assert content_of(compared)["priors"]["standard"]["against_baseline"]["nll"]["per_seed"].keys() == {"0", "1"}
    assert {file: file.stat().st_mtime_ns for file in stamps} == stamps
    (compared / "gtm-1" / "row_scores.npz").unlink()
    assert compare(compared, "--priors", "gtm,standard", *GRID, "--seeds", 2, "--no-report") == 0
    assert "run 1 of 1: gtm, seed 1" in capsys.readouterr().err
    assert (compared / "comparison.json").read_bytes() == before


def test_a_baseline_must_be_among_the_priors(refused: Callable[..., str]) -> None:
    message = refused("compare", "digits", "--priors", "standard,vamp", "--baseline", "flow")
    assert "--baseline: expected one of the priors standard, vamp, got 'flow'" in message


def test_a_missing_file_is_refused_before_any_work(refused: Callable[..., str]) -> None:
    assert "nowhere.npz" in refused("compare", "nowhere.npz", "--priors", "standard,vamp")


# --- failures ---------------------------------------------------------------------------------------------------------


def test_a_failed_prior_does_not_lose_the_others(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    options = ("--priors", "vamp,standard", "--seeds", 1, *NO_PICTURES, "--set", "model.components=5000")
    assert compare(tmp_path, *options) == 1
    first = capsys.readouterr()
    assert "failed: vamp, seed 0: " in first.err
    assert "1 of 2 runs failed" in first.err
    assert first.err.endswith("to try again: give the same command again; finished work is not repeated\n")
    table = first.out.splitlines()
    assert [line.split()[:2] for line in table[2:4]] == [["vamp", "failed"], ["standard", "1"]]
    (failure,) = content_of(tmp_path)["failures"]
    assert (failure["prior"], failure["seed"]) == ("vamp", 0)
    assert "5000" in failure["message"]
    assert compare(tmp_path, *options) == 1
    second = capsys.readouterr()
    assert second.out == first.out
    assert "1 of 2 runs are finished already\nrun 1 of 1: vamp, seed 0\n" in second.err


@pytest.mark.slow
def test_failed_runs_are_tried_again(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    options = ("--priors", "standard", "--seeds", 3, *NO_PICTURES)
    diverged = NonFiniteLossError("training stopped", term="KL", group="prior", parameter=None, epoch=0, batch=1)
    fail_once(monkeypatch, "train", 2, torch.OutOfMemoryError("CUDA out of memory"))
    fail_once(monkeypatch, "measure", 2, ArithmeticError("expected finite numbers"))
    assert compare(tmp_path, *options) == 1
    assert "1 of 3 seeds" in capsys.readouterr().out
    content = content_of(tmp_path)
    assert content["priors"]["standard"]["seeds"] == [0]
    assert [(failure["seed"], failure["message"]) for failure in content["failures"]] == [
        (1, "CUDA out of memory"),
        (2, "expected finite numbers"),
    ]
    fail_once(monkeypatch, "train", 1, diverged)
    assert compare(tmp_path, *options) == 1
    (failure,) = content_of(tmp_path)["failures"]
    assert failure["message"].startswith("training stopped")
    assert "--set training.learning_rate=0.0001" in failure["message"]
    assert compare(tmp_path, *options) == 0
    assert content_of(tmp_path)["failures"] == []
    assert content_of(tmp_path)["priors"]["standard"]["seeds"] == [0, 1, 2]


def fail_once(monkeypatch: pytest.MonkeyPatch, name: str, which: int, error: Exception) -> None:
    """Let only the n-th call from now on of a job of `vae_jobs` fail."""
    whole, calls = getattr(vae_jobs, name), []

    def failing(*arguments: Any, **options: Any) -> Any:
        calls.append(name)
        if len(calls) == which:
            raise error
        return whole(*arguments, **options)

    monkeypatch.setattr(vae_jobs, name, failing)


def test_a_bug_is_not_recorded_as_a_failed_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def wrong(*_: Any, **__: Any) -> None:
        raise KeyError("ours")

    monkeypatch.setattr(vae_jobs, "train", wrong)
    with pytest.raises(KeyError, match="ours"):
        run_cli("compare", "digits", *SIZE, "--priors", "standard", "--seeds", 1, "--out", tmp_path)


# --- rows -------------------------------------------------------------------------------------------------------------


def test_row_scores_are_stored_exactly_and_estimated(tmp_path: Path) -> None:
    file = tmp_path / "row_scores.npz"
    written = RowScores(np.array([4, 2]), np.array([1.5, 2.5]), np.array([-2.0, -3.0]))
    assert read_row_scores(file, 8, 0) is None
    write_row_scores(file, written, 8, 0)
    read = read_row_scores(file, 8, 0)
    assert read is not None
    assert all(np.array_equal(a, b) for a, b in zip(read, written, strict=True))
    assert read_row_scores(file, 9, 0) is None
    assert read_row_scores(file, 8, 1) is None
    file.write_bytes(file.read_bytes()[:-40])
    assert read_row_scores(file, 8, 0) is None
    np.savez(file, row=np.array([{}]), nll=np.zeros(1), elbo=np.zeros(1), evaluation=np.array([8, 0]))
    assert read_row_scores(file, 8, 0) is None


# --- pictures and page ------------------------------------------------------------------------------------------------


def of(out: Path) -> Comparison:
    """Return the contents of the folder that pictures and pages need."""
    comparison = made_up({"standard": [10.0], "gtm": [8.0]})
    comparison.failures[Cell("flow", 0)] = "memory: there is not enough"
    assert all((out / cell.name).is_dir() for cell in comparison.finished)
    return comparison


def test_pictures_have_one_panel_for_each_prior_and_the_page_shows_them(compared: Path) -> None:
    pictures, notes = draw_pictures(of(compared), compared)
    assert [Path(picture.image).relative_to(compared) for picture in pictures] == [
        Path("figures/contours.png"),
        Path("figures/maps.png"),
        Path("figures/rate_distortion.png"),
    ]
    assert notes == []
    assert "447 rows" in pictures[0].caption
    (compared / "gtm-0" / "report.html").write_text("<p>")
    page = page_contents(of(compared), compared, pictures, ["a note"])
    (compared / "gtm-0" / "report.html").unlink()
    assert ("gtm, seed 0", "gtm-0/report.html") in page.links
    assert page.failures == ["flow, seed 0: memory: there is not enough"]
    assert [len(table.rows) for table in page.tables] == [2, 1]
    assert page.notes == ["a note"]
    assert dict(page.facts)["baseline"] == "standard"


@pytest.mark.slow
def test_every_run_has_a_page_and_the_comparison_links_to_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    options = ("--priors", "standard", "--seeds", 1, "--latent-dim", 3)
    assert compare(tmp_path, *options) == 0
    assert "page: " in capsys.readouterr().out
    page = (tmp_path / "report.html").read_text()
    assert 'href="standard-0/report.html"' in page
    assert "<h1>digits: standard</h1>" in page
    of_run = tmp_path / "standard-0" / "report.html"
    before = of_run.stat().st_mtime_ns
    assert 'id="map-data"' in of_run.read_text()
    assert compare(tmp_path, *options) == 0
    assert of_run.stat().st_mtime_ns == before  # an existing page is not made again


@pytest.mark.parametrize(("scale", "alike"), [(2.0, True), (10.0, False)])
def test_panels_have_the_same_window_unless_one_latent_space_is_much_wider(scale: float, alike: bool) -> None:
    drawing = contours([shown("standard", 1.0), shown("vamp", scale)])
    assert not isinstance(drawing, str)
    (legend,) = drawing.figure.legends
    assert legend.get_title().get_text() == "digit (rows)"
    assert drawing.figure.axes[1].get_title() == "vamp, seed 0"
    limits = [(panel.get_xlim(), panel.get_ylim()) for panel in drawing.figure.axes]
    assert (limits[0] == limits[1]) == alike
    assert ("all panels have the same axes" in drawing.caption) == alike
    assert limits[1][0][0] < -2 * scale < 2 * scale < limits[1][0][1]


def shown(name: str, scale: float) -> Shown:
    """Return a model whose prior and codes have this scale in a latent space of two dimensions."""
    prior = DensityPrior(Independent(Normal(torch.zeros(2), torch.full((2,), scale)), 1))
    vae = VAE(NormalEncoder(mlp(64, [4], 4)), BernoulliDecoder(mlp(2, [4], 64)), prior)
    rows = load_dataset("digits").rows("test")
    means = scale * np.random.default_rng(0).normal(size=(len(rows), 2)).astype(np.float32)
    return Shown(Cell(name, 0), vae, rows, {"z_mean": means})


def test_a_sentence_explains_the_missing_picture_if_there_are_not_two_dimensions(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert compare(tmp_path, "--priors", "standard", "--seeds", 1, *NO_PICTURES) == 0
    output = capsys.readouterr().out
    assert "contours of the priors are left out: they need --latent-dim 2, but these runs have 3" in output
    assert "maps are left out" in output
    assert output.endswith("figures: figures/rate_distortion.png\n")
    assert "against" not in output


def test_panels_show_the_requested_window() -> None:
    prior = Independent(Normal(torch.zeros(2), torch.ones(2)), 1)
    axes = plot_prior_contours(prior, torch.randn(50, 2), window=(np.array([-5.0, -4.0]), np.array([5.0, 6.0])))
    assert (axes.get_xlim(), axes.get_ylim()) == ((-5.0, 5.0), (-4.0, 6.0))
    with pytest.raises(ValueError, match="window: expected the lower left and the upper right corner"):
        plot_prior_contours(prior, torch.randn(50, 2), window=(np.array([5.0, -4.0]), np.array([-5.0, 6.0])))
