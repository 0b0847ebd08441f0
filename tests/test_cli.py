"""The commands on small data: their output, their files and their errors."""

import json
import os
import signal
import subprocess
import sys
import time

import numpy as np
import pandas as pd
import pytest
import torch
from scipy import sparse
from sklearn.metrics import normalized_mutual_info_score

import grid_oracle
import priory
from family import MIXTURES, slow_if
from priory.training import History
from priory.workbench.cli import main as cli
from priory.workbench.models.building import class_of_prior
from priory.workbench.runs.vae_run import Run
from priory.workbench.settings.priors import PRIORS

NO_PICTURES = ("--latent-dim", 3)  # a comparison of such priors without a grid draws no pictures


def run_cli(*arguments: object, monkeypatch: pytest.MonkeyPatch) -> int:
    """Run the console script with these arguments; return its exit code."""
    monkeypatch.setattr(sys, "argv", ["priory", *map(str, arguments)])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    return int(ended.value.code or 0)


@pytest.fixture
def command(monkeypatch, capsys):
    """Run a command that must succeed; return its output."""

    def run(*arguments: object) -> str:
        code = run_cli(*arguments, monkeypatch=monkeypatch)
        captured = capsys.readouterr()
        assert code == 0, captured.err
        return captured.out

    return run


@pytest.fixture
def refused(monkeypatch, capsys):
    """Run a command that must fail with exit code 2; return its error message."""

    def run(*arguments: object) -> str:
        assert run_cli(*arguments, monkeypatch=monkeypatch) == 2
        error = capsys.readouterr().err
        assert "Traceback" not in error
        return " ".join(error.split())

    return run


@pytest.fixture(scope="module")
def table(tmp_path_factory):
    """Write a table of real columns with a text label and ids."""
    generator = np.random.default_rng(0)
    kind = generator.integers(0, 2, 120)
    x = 3.0 * kind[:, None] + generator.normal(size=(120, 5)) * [1, 10, 0.1, 1, 1] + 100
    frame = pd.DataFrame(x, columns=list("abcde")).assign(kind=np.where(kind, "big", "small"))
    path = tmp_path_factory.mktemp("table") / "cells.csv"
    frame.assign(name=[f"cell{i}" for i in range(120)]).to_csv(path, index=False)
    return path


READING = ("--labels", "kind", "--ids", "name")
QUICK = (
    *("--latent-dim", 2, "--epochs", 2, "--samples", 8, "--set", "model.hidden=[16]"),
    "--no-report",
)


@pytest.fixture(scope="module")
def trained(table, tmp_path_factory):
    """Train a GTM-VampPrior on the table."""
    out = tmp_path_factory.mktemp("runs") / "cells"
    with pytest.MonkeyPatch.context() as monkeypatch:
        arguments = ("fit", table, "--prior", "gtm-vamp", "--grid", "3x3", *READING, *QUICK, "--out", out)
        assert run_cli(*arguments, monkeypatch=monkeypatch) == 0
    return out


@pytest.mark.parametrize("prior", slow_if(PRIORS, {"noise-contrastive", "resampled", "flow", "gtm"}))
def test_fit_writes_all_files_of_a_run_for_every_prior(prior, command, tmp_path):
    out = tmp_path / "run"
    sizes = {"flow": ("--set", "model.prior_hidden=[16]"), "standard": (), "resampled": (), "noise-contrastive": ()}
    sizes["exemplar"] = ("--latent-dim", 3)  # in two dimensions, a quadrature over 1000 components takes seconds
    size = ("--grid", "2x2") if "gtm" in prior else sizes.get(prior, ("--components", 5))
    output = command("fit", "digits", "--prior", prior, *QUICK, *size, "--out", out)
    assert "1797 rows x 64 columns" in output
    assert "categorical" in output
    assert f"written to {out}" in output
    assert "next: priory embed" in output
    for name in ("config.json", "model.safetensors", "metrics.json", "history.csv", "splits.npz"):
        assert (out / name).stat().st_size > 0
    pictures = {path.stem for path in (out / "figures").iterdir()}
    expected = {"samples", "reconstructions", "training"}
    expected |= {"pairwise", "exemplars"} if prior == "exemplar" else {"prior"}
    expected |= {"pseudo_inputs"} if "vamp" in prior else set()
    expected |= {"components"} if prior in MIXTURES else set()
    expected |= {"map", "nodes", "landscape", "magnification"} if "gtm" in prior else set()
    expected |= {"clusters"} if prior in MIXTURES and class_of_prior(prior).components_are_clusters else set()
    assert pictures == expected
    metrics = json.loads((out / "metrics.json").read_text())
    assert ("clusters" in pictures) == ({"clusters", "nmi", "ari"} <= set(metrics))
    assert metrics["nll"]["value"] > 50
    assert metrics["nll"]["se"] > 0
    assert {"elbo", "distortion", "rate", "active_units", "marginal_kl", "prior_in_aggregate"} <= set(metrics)
    vae = priory.load(out)
    assert not vae.training
    assert vae.sample(2).shape == (2, 64)


