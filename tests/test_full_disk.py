"""Writing to a full disk or a forbidden folder: an error of one line, and old files do not change."""

import errno
import os
import random
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

import priory
from command_line import MATRIX, QUICK, contents, run_cli, write
from priory._support import files
from priory._support.files import replacing
from priory.training.states import read_state
from priory.workbench.data import write_rows

pytestmark = pytest.mark.slow


def half_written(path: Path, number: int) -> None:
    with replacing(path) as temporary:
        temporary.write_text("half")
        raise OSError(number, os.strerror(number))


def test_an_error_names_the_file_and_suggests_a_remedy(tmp_path):
    (tmp_path / "a.txt").write_text("before")
    for number, cure in ((errno.ENOSPC, "free space on the disk"), (errno.EROFS, "a folder that you may write to")):
        with pytest.raises(OSError, match=cure) as caught:
            half_written(tmp_path / "a.txt", number)
        assert caught.value.errno == number
        assert caught.value.filename == str(tmp_path / "a.txt")
    assert contents(tmp_path) == {str(tmp_path / "a.txt"): b"before"}


def test_an_error_about_another_file_is_not_changed(tmp_path):
    with pytest.raises(FileNotFoundError) as caught, replacing(tmp_path / "a.txt"):
        (tmp_path / "template.txt").read_text()
    assert caught.value.filename == str(tmp_path / "template.txt")


@pytest.fixture
def full_disk(tmp_path):
    """Return a function that links a temporary path to a device without space."""
    if not Path("/dev/full").is_char_device():
        pytest.skip("this system has no /dev/full")

    def to(path: Path):
        return path.symlink_to("/dev/full")

    return to


@pytest.mark.parametrize("name", ["x.npz", "x.csv", "x.tsv", "x.parquet"])
def test_a_full_disk_leaves_old_output_files_unchanged(name, full_disk, tmp_path, monkeypatch):
    arguments = {"ids": ["a", "b"], "columns": {"k": np.arange(2)}, "arrays": {"z": np.ones((2, 9000))}}
    write_rows(tmp_path / name, **arguments)
    before = contents(tmp_path)
    genuine = files._temporary

    def linked(path):
        temporary = genuine(path)
        full_disk(temporary)
        return temporary

    monkeypatch.setattr(files, "_temporary", linked)
    with pytest.raises(OSError, match=r"cannot be written \(.*No space left on device.*\); free space"):
        write_rows(tmp_path / name, **arguments)
    assert contents(tmp_path) == before


class Failing:
    """`os.replace` that fails after some calls, so that only the first files exist, each complete."""

    def __init__(self, number: int, after: int) -> None:
        self.number, self.left, self.genuine = number, after, os.replace

    def __call__(self, source: object, target: object) -> None:
        self.left -= 1
        if self.left < 0:
            raise OSError(self.number, os.strerror(self.number), str(source), None, str(target))
        self.genuine(source, target)


def state_of_a_run(folder: Path) -> None:
    """Check that all existing files of a run can be read, and that there are no temporary files."""
    assert not list(folder.rglob(".*"))
    if (folder / "config.json").exists():
        run = priory.workbench.runs.vae_run.Run.open(folder)
        assert set(run.splits) == {"train", "valid", "test"}
        run.load_dataset()
    if (folder / "state.safetensors").exists():
        assert read_state(folder / "state.safetensors")["progress"]["epoch"] >= 1
    if (folder / "model.safetensors").exists():
        priory.load(folder)


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EACCES])
def test_a_fit_interrupted_by_a_full_disk_can_be_resumed(number, tmp_path, monkeypatch, capsys):
    write(tmp_path / "data.csv", MATRIX)
    monkeypatch.chdir(tmp_path)
    arguments = ("fit", "data.csv", *QUICK, "--no-evaluate", "--resume", "--out")
    assert run_cli(*arguments, "whole") == 0
    writes = random.Random(number).sample(range(8), 4)
    for after in [0, *writes]:
        monkeypatch.setattr(os, "replace", Failing(number, after))
        capsys.readouterr()
        assert run_cli(*arguments, "run") in (0, 2)
        errors = capsys.readouterr().err
        monkeypatch.undo()
        monkeypatch.chdir(tmp_path)
        assert errors.count("\n") == (1 if errors else 0), errors
        assert "Traceback" not in errors
        assert not errors or "the previous content is unchanged" in errors
        state_of_a_run(tmp_path / "run") if (tmp_path / "run").exists() else None
    assert run_cli(*arguments, "run") == 0
    one, two = (priory.load(tmp_path / name).state_dict() for name in ("whole", "run"))
    assert all(torch.equal(one[key], two[key]) for key in one)


@pytest.mark.parametrize("command", ["evaluate", "sample", "embed", "score"])
def test_results_that_cannot_be_written_leave_old_ones_unchanged(command, tmp_path, monkeypatch, capsys):
    write(tmp_path / "data.csv", MATRIX)
    monkeypatch.chdir(tmp_path)
    assert run_cli("fit", "data.csv", *QUICK, "--out", "run") == 0
    (tmp_path / "out.csv").write_text("old")
    before = contents(tmp_path)
    monkeypatch.setattr(os, "replace", Failing(errno.ENOSPC, 0))
    capsys.readouterr()
    assert run_cli(command, "run", *(() if command == "evaluate" else ("--out", "out.csv"))) == 2
    captured = capsys.readouterr()
    name = "metrics.json" if command == "evaluate" else "out.csv"
    assert captured.err.startswith("Error: ")
    assert captured.err.count("\n") == 1
    assert f"{name}: cannot be written (No space left on device); free space on the disk" in captured.err
    assert "nll" in captured.out or command != "evaluate"  # metrics are printed before they are written
    assert contents(tmp_path) == before


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write to every folder")
def test_a_read_only_folder_is_refused(refused, tmp_path):
    (tmp_path / "locked").mkdir(mode=0o500)
    write(tmp_path / "data.csv", MATRIX)
    message = refused("fit", "data.csv", "--out", "locked/run")
    assert "cannot be written (Permission denied); name a folder that you may write to" in message


def test_a_folder_that_cannot_be_created_is_refused(monkeypatch, refused, tmp_path):
    def denied(path: Path, *arguments: object, **options: object) -> None:
        raise PermissionError(errno.EACCES, "Permission denied", str(path))

    monkeypatch.setattr(Path, "mkdir", denied)
    message = refused("fit", "digits", "--out", "locked/run")
    assert "locked/run: cannot be written (Permission denied); name a folder that you may write to" in message


def test_a_copy_of_a_run_folder_is_a_run(done, tmp_path):
    done("fit", "digits", *QUICK, "--no-evaluate", "--out", "run")
    shutil.copytree(tmp_path / "run", tmp_path / "copy")
    done("sample", "copy", "-n", 2)
