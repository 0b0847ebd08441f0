"""The GTM benchmark: its metrics, compared with other computations; its tables and records."""

import doctest
import importlib
import json
import math
from pathlib import Path
from types import ModuleType, SimpleNamespace

import numpy as np
import pytest
import torch
from scipy.integrate import trapezoid
from torch.distributions import Categorical, Independent, MixtureSameFamily, Normal

pytest.importorskip("sklearn")
pytest.importorskip("threadpoolctl")

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"
NAMES = ["_map_judging", "_gtm_packages", "_gtm_report"]


def _module(name: str) -> ModuleType:
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(BENCHMARKS))
        return importlib.import_module(name)


def _sheet(num_rows: int, num_columns: int) -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(0)
    return random.normal(size=(num_rows, num_columns)), random.normal(size=(9, num_columns))


@pytest.mark.parametrize("num_columns", [1, 3, 784])
@pytest.mark.parametrize("noise_variance", [1e-3, 2.0])
def test_true_likelihood_equals_that_of_a_mixture(num_columns: int, noise_variance: float) -> None:
    x, means = _sheet(1234, num_columns)
    loc, scale = torch.from_numpy(means), torch.full(means.shape, noise_variance**0.5, dtype=torch.float64)
    p_x = MixtureSameFamily(Categorical(logits=torch.zeros(9).double()), Independent(Normal(loc, scale), 1))
    expected = float(p_x.log_prob(torch.from_numpy(x)).mean())
    assert _module("_map_judging").true_log_likelihood(x, means, noise_variance) == pytest.approx(expected, rel=1e-11)


def test_true_likelihood_of_standardized_rows_integrates_to_one() -> None:
    x = np.linspace(-60, 60, 4001)[:, None]
    means = np.array([[-1.0], [0.5], [2.0]])
    log_density = [_module("_map_judging").true_log_likelihood(row[None], means, 0.3, 4.0, 7.0) for row in x]
    assert trapezoid(np.exp(log_density), x[:, 0]) == pytest.approx(1.0, abs=1e-9)


def test_likelihood_of_a_failed_fit_is_nan() -> None:
    judging = _module("_map_judging")
    assert math.isnan(judging.true_log_likelihood(np.zeros((2, 1)), np.full((3, 1), np.nan), 1.0))
    assert math.isnan(judging.true_log_likelihood(np.zeros((2, 1)), np.zeros((3, 1)), math.nan))


def test_trustworthiness_by_blocks_equals_scikit_learns(monkeypatch: pytest.MonkeyPatch) -> None:
    from sklearn.manifold import trustworthiness

    judging = _module("_map_judging")
    monkeypatch.setattr(judging, "ROWS_AT_ONCE", 37)
    x = np.random.default_rng(1).normal(size=(250, 6))
    coordinates = x[:, :2] + 0.5 * np.random.default_rng(2).normal(size=(250, 2))
    assert judging.trustworthiness(x, coordinates) == pytest.approx(trustworthiness(x, coordinates, n_neighbors=10))
    assert judging.continuity(x, coordinates) == pytest.approx(trustworthiness(coordinates, x, n_neighbors=10))


def test_settings_match_the_basis_of_our_gtm() -> None:
    packages = _module("_gtm_packages")
    x = np.random.default_rng(0).normal(size=(60, 4)) @ np.diag([3.0, 2.0, 1.0, 0.5])
    settings = packages.Settings(points_per_side=4, basis_per_side=3, basis_width=1.5, iterations=7)
    gtm = packages.PRIORY.fit(x, settings)
    assert (gtm.n_iter_, gtm.basis_.width) == (7, pytest.approx(1.5 * settings.spacing))
    model = packages.PRIORY.read(gtm, x)
    assert _module("_map_judging").true_log_likelihood(x, model.means, model.noise_variance) == pytest.approx(
        model.claim(), rel=1e-10
    )
    assert settings.decay_of(x) == pytest.approx(settings.weight_decay / np.mean((x - x.mean(0)) ** 2))