def test_pairs_of_more_than_two_latent_dimensions_are_drawn_reproducibly(command, tmp_path):
    for name in ("one", "two"):
        command("fit", "digits", "--prior", "mog", *QUICK, "--latent-dim", 6, "--no-evaluate", "--out", tmp_path / name)
    one, two = (
        {path.name: path.read_bytes() for path in (tmp_path / name / "figures").iterdir()} for name in ("one", "two")
    )
    drawn = ("pairwise", "components", "clusters", "samples", "reconstructions", "training")
    assert set(one) == {f"{name}.png" for name in drawn}
    assert one == two


def test_evaluate_prints_the_metrics_of_fit(trained, command):
    recorded = json.loads((trained / "metrics.json").read_text())
    again = json.loads(command("evaluate", trained, "--samples", 8, "--json"))
    assert again == recorded
    assert "nll" in command("evaluate", trained, "--samples", 8)


def test_a_grid_prior_as_published_has_no_start_guide_or_noise(command, tmp_path):
    quick = ("--epochs", 1, "--no-evaluate", "--no-report", "--out", tmp_path / "run")
    command("fit", "digits", "--prior", "gtm-vamp", "--grid", "3x3", "--as-published", *quick)
    vae = Run.open(tmp_path / "run").load_model()
    assert vae.prior.guide is None
    assert vae.encoder.input_noise == 0
    assert "RadialBasis" not in repr(vae.prior)


def test_evaluate_accepts_another_file(trained, table, command):
    metrics = json.loads(command("evaluate", trained, table, "--samples", 8, "--json"))
    assert np.isfinite(metrics["nll"]["value"])
    assert metrics != json.loads((trained / "metrics.json").read_text())  # of all rows instead of the test rows


def test_a_map_of_three_dimensions_has_positions_but_no_picture(command, refused, tmp_path):
    quick = ("--latent-dim", 3, "--epochs", 1, "--no-evaluate", "--no-report", "--out", tmp_path / "run")
    command("fit", "digits", "--prior", "gtm", "--grid", "3x3x3", *quick)
    output = command("map", tmp_path / "run", "--samples", 2, "--out", tmp_path / "map.csv")
    assert "no picture: only a grid of two dimensions has one, and this grid has 3" in output
    assert (tmp_path / "map.csv").read_text().startswith("id,split,digit,u1,u2,u3,")
    options = ("--out", tmp_path / "other.csv", "--figure", tmp_path / "other.png")
    assert "--figure: expected a run with a grid of two dimensions, got" in refused("map", tmp_path / "run", *options)
    assert not (tmp_path / "other.csv").exists()


def test_embed_writes_id_latents_and_position_of_every_row(trained, table, command, tmp_path):
    command("embed", trained, "--out", tmp_path / "z.npz")
    with np.load(tmp_path / "z.npz", allow_pickle=False) as z:
        assert z["ids"].tolist() == [f"cell{i}" for i in range(120)]
        assert z["z_mean"].shape == z["z_scale"].shape == z["map"].shape == (120, 2)
        assert (np.abs(z["map"]) <= 1).all()
        assert sorted(set(z["split"].tolist())) == ["test", "train", "valid"]
        vae, dataset = priory.load(trained), Run.open(trained).load_dataset()
        x = dataset.all_rows().tensor()
        np.testing.assert_allclose(z["z_mean"], vae.encode(x).mean.detach().numpy(), rtol=1e-5, atol=1e-6)
        places = grid_oracle.places(grid_oracle.shares(vae, x), vae.prior.nodes.double().numpy())
        np.testing.assert_allclose(z["map"], places, rtol=1e-4, atol=1e-5)


def test_embed_writes_the_cluster_of_every_row(command, tmp_path):
    run, out = tmp_path / "run", tmp_path / "z.npz"
    command("fit", "digits", "--prior", "vamp-mixture", "--components", 5, *QUICK, "--out", run)
    command("embed", run, "--out", out)
    with np.load(out, allow_pickle=False) as z:
        p_z = priory.load(run).latent_prior()
        expected = p_z.responsibilities(torch.from_numpy(z["z_mean"])).argmax(-1)
        np.testing.assert_array_equal(z["cluster"], expected)
        judged = z["split"] == "test"
        nmi = normalized_mutual_info_score(z["digit"][judged], z["cluster"][judged])
    assert json.loads((run / "metrics.json").read_text())["nmi"]["value"] == pytest.approx(nmi)


