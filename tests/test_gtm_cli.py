"""`priory gtm fit` and `priory map`, and other commands for the run folder of a map."""

import json
import math
import shutil

import numpy as np
import pandas as pd
import pytest
from scipy import sparse
from scipy.special import logsumexp
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import Pipeline

import grid_oracle
import priory
from command_line import contents, run_cli, untimed
from priory import GTM
from priory.workbench.runs.gtm_run import GTMRun
from priory.workbench.runs.kinds import open_run
from priory.workbench.settings.gtm import GTMSettings

QUICK = ("--points-per-side", 4, "--max-iter", 60, "--set", "model.tol=1e-4")
READING = ("--labels", "kind", "--ids", "name")
FILES = {
    "config.json",
    "made.json",
    "model.safetensors",
    "metrics.json",
    "history.csv",
    "report.html",
    "splits.npz",
    "figures",
}
PICTURES = {"map.png", "nodes.png", "magnification.png", "landscape.png", "training.png"}


@pytest.fixture(scope="module")
def table(tmp_path_factory):
    """Write a table with very different units, a tenth of the cells missing, and a label that some rows lack."""
    generator = np.random.default_rng(0)
    kind = generator.integers(0, 2, 250)
    x = (4.0 * kind[:, None] + generator.normal(size=(250, 4))) * [1, 1000, 0.01, 1] + [0, 5, 100, -3]
    frame = pd.DataFrame(x, columns=list("abcd")).mask(generator.random((250, 4)) < 0.1)
    labels = np.where(generator.random(250) < 0.05, "", np.where(kind, "big", "small"))
    path = tmp_path_factory.mktemp("table") / "cells.csv"
    frame = frame.assign(same=7.5, none=np.nan, kind=labels, name=[f"cell{i}" for i in range(250)])
    frame.to_csv(path, index=False)
    return path


@pytest.fixture(scope="module")
def run(table):
    assert run_cli("gtm", "fit", table, *READING, *QUICK, "--out", table.parent / "run") == 0
    return table.parent / "run"


@pytest.fixture(scope="module")
def digits(tmp_path_factory):
    out = tmp_path_factory.mktemp("digits") / "run"
    assert run_cli("gtm", "fit", "digits", *QUICK, "--out", out) == 0
    return out


@pytest.fixture(scope="module")
def rows(table, run):
    """Return the modeled columns, and the rows of the splits."""
    with np.load(run / "splits.npz") as splits:
        return pd.read_csv(table)[list("abcd")].to_numpy(np.float32).astype(float), dict(splits)


def log_likelihoods(run, x):
    """Return log p(x) and p(k | x) row by row: the mixture over the observed cells in the units of the data."""
    config = json.loads((run / "config.json").read_text())
    gtm = GTM.load(run / "model.safetensors")
    loc, scale = (np.array(config["standardized"][name]) for name in ("loc", "scale"))
    means, scales = loc + scale * gtm.means_, scale * math.sqrt(gtm.noise_variance_)
    result = []
    for row in x:
        there = ~np.isnan(row)
        z = (row[there] - means[:, there]) / scales[there]
        of_nodes = -0.5 * (z**2).sum(1) - np.log(scales[there]).sum() - 0.5 * there.sum() * math.log(2 * math.pi)
        result.append((logsumexp(of_nodes) - math.log(len(means)), of_nodes - logsumexp(of_nodes)))
    return np.array([total for total, _ in result]), np.exp([shares for _, shares in result])


def test_fit_describes_the_data_and_writes_a_complete_run(table, run, rows, done, tmp_path):
    output = done("gtm", "fit", table, *READING, *QUICK, "--out", "again")
    x, _ = rows
    missing = int(np.isnan(x).sum())
    assert f"missing: {missing} of 1000 cells, {missing / 1000:.1%}; the likelihood integrates over them" in output
    assert "1 column has one value in all training rows ('same' = 7.5)" in output
    assert "1 column has no value in any training row ('none')" in output
    assert "columns: standardized (so that units do not matter" in output
    assert "EM converged after" in output
    assert "next: priory map again --out map.csv" in output
    assert {path.name for path in run.iterdir()} == FILES
    assert {path.name for path in (run / "figures").iterdir()} == PICTURES
    for name in {*FILES, *(f"figures/{name}" for name in PICTURES)} - {
        "figures"
    }:  # the same command gives the same bits
        assert untimed(run / name) == untimed(tmp_path / "again" / name), name


