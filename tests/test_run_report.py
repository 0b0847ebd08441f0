"""The page of a run: what it is told, of every kind of run, against the run's own files and models."""

import json
import re
from datetime import UTC, datetime, timedelta

import numpy as np
import pandas as pd
import pytest
import torch
from scipy.stats import gmean
from sklearn.decomposition import PCA

import grid_oracle
import priory
from command_line import must_be_refused, must_succeed, run_cli
from priory import TopographicMap
from priory.training import History
from priory.workbench.pictures.maps import Look
from priory.workbench.pictures.vae import _draw_pseudo_inputs
from priory.workbench.report import run as run_report
from priory.workbench.runs.kinds import open_run

LABELS = ("--labels", "kind", "--ids", "name")
TINY = ("--epochs", 1, "--samples", 2, "--set", "model.hidden=[8]", *LABELS, "--latent-dim", 2)


@pytest.fixture(autouse=True)
def table(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    generator = np.random.default_rng(0)
    kind = generator.integers(0, 2, 80)
    frame = pd.DataFrame(3.0 * kind[:, None] + generator.normal(size=(80, 4)), columns=list("abcd")).assign(same=7.0)
    frame.assign(kind=np.where(kind, "big", "<b>small</b>"), name=[f"r{i}" for i in range(80)]).to_csv(
        "cells.csv", index=False
    )


@pytest.fixture
def told(monkeypatch):
    """What the pages that are written were told."""
    contents = []
    write = run_report.write_report
    monkeypatch.setattr(run_report, "write_report", lambda path, found: (contents.append(found), write(path, found))[1])
    return contents


def test_a_page_of_a_vae_with_a_grid(told, capsys, tmp_path):
    said = must_succeed(
        capsys, "fit", "cells.csv", *TINY, "--prior", "gtm-vamp", "--grid", "4x4", "--latent-dim", 3, "--out", "run"
    )
    page = tmp_path / "run" / "report.html"
    assert "page: run/report.html" in said.replace("\n", " ")
    (found,) = told
    facts = dict(found.facts)
    assert facts["data"] == "cells: 80 rows, 4 columns (1 more are constant and left out)"
    assert facts["model"] == "VAE with a gtm-vamp prior, 4 x 4 nodes"
    assert facts["latent dimensions"] == "3"
    assert facts["numbers"] == "of the 8 test rows"
    assert facts["map"] == "of all 80 rows"
    captions = {picture.title: picture.caption for picture in found.pictures}
    assert "one draw from q(z | x) of each of the 8 test rows" in captions["The prior, pair by pair"]
    assert "Dots: places of all 80 rows." in captions["Magnification"]
    assert facts["command"].startswith(
        "priory fit cells.csv --epochs 1 --samples 2 --set 'model.hidden=[8]' --labels kind"
    )
    begun = datetime.strptime(facts["begun"], "%Y-%m-%d %H:%M UTC").replace(tzinfo=UTC)
    assert datetime.now(UTC) - timedelta(minutes=10) < begun <= datetime.now(UTC)
    assert (facts["epochs run"], facts["learning rate"]) == ("1", "0.001, constant, adam")
    assert facts["best epoch"].startswith("0 (the first is 0)")
    assert re.fullmatch(r"\d+ s|less than a second", facts["fitting took"])
    metrics = json.loads((tmp_path / "run" / "metrics.json").read_text())
    assert {m.name: (m.value, m.se) for m in found.metrics} == {
        name: (values["value"], values["se"]) for name, values in metrics.items() if name != "evaluation"
    }
    assert all(len(metric.how_to_read) > 20 for metric in found.metrics)
    drawn, run = found.map, open_run("run")
    vae, rows = run.load_model(), run.load_dataset().all_rows()
    shares = grid_oracle.shares(vae, rows.tensor())
    with torch.no_grad():
        contents = vae.decode(vae.latent_prior().components.mean).mean
    nodes = vae.prior.nodes.double().numpy()
    np.testing.assert_allclose(drawn.places, grid_oracle.places(shares, nodes), atol=1e-4)
    assert list(drawn.ids) == [f"r{i}" for i in range(80)]
    assert drawn.score_name == "log p(x), nats, by 16 samples"
    assert set(drawn.labels) == {"kind", "split"}
    assert (drawn.labels["split"] == "train").sum() == len(run.splits["train"])
    assert tuple(drawn.columns) == ("a", "b", "c", "d", "same")
    np.testing.assert_allclose(drawn.x, pd.read_csv("cells.csv")[list(drawn.columns)], rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(drawn.nodes.contents[:, :4], contents, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(drawn.nodes.numbers["share of the rows"], shares.mean(0), atol=1e-4)
    stretch = TopographicMap(vae, rows).nodes.magnification.numpy()
    np.testing.assert_allclose(
        drawn.nodes.numbers["log2(magnification / its geometric mean)"],
        np.log2(stretch / gmean(stretch)),
        rtol=1e-4,
    )
    assert {picture.title for picture in found.pictures} >= {"The nodes", "Samples", "Use of the components"}
    text = page.read_text()
    assert "<b>small</b>" not in text
    assert not re.findall(r"""(?:src|href)=["']https?:""", text)
    first = page.read_bytes()
    must_succeed(capsys, "report", "run")
    assert page.read_bytes() == first


@pytest.mark.parametrize("latent_dim", [1, 2, 5])
def test_without_a_grid_the_map_is_the_plane_of_the_codes(told, capsys, latent_dim):
    must_succeed(capsys, "fit", "cells.csv", *TINY, "--latent-dim", latent_dim, "--no-evaluate", "--out", "run")
    (found,) = told
    run = open_run("run")
    with torch.no_grad():
        z = run.load_model().encode(run.load_dataset().all_rows().tensor()).mean.double().numpy()
    expected = {1: lambda: np.c_[z, 0 * z], 2: lambda: z, 5: lambda: PCA(2).fit_transform(z)}[latent_dim]()
    for axis in (0, 1):  # a component's sign is nobody's
        sign = np.sign((found.map.places[:, axis] * expected[:, axis]).sum()) or 1
        np.testing.assert_allclose(sign * found.map.places[:, axis], expected[:, axis], atol=1e-5)
    assert found.map.nodes is None
    assert "no two-dimensional grid" in found.notes[0]
    assert found.metrics == []


def test_a_page_of_a_classical_gtm_with_missing_cells(told, capsys, tmp_path):
    frame = pd.read_csv("cells.csv")
    frame.loc[::5, "b"] = np.nan
    frame.to_csv("cells.csv", index=False)
    must_succeed(
        capsys, "gtm", "fit", "cells.csv", "--labels", "kind", "--ids", "name", "--points-per-side", 4, "--out", "run"
    )
    (found,) = told
    x, model = frame[list("abcd")].to_numpy(), priory.load("run")
    volume = (~np.isnan(x) * np.log(model[0].scale_)).sum(1)
    np.testing.assert_allclose(found.map.score, model.score_samples(x) - volume, rtol=1e-5)
    shares = model[1].predict_proba(model[0].transform(x))
    np.testing.assert_allclose(found.map.places, grid_oracle.places(shares, model[1].nodes_), atol=1e-6)
    facts = dict(found.facts)
    assert facts["model"] == "classical GTM of 4 x 4 nodes"
    assert facts["command"].startswith("priory gtm fit cells.csv")
    assert int(facts["iterations run"]) == model[1].n_iter_
    assert {"begun", "fitting took"} <= facts.keys()
    assert np.isnan(found.map.x[0, 1])
    assert (tmp_path / "run" / "report.html").stat().st_size < 5e6


def test_the_page_states_the_number_of_epochs_and_the_best_one(told, capsys):
    must_succeed(capsys, "fit", "cells.csv", *TINY, "--no-evaluate", "--out", "run", "--no-report")
    run = open_run("run")
    history = run.history.rows()
    rows = [history[0] | {"epoch": i, "valid_objective": -abs(i - 3.0), "beta": 1.0, "seconds": 50.0} for i in range(6)]
    columns = {name: [row[name] for row in rows] for name in rows[0]}
    History(columns).write("run/history.csv")
    must_succeed(capsys, "report", "run")
    facts = dict(told[0].facts)
    assert (facts["epochs run"], facts["fitting took"]) == ("6", "5 min")
    assert facts["best epoch"].startswith("3 ")
    assert "numbers" not in facts
    (run.path / "made.json").unlink()  # of an older version
    must_succeed(capsys, "report", "run")
    assert not {"command", "begun", "fitting took"} & dict(told[1].facts).keys()


def test_the_map_shows_a_subset_of_very_many_rows(told, capsys, monkeypatch):
    monkeypatch.setattr(run_report, "MOST_ROWS", 30)
    must_succeed(capsys, "fit", "cells.csv", *TINY, "--no-evaluate", "--out", "run")
    (found,) = told
    assert found.notes[0] == "The map shows 30 of the 80 rows, evenly spaced."
    assert len(found.map.places) == len(found.map.ids) == 30
    assert found.map.ids[0] == "r0"
    assert found.map.ids[-1] == "r79"


def test_a_picture_of_some_pseudo_inputs_states_their_number():
    look = Look((), (2, 2), lambda x: x, 0.0, 1.0)
    titles = [_draw_pseudo_inputs(torch.rand(number, 4), torch.nn.Module(), look).get_title() for number in (100, 120)]
    assert titles == ["Pseudo-inputs", "Pseudo-inputs: the first 100 of 120"]


def test_captions_state_which_of_many_rows_are_shown(told, capsys, monkeypatch):
    monkeypatch.setattr(run_report, "MOST_MAPPED", 30)
    monkeypatch.setattr(run_report, "MOST_JUDGED", 5)
    must_succeed(capsys, "fit", "cells.csv", *TINY, "--prior", "gtm", "--grid", "3x3", "--out", "run")
    captions = {picture.title: picture.caption for picture in told[0].pictures}
    assert "(means of q(z | x)) of the first 5 of the 8 test rows" in captions["The prior"]
    assert "from 30 of the 80 rows" in captions["The first label over the map"]


def test_every_metric_has_an_explanation():
    from priory.workbench.jobs.gtm import DESCRIPTIONS as OF_MAPS
    from priory.workbench.jobs.vae import DESCRIPTIONS
    from priory.workbench.report.metric_help import HOW_TO_READ

    assert HOW_TO_READ.keys() == DESCRIPTIONS.keys() | OF_MAPS.keys()


def test_a_folder_that_is_no_run_has_no_page(capsys, tmp_path):
    assert "expected a run folder" in must_be_refused(capsys, tmp_path, "report", "nowhere")


def test_an_evaluation_with_other_numbers_notes_that_the_page_is_outdated(capsys):
    must_succeed(capsys, "fit", "cells.csv", *TINY, "--out", "run")
    assert run_cli("evaluate", "run", "--samples", 2) == 0
    assert "report.html still has the previous numbers" not in capsys.readouterr().err
    assert run_cli("evaluate", "run", "--samples", 3) == 0
    said = " ".join(capsys.readouterr().err.split())
    assert "report.html still has the previous numbers; write it again: priory report run" in said


@pytest.mark.slow
@pytest.mark.parametrize("prior", ["gtm-vamp", "mog"])
def test_a_far_test_row_is_left_out_of_pictures_and_page(prior, tmp_path):
    x = np.random.default_rng(0).normal(size=(100, 3))
    x[99] = 1e25
    np.savez(tmp_path / "far.npz", train_x=x[:80], valid_x=x[80:90], test_x=x[90:])
    size = ("--grid", "3x3") if prior == "gtm-vamp" else ("--components", 4)
    arguments = ("--prior", prior, *size, "--epochs", 1, "--no-evaluate", "--out", tmp_path / "run")
    assert run_cli("fit", tmp_path / "far.npz", *arguments) == 0
    assert (tmp_path / "run" / "figures" / "components.png").exists()
    assert "Rows too far from the data to have a place on the map: 1." in (tmp_path / "run" / "report.html").read_text()