def test_map_writes_position_and_predicted_label_of_every_row(trained, table, command, tmp_path):
    command("map", trained, "--predict", "kind", "--out", tmp_path / "map.csv", "--samples", 8)
    assert (tmp_path / "map.png").stat().st_size > 10_000
    table_of_rows = pd.read_csv(tmp_path / "map.csv")
    vae, dataset = priory.load(trained), Run.open(trained).load_dataset()
    shares = grid_oracle.shares(vae, dataset.all_rows().tensor())
    nodes = vae.prior.nodes.double().numpy()
    np.testing.assert_allclose(table_of_rows[["u1", "u2"]], grid_oracle.places(shares, nodes), atol=1e-4)
    np.testing.assert_array_equal(table_of_rows["node"], shares.argmax(1))
    np.testing.assert_allclose(table_of_rows["responsibility"], shares.max(1), rtol=1e-4)
    train = Run.open(trained).splits["train"]
    big = (table_of_rows["kind"] == "big").to_numpy()[train]
    usage, near = (
        shares[train].sum(0),
        np.exp(-0.5 * ((nodes[:, None] - nodes) ** 2).sum(-1)),
    )  # the step of the 3 x 3 grid is 1
    sums = shares[train].T @ big
    expected = (sums + (near @ sums + big.mean()) / (near @ usage + 1)) / (usage + 1)
    probability = shares @ expected
    assert table_of_rows["kind_predicted"].tolist() == np.where(probability > 0.5, "big", "small").tolist()
    np.testing.assert_allclose(table_of_rows["kind_confidence"], np.maximum(probability, 1 - probability), atol=1e-4)
    new = pd.read_csv(table).drop(columns=["kind"]).head(7)
    new.to_csv(tmp_path / "new.csv", index=False)
    command("map", trained, tmp_path / "new.csv", "--predict", "kind", "--out", tmp_path / "there.csv", "--samples", 8)
    table_of_new_rows = pd.read_csv(tmp_path / "there.csv")
    assert table_of_new_rows["split"].tolist() == ["new"] * 7
    np.testing.assert_allclose(table_of_new_rows[["u1", "u2"]], table_of_rows[["u1", "u2"]].head(7), rtol=1e-6)
    assert table_of_new_rows["kind_predicted"].tolist() == table_of_rows["kind_predicted"].head(7).tolist()


def test_map_predicts_from_the_training_rows(trained, command, tmp_path):
    command("map", trained, "--predict", "kind", "--samples", 4, "--out", tmp_path / "m.csv")
    table_of_rows = pd.read_csv(tmp_path / "m.csv")
    vae, dataset = priory.load(trained), Run.open(trained).load_dataset()
    train, every = dataset.rows("train"), dataset.all_rows()
    drawn = priory.TopographicMap(vae, every)
    expected = drawn.predict(priory.TopographicMap(vae, train).landscape(train.labels["kind"]))
    assert table_of_rows["kind_predicted"].tolist() == list(expected.label)
    np.testing.assert_allclose(table_of_rows["kind_confidence"], expected.confidence, rtol=1e-5)
    np.testing.assert_allclose(table_of_rows[["u1_scale", "u2_scale"]], drawn.places.scale, rtol=1e-4, atol=1e-5)


def test_score_of_another_file_ranks_an_outlier_last(trained, table, command, tmp_path):
    frame = pd.read_csv(table).head(20)
    frame.loc[7, "c"] = 1e4
    frame.to_csv(tmp_path / "new.csv", index=False)
    output = command("score", trained, tmp_path / "new.csv", "--samples", 8, "--out", tmp_path / "scores.csv")
    scores = pd.read_csv(tmp_path / "scores.csv")
    assert scores.shape[0] == 20
    assert scores["log_likelihood"].idxmin() == 7
    assert "cell7" in output


@pytest.fixture(scope="module")
def far(table):
    """Write twenty rows, three of them too far away for float32."""
    frame = pd.read_csv(table).head(20)
    frame.loc[3, "c"], frame.loc[7, "a"], frame.loc[9, list("abcde")] = 1e20, 9.97e36, -3.4e38
    frame.to_csv(table.parent / "far.csv", index=False)
    return table.parent / "far.csv"


@pytest.fixture
def noted(monkeypatch, capsys):
    """Run a command that must succeed with notes; return the notes."""

    def run(*arguments: object) -> str:
        assert run_cli(*arguments, monkeypatch=monkeypatch) == 0
        return capsys.readouterr().err

    return run


@pytest.mark.parametrize("prior", ["flow", "family:StudentMixture", "gtm"])
def test_score_lists_far_rows_and_scores_the_others(prior, far, table, command, noted, tmp_path):
    command("fit", table, "--prior", prior, *READING, *QUICK, "--no-evaluate", "--out", tmp_path / "run")
    note = noted("score", tmp_path / "run", far, "--samples", 8, "--out", tmp_path / "scores.csv")
    assert note == "note: no density (-inf) for 3 rows: cell3, cell7, cell9\n"
    scores = pd.read_csv(tmp_path / "scores.csv")["log_likelihood"].to_numpy()
    assert (np.flatnonzero(scores == -np.inf) == [3, 7, 9]).all()
    assert (np.delete(scores, [3, 7, 9]) > -200).all()