def test_columns_are_standardized_by_the_observed_training_cells(run, rows):
    config = json.loads((run / "config.json").read_text())
    x, splits = rows
    assert config["kind"] == "gtm"
    assert config["constants"] == {"same": 7.5, "none": None}
    np.testing.assert_allclose(config["standardized"]["loc"], np.nanmean(x[splits["train"]], 0), rtol=1e-12)
    np.testing.assert_allclose(config["standardized"]["scale"], np.nanstd(x[splits["train"]], 0), rtol=1e-12)


def test_map_writes_positions_and_likelihoods_of_every_row(run, rows, table, done, tmp_path):
    done("map", run, "--out", "map.csv")
    assert (tmp_path / "map.png").stat().st_size > 10_000
    table_of_rows = pd.read_csv(tmp_path / "map.csv", keep_default_na=False)
    x, splits = rows
    log_likelihood, shares = log_likelihoods(run, x)
    nodes = GTM.load(run / "model.safetensors").nodes_
    assert table_of_rows["id"].tolist() == [f"cell{i}" for i in range(250)]
    assert table_of_rows["kind"].tolist() == pd.read_csv(table, keep_default_na=False)["kind"].tolist()
    assert set(table_of_rows.index[table_of_rows["split"] == "test"]) == set(splits["test"])
    np.testing.assert_allclose(table_of_rows["log_likelihood"], log_likelihood, rtol=1e-9)
    np.testing.assert_allclose(table_of_rows[["u1", "u2"]], grid_oracle.places(shares, nodes), atol=1e-9)
    spread = np.sqrt(
        [((nodes - place) ** 2 * share[:, None]).sum(0) for place, share in zip(shares @ nodes, shares, strict=True)]
    )
    np.testing.assert_allclose(table_of_rows[["u1_scale", "u2_scale"]], spread, atol=1e-6)
    np.testing.assert_array_equal(table_of_rows["node"], shares.argmax(1))
    np.testing.assert_allclose(table_of_rows[["node_u1", "node_u2"]], nodes[table_of_rows["node"]], rtol=1e-12)
    np.testing.assert_allclose(table_of_rows["responsibility"], shares.max(1), rtol=1e-9)


def test_metrics_describe_test_rows_in_the_units_of_the_data(run, rows, table):
    metrics = json.loads((run / "metrics.json").read_text())
    x, splits = rows
    log_likelihood, shares = log_likelihoods(run, x[splits["test"]])
    assert metrics["nll"]["value"] == pytest.approx(-log_likelihood.mean(), rel=1e-9)
    assert metrics["nll"]["se"] == pytest.approx(log_likelihood.std(ddof=1) / 5)
    usage = shares.mean(0)
    assert metrics["used_nodes"]["value"] == pytest.approx(np.exp(-(usage * np.log(usage + 1e-300)).sum()), rel=1e-6)
    assert metrics["noise_variance"] == {"value": GTM.load(run / "model.safetensors").noise_variance_, "se": None}
    assert metrics["evaluation"] == {"num_neighbors": 10}
    kinds = pd.read_csv(table, keep_default_na=False)["kind"].to_numpy()
    places = grid_oracle.places(log_likelihoods(run, x)[1], GTM.load(run / "model.safetensors").nodes_)
    train, test = (index[kinds[index] != ""] for index in (splits["train"], splits["test"]))
    accuracy = KNeighborsClassifier(10).fit(places[train], kinds[train]).score(places[test], kinds[test])
    assert metrics["knn_accuracy"]["value"] == pytest.approx(accuracy)
    assert accuracy > 0.9
    assert 0.5 < metrics["trustworthiness"]["value"] < 1
    assert 0.5 < metrics["continuity"]["value"] < 1


def test_the_history_is_in_the_units_of_the_data(run, rows):
    history = pd.read_csv(run / "history.csv")
    x, splits = rows
    assert history["iteration"].tolist() == list(range(1, len(history) + 1))
    assert history["log_likelihood"].iloc[-1] > history["log_likelihood"].iloc[0]
    after = log_likelihoods(run, x[splits["train"]])[0].mean()
    assert history["log_likelihood"].iloc[-1] == pytest.approx(after, abs=0.01)


