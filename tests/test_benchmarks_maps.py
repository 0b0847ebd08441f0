"""The benchmark of maps: positions compared with loops; runs, tables and records."""

import doctest
import importlib
import json
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch

from priory import VAE, BernoulliDecoder, GTMPrior, NormalEncoder, latent_grid, load_dataset, mlp

pytest.importorskip("sklearn")
pytest.importorskip("lightning")

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"
NAMES = ["_maps_report", "_maps_variants"]
QUALITY = {"10-NN accuracy": 0.9, "trustworthiness": 0.95, "continuity": 0.9}


def _module(name: str) -> ModuleType:
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(BENCHMARKS))
        return importlib.import_module(name)


def _vae_with_grid() -> VAE:
    """Return a VAE of digits; scaled weights separate rows and nodes, and several nodes are responsible for a row."""
    torch.manual_seed(0)
    prior = GTMPrior(3, latent_grid(6), mlp(2, [8], 6))
    prior.mixing_logits.data = 0.3 * torch.randn(36)
    prior.network[-1].weight.data[:3] *= 10
    encoder = mlp(64, [8], 6)
    encoder[-1].weight.data *= 2
    return VAE(NormalEncoder(encoder), BernoulliDecoder(mlp(3, [8], 64)), prior).eval()


def _by_loop(vae: VAE, x: torch.Tensor, near: float) -> np.ndarray:
    """Return E[u|z] over nodes within this distance of the likeliest, one row and one node at a time."""
    components, nodes = vae.prior.components(), vae.prior.nodes.double()
    log_weights = torch.log_softmax(vae.prior.mixing_logits, 0)
    places = []
    for row in x:
        z = vae.encode(row[None]).mean[0]
        log_joint = (log_weights + components.log_prob(z)).double()
        best = int(log_joint.argmax())
        weights = [float(log_joint[k].exp()) * (float((nodes[k] - nodes[best]).norm()) <= near) for k in range(36)]
        places.append(sum(w * nodes[k] for k, w in enumerate(weights)) / sum(weights))
    return torch.stack(places).numpy()


@pytest.mark.parametrize(("name", "near"), [("mean", 9.0), ("place", 1.21), ("mode", 0.01)])
@torch.no_grad()
def test_places_equal_a_loop(name: str, near: float) -> None:
    places, digits, vae = _module("_maps_places"), load_dataset("digits"), _vae_with_grid()
    train, test = places.places_of(vae)[name](vae, digits.rows("train"), digits.rows("valid"))
    assert train.shape == (1000, 2)
    assert test[:40] == pytest.approx(_by_loop(vae, digits.rows("valid").tensor()[:40], near), abs=1e-5)
    assert len(np.unique(test.round(4), axis=0)) > 5


def test_runs_and_metrics_use_the_same_split() -> None:
    split, digits = _module("_map_data").load("digits", None), load_dataset("digits")
    for part, (x, labels) in split._asdict().items():
        assert np.array_equal(digits.rows(part).tensor().numpy(), x)
        assert np.array_equal(digits.rows(part).labels["digit"], labels)


def test_standardized_training_columns_have_mean_zero_and_unit_variance() -> None:
    data, random = _module("_map_data"), np.random.default_rng(0)
    parts = [(random.normal(3, [1, 5], (50, 2)), np.zeros(50)) for _ in range(3)]
    standard = data.Split(*parts).standardized()
    assert standard.train[0].mean(0) == pytest.approx([0, 0], abs=1e-12)
    assert standard.test[0] * parts[0][0].std(0) + parts[0][0].mean(0) == pytest.approx(parts[2][0])


def test_principal_components_agree_with_singular_vectors() -> None:
    x, new = np.random.default_rng(0).normal(size=(2, 60, 5)) * [5, 3, 1, 1, 1]
    train, test = _module("_maps_baselines").pca(x, new, 0)
    _, _, directions = np.linalg.svd(x - x.mean(0))
    assert np.abs(train) == pytest.approx(np.abs((x - x.mean(0)) @ directions[:2].T))
    assert np.abs(test) == pytest.approx(np.abs((new - x.mean(0)) @ directions[:2].T))


@pytest.mark.slow
def test_an_interrupted_run_is_resumed_and_a_finished_one_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    runs = _module("_maps_runs")
    settings = runs.settings_of("digits", "gtm-vamp-16", 1, ("training.epochs=2", "model.hidden=[8]"))
    _, expected = runs.trained(tmp_path / "whole", "digits", settings)
    train = runs.vae_jobs.train

    def killed(*arguments, **options):
        raise KeyboardInterrupt

    monkeypatch.setattr(runs.vae_jobs, "train", killed)
    with pytest.raises(KeyboardInterrupt):
        runs.trained(tmp_path / "run", "digits", settings)
    monkeypatch.setattr(runs.vae_jobs, "train", train)
    _, trained = runs.trained(tmp_path / "run", "digits", settings)
    monkeypatch.setattr(runs.vae_jobs, "train", killed)
    _, read = runs.trained(tmp_path / "run", "digits", settings)
    for name, tensor in expected.state_dict().items():
        assert torch.equal(trained.state_dict()[name], tensor)
        assert torch.equal(read.state_dict()[name], tensor)


