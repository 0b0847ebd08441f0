"""Commands do not replace their data, files of a run, or files that the user did not name."""

import os
import shutil
from pathlib import Path

import pytest

from command_line import MATRIX, QUICK, run_cli, write


@pytest.fixture(scope="module")
def trained(tmp_path_factory) -> Path:
    """Fit a map to a table, and write another file with the same columns; tests use copies of the folder."""
    folder = tmp_path_factory.mktemp("trained")
    write(folder / "data.csv", MATRIX)
    write(folder / "new.csv", MATRIX[:20] + 1)
    with pytest.MonkeyPatch.context() as monkeypatch:
        monkeypatch.chdir(folder)
        assert run_cli("gtm", "fit", "data.csv", "--points-per-side", 3, "--out", "run") == 0
    return folder


@pytest.fixture
def place(trained, tmp_path, monkeypatch) -> Path:
    """Return the working directory of the commands; its run was fitted to its data."""
    for path in trained.iterdir():
        (shutil.copytree if path.is_dir() else shutil.copy)(path, tmp_path / path.name)
    for name in ("run", "other"):
        shutil.copytree(trained / "run", tmp_path / name, dirs_exist_ok=True)
        config = tmp_path / name / "config.json"
        config.write_text(config.read_text().replace(str(trained), str(tmp_path)))
    (tmp_path / "compared").mkdir()
    for name in ("comparison.json", "comparison.csv"):
        (tmp_path / "compared" / name).write_text("{}")
    (tmp_path / "alias").symlink_to("run")
    (tmp_path / "link.csv").symlink_to("data.csv")
    (tmp_path / "history.csv").symlink_to("run/history.csv")
    os.link(tmp_path / "data.csv", tmp_path / "hard.csv")
    monkeypatch.chdir(tmp_path)
    return tmp_path


COMMANDS = {
    "sample": ("sample", "run", "-n", 3),
    "embed": ("embed", "run"),
    "score new": ("score", "run", "new.csv"),
    "map": ("map", "run"),
}
DATA = ["data.csv", "run/../data.csv", "link.csv", "hard.csv"]
FILES = ["run/history.csv", "run/splits.npz", "other/splits.npz", "other/history.csv", "alias/history.csv"]
FILES += ["history.csv", "run/row_scores.npz", "run/figures/new.csv", "compared/comparison.csv"]


@pytest.mark.parametrize("out", [*DATA, *FILES])
@pytest.mark.parametrize("command", COMMANDS)
def test_outputs_do_not_replace_data_or_files_of_a_run(command, out, place, refused):
    what = "the data" if out in DATA else "those of a run"
    assert f"--out: expected another file than {what}, got '{out}'" in refused(*COMMANDS[command], "--out", out)


@pytest.mark.parametrize("command", ["embed", "score", "map"])
def test_outputs_do_not_replace_the_file_that_is_read(command, place, refused):
    for copy in ((), ("--copy",)):
        message = refused(command, "run", "new.csv", *copy, "--out", "new.csv")
        assert "--out: expected another file than the data, got 'new.csv'" in message


@pytest.mark.parametrize("figure", ["run/figures/map.png", "other/figures/nodes.png", "alias/figures/new.svg"])
def test_figures_do_not_replace_files_of_a_run(figure, place, refused):
    assert "--figure: expected another file than those of a run" in refused(
        "map", "run", "--out", "m.csv", "--figure", figure
    )


DEFAULTS = {"sample": "samples.npz", "embed": "embedding.npz", "score": "scores.csv", "map": "map.csv"}


@pytest.mark.parametrize("command", DEFAULTS)
def test_files_that_the_user_did_not_name_are_not_replaced(command, place, refused, done):
    name = DEFAULTS[command]
    (place / name).write_text("precious")
    message = refused(command, "run")
    assert f"--out: '{name}' exists, and is replaced only if you name it; give --out {name} to replace it" in message
    done(command, "run", "--out", name)
    assert (place / name).read_bytes() != b"precious"


def test_pictures_that_the_user_did_not_name_are_not_replaced(place, refused, done):
    (place / "m.png").write_bytes(b"precious")
    assert "--figure: 'm.png' exists, and is replaced only if you name it" in refused("map", "run", "--out", "m.csv")
    done("map", "run", "--out", "m.csv", "--figure", "m.png")
    assert (place / "m.png").read_bytes() != b"precious"


def test_the_picture_of_an_earlier_map_is_replaced(place, done):
    done("map", "run", "--out", "m.csv")
    first = (place / "m.png").read_bytes()
    done("map", "run", "new.csv", "--out", "m.csv")
    assert (place / "m.png").read_bytes() != first


def test_outputs_with_other_names_in_a_run_folder_can_be_replaced(place, done):
    for _ in range(2):
        done("score", "run", "--out", "run/scores.csv")


@pytest.mark.parametrize("command", [("fit",), ("gtm", "fit")])
def test_a_new_run_does_not_replace_its_data(command, place, refused):
    """An interrupted run may leave only `splits.npz`."""
    (place / "out").mkdir()
    write(place / "out" / "splits.npz", MATRIX)
    assert "--out out: expected another folder than the one of the data" in refused(
        *command, "out/splits.npz", "--out", "out"
    )


def test_a_refit_does_not_replace_its_data(place, refused, done):
    """An interrupted refit may leave only its split."""
    (place / "out").mkdir()
    write(place / "out" / "splits.npz", MATRIX)
    done("fit", "out/splits.npz", *QUICK, "--no-evaluate", "--out", "vae")
    assert "--out out: expected another folder than the one of the data" in refused(
        "refit", "vae", "--prior", "mog", "--out", "out"
    )


@pytest.mark.parametrize("name", ["comparison.csv", "report.html", "figures/mine.png"])
def test_a_comparison_replaces_only_files_of_a_comparison(name, place, refused):
    (place / "mine" / name).parent.mkdir(parents=True)
    (place / "mine" / name).write_text("precious")
    assert "--out mine: expected a folder for a comparison, got one with " in refused("compare", "--out", "mine")
    assert "--out run: expected a folder for a comparison, got the folder of a run" in refused(
        "compare", "--out", "run"
    )


def test_a_run_can_be_in_the_working_directory(tmp_path, done):
    done("fit", "digits", *QUICK, "--no-evaluate", "--out", ".")