def test_map_lists_far_rows_and_leaves_their_positions_empty(trained, far, table, command, noted, tmp_path):
    note = noted("map", trained, far, "--predict", "kind", "--samples", 8, "--out", tmp_path / "far-map.csv")
    assert "note: no density (-inf) for 3 rows: cell3, cell7, cell9" in note
    assert "note: no place on the map for 2 rows: cell7, cell9" in note
    table_of_rows = pd.read_csv(tmp_path / "far-map.csv")
    lost, others = table_of_rows.loc[[7, 9]], table_of_rows.drop([3, 7, 9])
    assert lost[["u1", "u2", "u1_scale", "node_u1", "responsibility", "kind_predicted"]].isna().all(axis=None)
    assert (lost["node"] == -1).all()
    pd.read_csv(table).head(20).to_csv(tmp_path / "near.csv", index=False)
    command("map", trained, tmp_path / "near.csv", "--predict", "kind", "--samples", 8, "--out", tmp_path / "map.csv")
    near = pd.read_csv(tmp_path / "map.csv").drop([3, 7, 9])
    pd.testing.assert_frame_equal(others, near, rtol=1e-5)
    note = noted("embed", trained, far, "--out", tmp_path / "z.csv")
    assert note == "note: no finite place for 2 rows: cell7, cell9\n"


def test_evaluate_lists_far_rows(trained, far, refused):
    message = refused("evaluate", trained, far, "--samples", 4)
    assert "some rows have no likelihood under this model (cell3, cell7, cell9); leave them out" in message


def test_score_writes_into_a_copy_of_the_table(trained, table, command, tmp_path):
    command("score", trained, "--copy", "--samples", 8, "--out", tmp_path / "copy.csv")
    copy = pd.read_csv(tmp_path / "copy.csv")
    pd.testing.assert_frame_equal(copy[list("abcde")], pd.read_csv(table)[list("abcde")])
    assert any("log_likelihood" in column for column in copy.columns)


def test_columns_in_another_order_are_reordered(trained, table, command, tmp_path):
    pd.read_csv(table)[["name", "e", "d", "c", "b", "a", "kind"]].to_csv(tmp_path / "turned.csv", index=False)
    command("embed", trained, table, "--out", tmp_path / "one.npz")
    command("embed", trained, tmp_path / "turned.csv", "--out", tmp_path / "two.npz")
    with np.load(tmp_path / "one.npz") as one, np.load(tmp_path / "two.npz") as two:
        np.testing.assert_array_equal(one["z_mean"], two["z_mean"])


@pytest.mark.parametrize("suffix", ["npz", "csv", "parquet"])
def test_sample_draws_in_the_units_of_the_data(suffix, trained, command, tmp_path):
    command("sample", trained, "-n", 50, "--out", tmp_path / f"x.{suffix}")
    if suffix == "npz":
        x = np.load(tmp_path / "x.npz")["x"]
    else:
        frame = pd.read_csv(tmp_path / "x.csv") if suffix == "csv" else pd.read_parquet(tmp_path / "x.parquet")
        x = frame[list("abcde")].to_numpy()
    assert x.shape == (50, 5)
    assert abs(x.mean() - 101.5) < 10


def test_samples_depend_only_on_the_seed(trained, command, tmp_path):
    for name in ("one", "two"):
        command("sample", trained, "-n", 5, "--seed", 3, "--out", tmp_path / f"{name}.npz")
    np.testing.assert_array_equal(np.load(tmp_path / "one.npz")["x"], np.load(tmp_path / "two.npz")["x"])


def test_the_same_seed_gives_the_same_bits(command, tmp_path):
    for name in ("one", "two"):
        command("fit", "digits", "--prior", "vamp", *QUICK, "--no-evaluate", "--seed", 5, "--out", tmp_path / name)
    one, two = (priory.load(tmp_path / name).state_dict() for name in ("one", "two"))
    assert all(torch.equal(one[key], two[key]) for key in one)


def test_resume_of_a_finished_run_changes_nothing(trained, command):
    before = (trained / "model.safetensors").read_bytes()
    command("fit", "--resume", "--out", trained, "--no-evaluate")
    assert (trained / "model.safetensors").read_bytes() == before


@pytest.mark.slow
def test_compare_prints_one_table_and_does_not_repeat_finished_runs(command, tmp_path):
    arguments = ("compare", "digits", "--priors", "standard,vamp", "--seeds", 2, "--samples", 8, "--epochs", 1)
    arguments += NO_PICTURES
    first = command(*arguments, "--out", tmp_path)
    stamps = {path: path.stat().st_mtime_ns for path in tmp_path.glob("*/model.safetensors")}
    assert len(stamps) == 4
    assert "standard" in first
    assert "±" in first
    assert command(*arguments, "--out", tmp_path) == first
    assert {path: path.stat().st_mtime_ns for path in stamps} == stamps
    table = json.loads((tmp_path / "comparison.json").read_text())
    values = [json.loads((tmp_path / f"vamp-{s}" / "metrics.json").read_text())["nll"]["value"] for s in (0, 1)]
    assert table["priors"]["vamp"]["mean"]["nll"]["value"] == pytest.approx(np.mean(values))
    assert table["priors"]["vamp"]["mean"]["nll"]["se"] == pytest.approx(np.std(values, ddof=1) / 2**0.5)