def test_report_has_tables_and_exponents() -> None:
    report = _module("_gtm_report")
    growth = [{"varies": "N", "N": n, "D": 50, "K": 400, "s an iteration": 2e-6 * n} for n in (1000, 10_000, 100_000)]
    text = report.report({"growth": growth, "speed": []})
    assert "| N | 100,000 | 50 | 400 | 0.2 |" in text
    assert "as N^1.00, over the larger half as N^1.00" in text
    assert "Speed" not in text


def test_sweep_averages_over_subsets_and_lists_the_best_first() -> None:
    numbers = dict.fromkeys(["log-likelihood", "trustworthiness", "10-NN accuracy", "iterations", "s"], 1.0)
    worse = [{"data": "digits", "cell": "a", "subset": s} | numbers | {"trustworthiness": 0.9 + s} for s in (0, 0.01)]
    better = [{"data": "digits", "cell": "b", "subset": 0} | numbers | {"trustworthiness": 0.95}]
    rows = _module("_gtm_report").sweep_rows([*worse, *better])
    assert [row["cell"] for row in rows] == ["b", "a"]
    assert (rows[1]["subsets"], rows[1]["trustworthiness"]) == (2, "0.9050 ± 0.0050")


def test_sweep_continues_from_its_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sweep = _module("_gtm_sweep")
    calls = []

    def fit_and_judge(split, cell, subset):
        calls.append((json.dumps(cell), subset))
        return dict.fromkeys(["log-likelihood", "trustworthiness", "10-NN accuracy", "iterations", "s"], 0.5)

    monkeypatch.setattr(sweep, "fit_and_judge", fit_and_judge)
    monkeypatch.setattr(sweep, "training_rows", lambda data, data_dir: None)
    path = tmp_path / "sweep.csv"
    first = sweep.sweep(path, ["digits"], None, subsets=1)
    again = sweep.sweep(path, ["digits"], None, subsets=2)
    assert len(calls) == len(set(calls)) == len(again) == 2 * len(first) == 2 * len(list(sweep.cells()))
    assert again[0]["trustworthiness"] == 0.5


def test_script_keeps_existing_rows_and_handwritten_text(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    gtm = _module("gtm")
    calls = []

    def speed(package, data_dir, number, repeats):
        calls.append((package.name, number))
        return {"package": package.label, "threads": number, "s": 1.5, "remark": package.remark}

    package = SimpleNamespace(name="ugtm", label="other 1.0", remark="", installed=True)
    missing = SimpleNamespace(name="pygtm", installed=False)
    monkeypatch.setattr(gtm, "PACKAGES", [package, missing])
    monkeypatch.setattr(gtm, "speed", speed)
    out = tmp_path / "results" / "gtm.json"
    gtm.main(["--parts", "speed", "--threads", "1", "--out", str(out)])
    table = out.with_suffix(".md")
    table.write_text(table.read_text() + "By hand.\n")
    gtm.main(["--parts", "speed", "--out", str(out)])
    assert calls == [("ugtm", 1), ("ugtm", 2)]
    assert "| other 1.0 | 2 | 1.5 |" in table.read_text()
    assert table.read_text().endswith("By hand.\n")
    gtm.main(["--parts", "speed", "--again", "--out", str(out)])
    assert calls == 2 * [("ugtm", 1), ("ugtm", 2)]
    assert len(json.loads(out.read_text())["speed"]) == 2
    assert "pygtm: not installed, skipped" in capsys.readouterr().out
    with pytest.raises(SystemExit, match="choose another file"):
        gtm.main(["--quick"])


@pytest.mark.parametrize("name", NAMES)
def test_examples_in_docstrings_are_correct(name: str) -> None:
    results = doctest.testmod(_module(name))
    assert results.attempted > 0
    assert results.failed == 0