def test_new_rows_are_placed_on_the_same_map(run, table, done, tmp_path):
    frame = pd.read_csv(table).head(12)[["d", "c", "a", "b"]]  # no label, no ids, another order, no constant column
    frame.loc[3] = np.nan
    frame.assign(same=7.5, none=np.nan).to_csv("new.csv", index=False)
    done("map", run, "new.csv", "--out", "new.npz", "--figure", "pictures/new.svg")
    done("map", run, "--out", "old.csv")
    old = pd.read_csv(tmp_path / "old.csv").head(12)
    assert (tmp_path / "pictures" / "new.svg").read_text().count("<svg") == 1
    with np.load(tmp_path / "new.npz") as new:
        assert "kind" not in new.files
        assert set(new["split"]) == {"new"}
        known = np.arange(12) != 3
        np.testing.assert_allclose(new["u1"][known], old["u1"][known], rtol=1e-12)
        assert (new["u1"][3], new["log_likelihood"][3]) == (
            pytest.approx(0, abs=1e-12),
            0,
        )  # a row without observed cells


def test_map_can_write_into_a_copy_of_the_table(run, table, done, tmp_path):
    done("map", run, "--copy", "--out", "copy.csv")
    copy = pd.read_csv(tmp_path / "copy.csv")
    pd.testing.assert_frame_equal(copy[list("abcd")], pd.read_csv(table)[list("abcd")])
    assert copy.columns[-9:].tolist()[:2] == ["u1", "u2"]


def test_map_can_write_into_a_copy_of_an_h5ad_file(done, tmp_path):
    anndata = pytest.importorskip("anndata")
    counts = sparse.random(60, 5, 0.5, format="csr", random_state=0, data_rvs=lambda n: np.arange(1.0, n + 1))
    obs = pd.DataFrame({"batch": ["x", "y"] * 30}, index=[f"cell{i}" for i in range(60)])
    anndata.AnnData(counts, obs=obs).write_h5ad(tmp_path / "cells.h5ad")
    done("gtm", "fit", "cells.h5ad", "--labels", "batch", *QUICK, "--out", "run")
    done("map", "run", "--out", "mapped.h5ad")
    done("map", "run", "--out", "mapped.csv")
    mapped, table = anndata.read_h5ad(tmp_path / "mapped.h5ad"), pd.read_csv(tmp_path / "mapped.csv")
    np.testing.assert_allclose(mapped.obsm["X_priory_map"], table[["u1", "u2"]], rtol=1e-12)
    np.testing.assert_allclose(mapped.obs["priory_log_likelihood"], table["log_likelihood"], rtol=1e-12)
    assert (tmp_path / "mapped.png").is_file()


def test_other_commands_work_on_the_run_of_a_map(run, rows, done, tmp_path):
    x, splits = rows
    recorded = json.loads((run / "metrics.json").read_text())
    assert json.loads(done("evaluate", run, "--json")) == recorded
    assert "exact" in done("evaluate", run)
    log_likelihood, shares = log_likelihoods(run, x)
    done("embed", run, "--out", "z.npz")
    with np.load(tmp_path / "z.npz") as z:
        places = grid_oracle.places(shares, GTM.load(run / "model.safetensors").nodes_)
        np.testing.assert_allclose(z["map"], places, atol=1e-9)
        assert z["map_scale"].shape == (250, 2)
    output = done("score", run, "--out", "s.csv")
    scores = pd.read_csv(tmp_path / "s.csv")["log_likelihood"]
    np.testing.assert_allclose(scores, log_likelihood, rtol=1e-9)
    assert f"cell{scores.argmin()}" in output
    done("sample", run, "-n", 4000, "--out", "x.csv", "--seed", 2**40)
    samples = pd.read_csv(tmp_path / "x.csv")
    assert (samples["same"] == 7.5).all()
    assert samples["none"].isna().all()
    train = x[splits["train"]]
    error = np.nanstd(train, 0) * 0.2
    np.testing.assert_array_less(np.abs(samples[list("abcd")].mean().to_numpy() - np.nanmean(train, 0)), error)
    done("sample", run, "-n", 50, "--mean", "--out", "m.npz")
    with np.load(tmp_path / "m.npz") as m:
        assert len(np.unique(m["x"][:, 0])) <= 16  # nodes


def test_load_returns_an_estimator_for_rows_in_the_units_of_the_data(run, digits, rows):
    x, _ = rows
    shares = log_likelihoods(run, x)[1]
    pipeline = priory.load(run)
    assert isinstance(pipeline, Pipeline)
    np.testing.assert_allclose(pipeline.predict_proba(x), shares, atol=1e-9)
    sheet = pipeline.inverse_transform(pipeline[-1].nodes_)
    np.testing.assert_allclose(sheet, open_run(run).load_model().surface.contents())
    assert isinstance(priory.load(digits), GTM)
    assert priory.load(digits).transform(np.zeros((1, 64))).shape == (1, 2)


