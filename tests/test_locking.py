"""Only one process at a time writes into a run folder."""

import errno
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch

from command_line import QUICK, contents, run_cli
from priory import VAE, BernoulliDecoder, NormalEncoder, StandardNormal, mlp
from priory._support import locking
from priory._support.locking import sole_writer
from priory.training import fit
from priory.workbench.jobs import vae as vae_jobs
from priory.workbench.runs.vae_run import Run

HOLD = """
import sys
from pathlib import Path
from priory._support.locking import sole_writer
with sole_writer(Path(sys.argv[1])):
    print("held", flush=True)
    sys.stdin.read()
"""
Hold = Callable[[Path], subprocess.Popen[str]]


@pytest.fixture
def hold() -> Iterator[Hold]:
    """Start a process that locks a folder until its input ends."""
    processes = []

    def start(folder: Path) -> subprocess.Popen[str]:
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
        process = subprocess.Popen([sys.executable, "-c", HOLD, str(folder)], **pipes)
        processes.append(process)
        assert process.stdout.readline() == "held\n"
        return process

    yield start
    for process in processes:
        process.kill()
        process.communicate()


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("locking") / "run"
    assert run_cli("fit", "digits", *QUICK, "--set", "training.warmup=1", "--out", out) == 0
    return out


def take(folder: Path) -> None:
    with sole_writer(folder):
        pass


def test_a_locked_folder_is_refused_until_the_other_process_ends(hold: Hold, tmp_path: Path) -> None:
    holder = hold(tmp_path / "run")
    with pytest.raises(BlockingIOError, match="another priory process is writing") as caught:
        take(tmp_path / "run")
    assert caught.value.filename == str(tmp_path / "run")
    holder.communicate("")
    take(tmp_path / "run")
    assert list((tmp_path / "run").iterdir()) == []


def test_a_killed_process_leaves_no_lock(hold: Hold, tmp_path: Path) -> None:
    holder = hold(tmp_path)
    holder.kill()
    holder.wait()
    take(tmp_path)


def test_a_process_can_lock_a_folder_twice_and_releases_it_at_the_end_of_the_outer_block(
    hold: Hold, tmp_path: Path
) -> None:
    with sole_writer(tmp_path), sole_writer(tmp_path / "." / "."):
        take(tmp_path)
    hold(tmp_path)


def test_nothing_is_locked_if_the_system_has_no_locks(hold: Hold, tmp_path: Path, monkeypatch) -> None:
    hold(tmp_path)

    def unsupported(descriptor: int, operation: int) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(locking.fcntl, "flock", unsupported)
    take(tmp_path)
    monkeypatch.setattr(locking, "fcntl", None)
    take(tmp_path)


@pytest.mark.parametrize(
    ("arguments", "folder"),
    [
        (("fit", "--resume", "--out", "run"), "run"),
        (("fit", "--resume", "--epochs", 9, "--out", "run"), "run"),
        (("fit", "digits", *QUICK, "--out", "new"), "new"),
        (("compare", "digits", *QUICK, "--priors", "standard", "--seeds", 1, "--out", "all"), "all/standard-0"),
    ],
)
def test_a_second_writer_is_refused_before_any_change(
    arguments: tuple[object, ...], folder: str, hold: Hold, refused, tmp_path: Path
) -> None:
    run_cli("fit", "digits", *QUICK, "--no-evaluate", "--set", "training.warmup=1", "--out", "run")
    holder = hold(tmp_path / folder)
    message = refused(*arguments)
    assert message == (
        f"Error: {folder}: another priory process is writing to this folder; wait until it has ended, or choose "
        "another folder\n"
    )
    holder.communicate("")
    assert run_cli(*arguments) == 0


def test_fit_in_python_locks_its_folder(hold: Hold, tmp_path: Path) -> None:
    x = torch.rand(20, 6).round()
    vae = VAE(NormalEncoder(mlp(6, [4], 4)), BernoulliDecoder(mlp(2, [4], 6)), StandardNormal(2))
    fit(vae, x, epochs=1, out=tmp_path)
    before = contents(tmp_path)
    hold(tmp_path)
    with pytest.raises(BlockingIOError):
        fit(vae, x, epochs=1, out=tmp_path, resume=True)
    assert contents(tmp_path) == before


def test_reading_commands_ignore_the_lock(trained: Path, hold: Hold, done) -> None:
    hold(trained)
    done("sample", trained, "-n", 2)
    done("embed", trained)
    done("score", trained, "--samples", 2)


def test_evaluating_a_locked_run_prints_metrics_without_writing_them(trained: Path, hold: Hold, capsys) -> None:
    hold(trained)
    before = contents(trained)
    capsys.readouterr()
    assert run_cli("evaluate", trained, "--samples", 3) == 0
    captured = capsys.readouterr()
    assert "nll" in captured.out
    assert captured.err == (
        f"note: {trained}/metrics.json was not written: another priory process is writing to this folder; wait until "
        "it has ended, or choose another folder\n"
    )
    assert contents(trained) == before


def trained_on_meanwhile(monkeypatch, run: Run) -> None:
    """Simulate another process that ends its training while this one evaluates."""
    genuine = vae_jobs.measure

    def measure(*arguments: object) -> object:
        run.save_model(run.load_model())
        return genuine(*arguments)

    monkeypatch.setattr(vae_jobs, "measure", measure)


def test_metrics_of_a_replaced_model_are_not_written(trained: Path, monkeypatch, capsys) -> None:
    before = (trained / "metrics.json").read_bytes()
    trained_on_meanwhile(monkeypatch, Run.open(trained))
    assert run_cli("evaluate", trained, "--samples", 3) == 0
    assert "metrics.json was not written: the run was trained further in the meantime" in capsys.readouterr().err
    assert (trained / "metrics.json").read_bytes() == before


def test_metrics_of_an_unfinished_model_are_not_written_after_the_run_has_ended(
    done, monkeypatch, capsys, tmp_path: Path
) -> None:
    done("fit", "digits", *QUICK, "--no-evaluate", "--out", "run")
    (tmp_path / "run" / "model.safetensors").unlink()
    trained_on_meanwhile(monkeypatch, Run.open(tmp_path / "run"))
    assert run_cli("evaluate", "run", "--samples", 3) == 0
    assert "the best weights so far" in capsys.readouterr().err
    assert not (tmp_path / "run" / "metrics.json").exists()