@pytest.mark.slow
def test_compare_with_another_number_of_samples_evaluates_again_without_training(command, tmp_path):
    arguments = (
        "compare",
        "digits",
        "--priors",
        "standard",
        "--seeds",
        1,
        "--epochs",
        1,
        *NO_PICTURES,
        "--out",
        tmp_path,
    )
    few = command(*arguments, "--samples", 2)
    run, state = tmp_path / "standard-0", (tmp_path / "standard-0" / "state.safetensors").stat().st_mtime_ns
    many = command(*arguments, "--samples", 64)
    assert many != few
    metrics = json.loads((run / "metrics.json").read_text())
    assert metrics["evaluation"] == {"num_samples": 64, "seed": 0}
    assert metrics == json.loads(command("evaluate", run, "--samples", 64, "--json"))
    assert (run / "state.safetensors").stat().st_mtime_ns == state
    command("evaluate", run, "--samples", 64, "--seed", 1)  # also recorded, but not used by compare
    assert command(*arguments, "--samples", 64) == many


@pytest.mark.slow
def test_resuming_with_more_epochs_equals_a_longer_run(command, tmp_path):
    arguments = ("fit", "digits", "--warmup", 5, "--set", "model.hidden=[16]", "--samples", 4)
    command(*arguments, "--epochs", 4, "--out", tmp_path / "whole")
    command(*arguments, "--epochs", 2, "--out", tmp_path / "longer")
    command("fit", "--resume", "--epochs", 4, "--samples", 4, "--out", tmp_path / "longer")
    for name in ("config.json", "model.safetensors", "metrics.json"):
        assert (tmp_path / "longer" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()


def test_a_lengthened_run_is_unfinished_until_its_new_end(command, tmp_path):
    out = tmp_path / "run"
    command("fit", "digits", "--warmup", 5, *QUICK, "--out", out)
    shorter = priory.load(out).state_dict()
    run = Run.open(out).lengthened(3)
    assert Run.open(out) == run
    assert not run.finished
    assert not (out / "metrics.json").exists()
    assert all(torch.equal(tensor, shorter[name]) for name, tensor in priory.load(out).state_dict().items())
    command("fit", "--resume", "--no-evaluate", "--out", out)
    assert History.read(out / "history.csv").epochs == 3


def test_priors_are_listed_with_their_sources(command):
    output = command("priors")
    assert all(name in output for name in PRIORS)
    assert "arXiv:1705.07120" in output


@pytest.mark.parametrize("name", [None, "fit", "evaluate", "sample", "embed", "score", "compare", "priors"])
def test_every_command_has_help(name, command):
    output = command(*([] if name is None else [name]), "--help")
    assert "Usage" in output


def test_a_new_file_needs_no_labels(trained, table, command, tmp_path):
    pd.read_csv(table).drop(columns=["kind", "name"]).head(5).to_csv(tmp_path / "new.csv", index=False)
    command("score", trained, tmp_path / "new.csv", "--samples", 8, "--out", tmp_path / "deep" / "scores.csv")
    assert pd.read_csv(tmp_path / "deep" / "scores.csv")["log_likelihood"].notna().sum() == 5


def test_labels_named_like_results_do_not_overwrite_them(table, command, tmp_path):
    frame = pd.read_csv(table).rename(columns={"kind": "split"})
    frame.assign(log_likelihood="text").to_csv(tmp_path / "named.csv", index=False)
    labels = ("--labels", "split", "--labels", "log_likelihood", "--ids", "name")
    command("fit", tmp_path / "named.csv", *labels, *QUICK, "--no-evaluate", "--out", tmp_path / "run")
    command("score", tmp_path / "run", "--samples", 2, "--out", tmp_path / "s.csv")
    scores = pd.read_csv(tmp_path / "s.csv")
    assert scores["log_likelihood"].dtype == float
    assert set(scores["split"]) == {"train", "valid", "test"}
    assert set(scores["label_split"]) == {"big", "small"}


def test_h5ad_rows_are_matched_by_the_ids_column(command, tmp_path):
    anndata = pytest.importorskip("anndata")
    generator = np.random.default_rng(1)
    order = generator.permutation(40)
    cells = pd.DataFrame({"cell": order.astype(str)}, index=np.arange(40).astype(str))
    anndata.AnnData(X=generator.normal(size=(40, 3)).astype("f4"), obs=cells).write_h5ad(tmp_path / "a.h5ad")
    command("fit", tmp_path / "a.h5ad", "--ids", "cell", *QUICK, "--no-evaluate", "--out", tmp_path / "run")
    command("score", tmp_path / "run", "--samples", 64, "--out", tmp_path / "copy.h5ad")
    command("score", tmp_path / "run", "--samples", 64, "--out", tmp_path / "plain.csv")
    plain = pd.read_csv(tmp_path / "plain.csv")
    assert plain["id"].astype(str).tolist() == order.astype(str).tolist()
    copy = anndata.read_h5ad(tmp_path / "copy.h5ad").obs
    np.testing.assert_allclose(copy["priory_log_likelihood"].to_numpy(), plain["log_likelihood"], rtol=1e-5)


def test_score_works_for_dynamically_binarized_data(command, tmp_path):
    out = tmp_path / "run"
    output = command("fit", "digits", "--binarize", "dynamic", "--prior", "vamp", *QUICK, "--out", out)
    assert "bernoulli" in output
    command("score", out, "--samples", 2, "--out", tmp_path / "s.csv")
    scores = pd.read_csv(tmp_path / "s.csv")
    assert len(scores) == 1797
    assert scores["log_likelihood"].max() < 0  # the logarithm of a probability
    np.save(tmp_path / "dim.npy", np.full((10, 8, 8), 4, dtype=np.uint8))
    command("score", out, tmp_path / "dim.npy", "--samples", 2, "--out", tmp_path / "dim.csv")
    np.save(tmp_path / "binary.npy", np.eye(64, dtype=np.uint8))
    command("score", out, tmp_path / "binary.npy", "--samples", 2, "--out", tmp_path / "binary.csv")


@pytest.mark.slow
def test_metrics_of_dynamically_binarized_rows_are_reproducible(command, tmp_path):
    out, grid = tmp_path / "run", ("--prior", "gtm-vamp", "--grid", "3x3", "--labels", "digit")
    command("fit", "digits", "--binarize", "dynamic", *grid, *QUICK, "--out", out)
    first = json.loads((out / "metrics.json").read_text())
    command("evaluate", out, "--samples", first["evaluation"]["num_samples"])
    assert json.loads((out / "metrics.json").read_text()) == first
    assert 0 < first["knn_accuracy"]["value"] < 1


def test_fit_chooses_likelihoods_of_counts_and_images(command, tmp_path):
    generator = np.random.default_rng(2)
    counts = generator.poisson(generator.gamma(0.3, 3.0, size=(60, 30)))
    sparse.save_npz(tmp_path / "counts.npz", sparse.csr_matrix(counts))
    assert "negative-binomial" in command("fit", tmp_path / "counts.npz", *QUICK, "--out", tmp_path / "counts")
    command("sample", tmp_path / "counts", "-n", 20, "--out", tmp_path / "x.npz")
    x = np.load(tmp_path / "x.npz")["x"]
    assert (x == x.round()).all()
    assert (x >= 0).all()
    np.save(tmp_path / "images.npy", generator.integers(0, 256, size=(40, 9, 7), dtype=np.uint8))
    arguments = ("fit", tmp_path / "images.npy", "--network", "conv", "--set", "model.hidden=[4,8]", "--epochs", 1)
    assert "discretized-logistic" in command(*arguments, "--samples", 4, "--out", tmp_path / "images")


def test_a_test_split_of_one_row_is_allowed(command, tmp_path):
    np.save(tmp_path / "few.npy", np.random.default_rng(3).normal(size=(12, 3)))
    command("fit", tmp_path / "few.npy", *QUICK, "--out", tmp_path / "run")
    assert (tmp_path / "run" / "metrics.json").exists()


def test_files_of_an_interrupted_start_do_not_prevent_a_new_run(command, tmp_path):
    out = tmp_path / "run"
    out.mkdir()
    (out / "splits.npz").write_bytes(b"half")
    (out / ".config-0123.json").write_text("{")
    command("fit", "digits", *QUICK, "--no-evaluate", "--resume", "--out", out)


def test_a_run_can_be_used_from_any_folder(table, command, tmp_path, monkeypatch):
    monkeypatch.chdir(table.parent)
    command("fit", table.name, *READING, *QUICK, "--no-evaluate", "--out", tmp_path / "run")
    monkeypatch.chdir(tmp_path)
    command("embed", "run", "--out", "z.npz")


def test_json_is_standard_if_a_standard_error_is_unknown(command, tmp_path):
    quick = ("--seeds", 1, "--samples", 2, "--epochs", 1, *NO_PICTURES)
    command("compare", "--priors", "standard", *quick, "--out", tmp_path)
    table = json.loads((tmp_path / "comparison.json").read_text(), parse_constant=pytest.fail)
    assert table["priors"]["standard"]["mean"]["nll"]["se"] is None


def test_a_file_with_a_relative_path_gives_the_same_run_again(table, command, tmp_path, monkeypatch):
    monkeypatch.chdir(table.parent)
    arguments = ("fit", table.name, *READING, *QUICK, "--no-evaluate", "--resume", "--out", tmp_path / "run")
    command(*arguments)
    assert "resuming" in command(*arguments)
    arguments = ("compare", table.name, *READING, "--priors", "standard", "--seeds", 1, "--samples", 2, "--epochs", 1)
    arguments += NO_PICTURES
    assert command(*arguments, "--out", tmp_path / "all") == command(*arguments, "--out", tmp_path / "all")


@pytest.mark.slow
def test_two_processes_write_one_run(tmp_path):
    """Lightning starts the command again for the second process; the run is written once."""
    out = tmp_path / "run"
    command = [sys.executable, "-m", "priory", "fit", "digits", "--epochs", "2", "--samples", "4", "--out", str(out)]
    options = ["--accelerator", "cpu", "--devices", "2", "--strategy", "ddp"]
    done = subprocess.run([*command, *options], capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("written to") == 1
    assert priory.load(out).sample(1).shape == (1, 64)


STEERING = tuple(
    word
    for value in ("objective=importance-weighted", "num_samples=3", "ema_decay=0.9")
    for word in ("--set", f"training.{value}")
)


def test_a_run_cannot_resume_with_another_objective_or_average(tmp_path, command, refused):
    run = tmp_path / "run"
    command("fit", "digits", *QUICK, "--no-evaluate", *STEERING, "--out", run)
    settings = json.loads((run / "config.json").read_text())["settings"]["training"]
    expected = {"objective": "importance-weighted", "num_samples": 3, "ema_decay": 0.9}
    assert {name: settings[name] for name in expected} == expected
    history = History.read(run / "history.csv")
    assert all(bound > elbo for bound, elbo in zip(history["valid_objective"], history["valid_elbo"], strict=True))
    command("fit", "--resume", "--no-evaluate", "--no-report", *STEERING, "--out", run)
    for name, value in {"objective": "elbo", "ema_decay": "0.5"}.items():
        line = refused("fit", "--resume", "--set", f"training.{name}={value}", "--out", run)
        assert f"training.{name}" in line


@pytest.mark.slow
@pytest.mark.parametrize(
    ("number", "code", "steering"), [(signal.SIGINT, 130, STEERING), (signal.SIGTERM, 143, ())], ids=["INT", "TERM"]
)
def test_a_resumed_run_has_the_same_bits(number, code, steering, tmp_path, command):
    arguments = ("fit", "digits", "--epochs", 60, "--no-evaluate", "--set", "model.hidden=[16]", "--set")
    arguments = (*arguments, "training.patience=null", *steering)
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    command(*arguments, "--out", whole)
    process = subprocess.Popen(
        [sys.executable, "-m", "priory", *map(str, arguments), "--out", str(broken)],
        stderr=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        text=True,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
    )
    deadline = time.monotonic() + 120
    while not (broken / "state.safetensors").exists() and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.02)
    process.send_signal(number)
    errors = process.communicate(timeout=120)[1]
    assert process.returncode in (code, 0)  # 0: it ended before the signal
    assert process.returncode == 0 or "priory fit --resume --out" in errors
    command("fit", "--resume", "--no-evaluate", "--out", broken)
    one, two = (priory.load(path).state_dict() for path in (whole, broken))
    assert all(torch.equal(one[key], two[key]) for key in one)


REFUSALS = [
    (("fit", "nothing.csv"), "nothing.csv"),
    (("fit", "digits", "--prior", "vampire"), "--prior: unknown prior 'vampire'; choose from standard"),
    (("fit", "digits", "--likelihood", "poisson"), "--likelihood: unknown likelihood 'poisson'"),
    (
        ("fit", "digits", "--likelihood", "bernoulli"),
        "digits: expected only 0 and 1 (--binarize draws them from gray values) for --likelihood bernoulli",
    ),
    (("fit", "digits", "--grid", "3x4"), "--grid 3x4: expected equal sides such as 10x10"),
    (
        ("fit", "digits", "--set", "model.hiden=[3]"),
        "--set model.hiden: there is no such setting; did you mean model.hidden?",
    ),
    (("fit", "digits", "--set", "seed"), "expected NAME=VALUE"),
    (("fit", "digits", "--epochs", "0"), "training.epochs"),
    (("fit", "digits", "--warmup", "1.5"), "training.warmup"),
    (("fit", "digits", "--network", "transformer"), "--network: unknown network 'transformer'"),
    (("fit", "digits", "--warmup", "abc"), "training.warmup"),
    (("fit", "digits", "--seed", str(10**30)), "seed"),
    (("fit", "digits", "--devices", "two"), "devices"),
    (("fit", "digits", "--accelerator", "abacus"), "accelerator"),
    (("fit", "--resume"), "has no run yet; give DATA"),
    (("fit",), "DATA: expected a file or an embedded data set"),
]


@pytest.mark.parametrize(("arguments", "message"), REFUSALS, ids=[" ".join(a)[:40] for a, _ in REFUSALS])
def test_bad_options_are_refused_before_any_work(arguments, message, refused, tmp_path):
    assert message in refused(*arguments, "--out", tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_convolutions_need_images(table, refused, tmp_path):
    assert "expected images" in refused("fit", table, *READING, "--network", "conv", "--out", tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_text_columns_are_refused_with_the_options_that_help(table, refused, tmp_path):
    message = refused("fit", table, "--out", tmp_path / "run")
    assert "--labels" in message
    assert "--drop" in message


def test_a_folder_that_holds_a_run_is_not_overwritten(trained, refused):
    assert "--resume" in refused("fit", "digits", "--out", trained)


def test_resuming_with_other_settings_names_them(trained, refused):
    message = refused("fit", "--resume", "--out", trained, "--latent-dim", 3)
    assert "model.latent_dim" in message


def test_an_invalid_number_of_epochs_is_refused_with_the_reason(command, refused, tmp_path):
    command("fit", "digits", *QUICK, "--no-evaluate", "--out", tmp_path / "run")
    files = {path: path.read_bytes() for path in (tmp_path / "run").iterdir() if path.is_file()}
    fewer = refused("fit", "--resume", "--epochs", 1, "--out", tmp_path / "run")
    assert "--epochs 1: " in fewer
    assert "was begun with 2; --resume needs at least as many" in fewer
    more = refused("fit", "--resume", "--epochs", 9, "--out", tmp_path / "run")
    assert "training.warmup=0.1" in more
    assert (
        "if the schedule is constant, the warm-up is a number of steps (--warmup 1000) and no images are shifted"
        in more
    )
    (tmp_path / "run" / "state.safetensors").unlink()
    del files[tmp_path / "run" / "state.safetensors"]
    assert "has no state.safetensors to resume from" in refused(
        "fit", "--resume", "--epochs", 9, "--out", tmp_path / "run"
    )
    assert files == {path: path.read_bytes() for path in (tmp_path / "run").iterdir() if path.is_file()}


def test_an_error_names_missing_columns(trained, table, refused, tmp_path):
    pd.read_csv(table).drop(columns="c").to_csv(tmp_path / "less.csv", index=False)
    assert "1 are missing (c)" in refused("score", trained, tmp_path / "less.csv", "--out", tmp_path / "s.csv")


def test_a_new_file_outside_of_the_support_is_refused(command, refused, tmp_path):
    command("fit", "digits", *QUICK, "--no-evaluate", "--out", tmp_path / "run")
    np.save(tmp_path / "high.npy", np.full((10, 64), 20, dtype=np.uint8))
    message = refused("score", tmp_path / "run", tmp_path / "high.npy", "--out", tmp_path / "s.csv")
    assert "got values up to 20" in message


def test_outputs_that_cannot_be_written_are_refused_before_any_work(trained, refused, tmp_path):
    assert ".xyz" in refused("score", trained, "--out", tmp_path / "s.xyz")
    assert refused("embed", trained, "--copy", "--out", tmp_path / "z.npz")


def test_a_diverged_training_gives_an_error(table, refused, tmp_path):
    message = refused("fit", table, *READING, *QUICK, "--learning-rate", "1e30", "--out", tmp_path / "run")
    assert "is NaN or infinite" in message
    assert "training.gradient_clip" in message
    assert "nothing is kept" in message
    assert "begin another run, with another --out and for example --set training.learning_rate=1e+29" in message


def test_a_training_that_diverges_late_keeps_its_last_good_state(table, command, refused, tmp_path, monkeypatch):
    from priory.training import optimizers

    class Breaking(torch.optim.Adam):
        def step(self, closure=None):
            result = super().step(closure)
            steps.append(1)
            if len(steps) == 4:  # too large a step, after two epochs of two steps
                self.param_groups[0]["params"][0].data *= 1e38
            return result

    steps, out = [], tmp_path / "run"
    monkeypatch.setitem(optimizers.OPTIMIZERS, "adam", Breaking)
    arguments = ("fit", table, *READING, *QUICK, "--epochs", 9, "--set", "training.batch_size=48", "--out", out)
    message = refused(*arguments)
    assert "training stopped at epoch 1, validation" in message
    assert f"the epochs before it are kept: priory evaluate {out}" in message
    assert History.read(out / "history.csv").epochs == 1
    metrics = json.loads(command("evaluate", out, "--samples", 4, "--json"))
    assert np.isfinite(metrics["nll"]["value"])
    assert not (out / "metrics.json").exists()


def test_infinite_likelihoods_are_refused_as_metrics(command, refused, table, tmp_path):
    command("fit", table, *READING, *QUICK, "--no-evaluate", "--out", tmp_path / "run")
    frame = pd.read_csv(table).head(20)
    frame.loc[3, "c"] = 1e30
    frame.to_csv(tmp_path / "far.csv", index=False)
    message = refused("evaluate", tmp_path / "run", tmp_path / "far.csv", "--samples", 4)
    assert "expected finite numbers, got NaN or infinity for" in message
    assert "nll" in message
    run = Run.open(tmp_path / "run")
    vae = run.load_model()
    with torch.no_grad():
        vae.decoder.loc.fill_(1e30)
    run.save_model(vae)
    assert "expected finite numbers" in refused("evaluate", run.path, "--samples", 4)
    assert not (run.path / "metrics.json").exists()


def test_damaged_weights_are_reported(trained, refused, tmp_path):
    broken = tmp_path / "broken"
    broken.mkdir()
    for name in ("config.json", "splits.npz"):
        (broken / name).write_bytes((trained / name).read_bytes())
    assert "has no model.safetensors yet" in refused("evaluate", broken)
    (broken / "model.safetensors").write_bytes((trained / "model.safetensors").read_bytes()[:-100])
    assert "damaged" in refused("evaluate", broken)
    assert "expected a run folder" in refused("evaluate", tmp_path)