@pytest.mark.slow
def test_digits_are_not_standardized_by_default(digits, done):
    config = json.loads((digits / "config.json").read_text())
    assert config["standardized"] is None
    assert config["constants"] == {}
    assert config["image_shape"] == [8, 8]
    assert json.loads((digits / "metrics.json").read_text())["knn_accuracy"]["value"] > 0.5
    output = done("gtm", "fit", "digits", "--standardize", *QUICK, "--out", "standardized")
    assert "columns: standardized (as requested)" in output
    assert "3 columns have one value in all training rows" in output
    assert "columns: not standardized (as requested)" in done(
        "gtm", "fit", "digits", "--raw", "--set", "model.batch_size=300", *QUICK, "--set", "model.tol=0", "--out", "raw"
    )


def test_a_map_without_convergence_gives_a_note(capsys, tmp_path):
    assert run_cli("gtm", "fit", "digits", "--points-per-side", 3, "--max-iter", 2, "--out", tmp_path / "run") == 0
    assert "EM had not converged after 2 iterations (--max-iter 4)" in capsys.readouterr().err


def test_maps_of_few_rows_and_with_measurements_as_labels_work(done, tmp_path):
    frame = pd.DataFrame(np.random.default_rng(0).normal(size=(15, 2)), columns=["a", "weight"])
    frame.to_csv("few.csv", index=False)
    done("gtm", "fit", "few.csv", "--labels", "weight", *QUICK, "--out", "run")
    metrics = json.loads((tmp_path / "run" / "metrics.json").read_text())
    assert metrics.keys() == {"nll", "noise_variance", "topographic_error", "used_nodes", "evaluation"}
    done("map", "run", "--out", "m.parquet")
    assert pd.read_parquet(tmp_path / "m.parquet")["weight"].tolist() == frame["weight"].tolist()


def test_an_unfinished_fit_is_repeated_by_the_same_command(table, run, refused, done, monkeypatch, tmp_path):
    shutil.copytree(run, "run")
    (tmp_path / "run" / "model.safetensors").unlink()
    (tmp_path / "run" / "figures" / "nodes.png").unlink()
    again = "has no model.safetensors, because its fit did not end; give its `priory gtm fit` command again"
    for command in (("map",), ("evaluate",), ("embed",), ("score",), ("sample",)):
        assert again in refused(*command, "run")
    done("gtm", "fit", table, *READING, *QUICK, "--out", "run")
    whole, resumed = (
        {path.relative_to(folder): path.is_file() and untimed(path) for path in folder.rglob("*")}
        for folder in (run, tmp_path / "run")
    )
    assert resumed == whole


@pytest.mark.parametrize("place", ["priory.workbench.jobs.gtm.measure", "priory.workbench.pictures.gtm.draw_figures"])
def test_the_same_command_repeats_a_fit_after_ctrl_c(place, table, run, monkeypatch, capsys, tmp_path):
    def interrupted(*arguments, **options):
        raise KeyboardInterrupt

    line = ("gtm", "fit", table, *READING, *QUICK, "--out", tmp_path / "run")
    monkeypatch.setattr(place, interrupted)
    assert run_cli(*line) == 130
    assert "interrupted; nothing was finished; give the same command again" in capsys.readouterr().err
    assert bool(contents(tmp_path / "run")) == ("figures" in place)
    monkeypatch.undo()
    assert run_cli(*line) == 0
    assert (tmp_path / "run" / "model.safetensors").read_bytes() == (run / "model.safetensors").read_bytes()