@pytest.mark.slow
def test_row_of_a_run_has_its_nll_and_all_kinds_of_places(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    runs = _module("_maps_runs")
    monkeypatch.setitem(runs.NUM_SAMPLES, "digits", 4)
    split, settings = _module("_map_data").load("digits", None), runs.settings_of("digits", "gtm-16", 0)
    settings += ["training.epochs=2", "model.hidden=[8]", "model.points_per_side=5"]
    row = runs.run_row("digits", None, split, "gtm-16", settings, tmp_path)
    run = runs.Run.open(next(tmp_path.iterdir()))
    log_p = runs.vae_jobs.score(run.load_model(), run.load_dataset().rows("test"), 4, seed=0)
    assert len(log_p) == 447
    assert row["nll"] == pytest.approx(-log_p.mean())
    assert set(row["places"]) == {"place", "place, validation rows", "mean", "mode", "latents"}
    assert row["epochs"] == 2


def _row(name: str, place: str, seed: int = 0, data: str = "digits", **changes: object) -> dict[str, object]:
    quality = {key: changes.pop(key, value) for key, value in QUALITY.items()}
    return {"data": data, "map": name, "seed": seed, "places": {place: quality}, "s": 2.0} | changes


def test_tables_average_over_seeds_and_state_which_targets_were_met() -> None:
    report = _module("_maps_report")
    settings = {"settings": "model.prior=gtm-vamp"}
    rows = [_row("vamp-16", "latents", seed, nll=94.0, **settings) for seed in (0, 1)]
    rows += [
        _row("gtm-vamp-16", "place", 0, nll=94.2, **settings),
        _row("gtm-vamp-16", "place", 1, nll=94.6, **settings),
    ]
    rows[2]["places"]["place"] = QUALITY | {"10-NN accuracy": 0.88}
    text = report.report(rows)
    assert "| gtm-vamp-16 | place | 0.890 ± 0.014 | 0.9500 ± 0.0000 | 0.900 ± 0.000 | 94.40 ± 0.28 | 2 | 2 |" in text
    assert "0.890 and 0.9500: required met, stretch missed; NLL +0.40 nats from vamp-16: met" in text
    rows[3]["nll"] = 95.6
    assert "NLL +0.90 nats from vamp-16: missed" in report.report(rows)


def test_mnist_is_compared_with_the_classical_gtm_and_the_vae_with_two_dimensions() -> None:
    report = _module("_maps_report")
    rows = [_row("GTM", "map", data="MNIST", remark="fitted", **{"10-NN accuracy": 0.7, "trustworthiness": 0.96})]
    rows += [
        _row(name, place, data="MNIST, binary", nll=80.0, settings="", **{"10-NN accuracy": accuracy})
        for name, place, accuracy in (("vae-2", "latents", 0.8), ("gtm-16", "place", 0.85))
    ]
    rows[2]["places"]["place"]["trustworthiness"] = 0.955
    expected = "- gtm-16: better than GTM (map) on one; better than vae-2 (latents) on both"
    assert expected in report.report(rows)


def test_existing_rows_are_kept_until_their_settings_change(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    maps = _module("maps")
    calls: list[tuple[str, str]] = []

    def run_row(data, data_dir, split, variant, settings, runs):
        calls.append((variant, settings[-1]))
        return {"settings": " ".join(settings), "places": {"latents": QUALITY}, "nll": 1.0, "s": 1.0}

    monkeypatch.setattr(maps, "run_row", run_row)
    out = tmp_path / "results" / "maps.json"
    out.parent.mkdir()
    line = ["--data", "digits", "--maps", "PCA", "vae-2", "vamp-16", "--out", str(out), "--seeds"]
    maps.main([*line, "0"])
    maps.main([*line, "0", "1"])
    assert calls == [("vae-2", "seed=0"), ("vamp-16", "seed=0"), ("vae-2", "seed=1"), ("vamp-16", "seed=1")]
    assert [row["map"] for row in json.loads(out.read_text())] == ["PCA", "vae-2", "vae-2", "vamp-16", "vamp-16"]
    assert "| vae-2 | latents | 0.900 ± 0.000 |" in out.with_suffix(".md").read_text()
    variants = _module("_maps_variants")
    monkeypatch.setitem(variants.VARIANTS, "vae-2", variants.Variant("model.latent_dim=3"))
    maps.main([*line, "0"])
    assert calls[4:] == [("vae-2", "seed=0")]
    assert [row["map"] for row in json.loads(out.read_text())] == ["PCA", "vae-2", "vamp-16", "vamp-16"]
    with pytest.raises(SystemExit, match="name another file"):
        maps.main(["--quick"])


@pytest.mark.parametrize("name", NAMES)
def test_examples_in_docstrings_are_correct(name: str) -> None:
    results = doctest.testmod(_module(name))
    assert results.attempted > 0
    assert results.failed == 0