ERRORS = [
    (("gtm", "fit"), "DATA: expected a file or an embedded data set, such as: priory gtm fit digits"),
    (("gtm", "fit", "dgits"), "did you mean 'digits'?"),
    (("gtm", "fit", "digits", "--point", 3), "there is no option --point"),
    (("gtm", "fit", "digits", "--tol", 3), "did you mean --set model.tol=VALUE?"),
    (("gtm", "fit", "digits", "--set", "model.prior=vamp"), "there is no such setting; known are data.binarize"),
    (("gtm", "fit", "digits", "--set", "model.widht=2"), "there is no such setting"),
    (("gtm", "fit", "digits", "--points-per-side", 1), "model.points_per_side: expected at least 2, got 1"),
    (("gtm", "fit", "digits", "--weight-decay", -1), "model.weight_decay: expected at least 0"),
    (("gtm", "fit", "digits", "--device", "quantum"), "--device quantum: expected auto, cpu or a device"),
    (("gtm", "fit", "inf.csv"), "inf.csv: expected a finite number in every cell, got 1 infinite value"),
    (("gtm", "fit", "same.csv"), "expected at least one column with different values"),
    (("gtm", "fit", "two.csv"), "expected at least 10 rows to make an 80/10/10 split"),
    (("gtm", "frob"), "there is no command frob; there are fit"),
    (("map", "nothing"), "expected a run folder with config.json, such as `priory fit ... --out RUN` writes"),
    (("map", "run", "two.csv", "--drop", "a"), "are missing"),
    (("map", "run", "--out", "map.xlsx"), "--out: expected a name that ends in .npz"),
    (("map", "run", "--figure", "map.txt"), "--figure: expected a name that ends in .png, .svg, .pdf"),
    (("map", "run", "two.csv", "--out", "two.csv"), "--out: expected another file than the data"),
    (("embed", "run", "two.csv", "--out", "two.csv"), "--out: expected another file than the data"),
    (("score", "run", "two.csv", "--out", "./two.csv"), "--out: expected another file than the data"),
    (("map", "run", "image.svg", "--figure", "image.svg"), "--figure: expected another file than the data"),
    (
        ("map", "run", "two.csv", "--predict", "size"),
        "expected a label of the run's data, which have kind",
    ),
    (("fit", "--resume", "--out", "run"), "expected a run that `priory fit` made, got one that `priory gtm fit` made"),
    (("gtm", "fit", "digits", "--out", "run"), "expected an empty or a new folder"),
    (("fit", "digits", "--out", "run"), "remove what `priory gtm fit` left there"),
]


@pytest.mark.parametrize(("arguments", "message"), ERRORS, ids=[" ".join(map(str, a)) for a, _ in ERRORS])
def test_invalid_arguments_raise_clear_errors(arguments, message, run, refused, tmp_path):
    pd.DataFrame(np.eye(12)).assign(b=[np.inf, *range(11)]).to_csv("inf.csv", index=False)
    pd.DataFrame(np.ones((20, 2)), columns=["a", "b"]).to_csv("same.csv", index=False)
    pd.DataFrame(np.eye(2), columns=["a", "b"]).to_csv("two.csv", index=False)
    (tmp_path / "image.svg").write_text("<svg/>")
    shutil.copytree(run, "run")
    (tmp_path / "vae").mkdir()
    (tmp_path / "vae" / "config.json").write_text("{}")
    out = ("--out", "out") if arguments[1:2] == ("fit",) and "--out" not in arguments else ()
    assert message in refused(*arguments, *out)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"kind": "som"}, "kind: expected vae or gtm, got 'som'"),
        ({"constants": {"a": 1.0, "same": 7.5, "none": None}}, "a scale for each of the 3 others, got 4"),
        ({"constants": {"z": 1.0, "none": None}}, "expected constants to be columns"),
        ({"standardized": {"loc": [0, 0, 0, 0], "scale": [1, 1, 1, 0]}}, "expected more than 0, got 0"),
        ({"standardized": {"loc": [0, 0, 0, 0], "scale": [1]}}, "expected as many scales as locs, 4, got 1"),
        ({"color": 1}, "color: there is no such setting"),
    ],
)
def test_a_damaged_configuration_is_refused(change, message, run, refused, tmp_path):
    shutil.copytree(run, "run")
    config = json.loads((run / "config.json").read_text())
    (tmp_path / "run" / "config.json").write_text(json.dumps(config | change))
    assert message in refused("map", "run")


def test_a_damaged_model_is_refused(run, digits, refused, tmp_path):
    shutil.copytree(run, "run")
    shutil.copy(digits / "model.safetensors", "run")
    assert "expected a map of 4 columns on 2 axes, like config.json, got 64 on 2" in refused("evaluate", "run")
    (tmp_path / "run" / "model.safetensors").write_text("no tensors")
    assert "expected a fitted GTM in safetensors' format, got a damaged file" in refused("map", "run")


def test_open_run_opens_the_run_of_a_map(run):
    assert isinstance(open_run(run), GTMRun)
    assert open_run(run).modeled == ("a", "b", "c", "d")


def test_the_defaults_of_the_settings_equal_those_of_the_estimator():
    """The defaults are written twice, so that the command line prints its help without scikit-learn."""
    estimator = GTM().get_params()
    settings = GTMSettings().model_dump(exclude={"standardize"})
    assert settings == {name: estimator[name] for name in settings}
