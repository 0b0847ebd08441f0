"""Commands that are killed or interrupted at any point can be resumed with the same bits and leave no partial files."""

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from command_line import untimed
from priory.training import History
from priory.workbench.cli.main import main

pytestmark = pytest.mark.slow  # each runs the command several times

FIT = (
    "fit", "digits", "--prior", "vamp", "--components", "5", "--epochs", "4", "--warmup", "10", "--samples", "4",
    "--set", "model.hidden=[16]", "--set", "training.batch_size=500", "--resume",
)  # fmt: skip
EVALUATE = ("evaluate", "--samples", "2")


class Launcher:
    """Sends commands to `launcher.py`, which runs them; all write into one folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        environment = os.environ | {"OMP_NUM_THREADS": "1", "COLUMNS": "200"}
        script = str(Path(__file__).with_name("launcher.py"))
        pipes: dict[str, Any] = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
        self.process = subprocess.Popen([sys.executable, script], env=environment, **pipes)
        assert self.process.stdout is not None
        assert self.process.stdout.readline() == "ready\n"

    def __call__(self, *arguments: str, watch: Path, **request: Any) -> dict[str, Any]:
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(json.dumps({"arguments": arguments, "watch": str(watch), **request}) + "\n")
        self.process.stdin.flush()
        return json.loads(self.process.stdout.readline())

    def fit(self, out: Path, **request: Any) -> dict[str, Any]:
        """Run the command that starts a run or resumes it."""
        return self(*FIT, "--out", str(out), watch=out, **request)

    def close(self) -> None:
        self.process.communicate(timeout=60)


@pytest.fixture(scope="module")
def launch(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Launcher]:
    launcher = Launcher(tmp_path_factory.mktemp("crash"))
    yield launcher
    launcher.close()


@pytest.fixture(scope="module")
def whole(launch: Launcher) -> tuple[Path, dict[str, Any]]:
    """Return the folder of an uninterrupted run, and the answer of the launcher."""
    out = launch.folder / "whole"
    result = launch.fit(out)
    assert result["code"] == 0, result["err"]
    return out, result


def assert_same_run(out: Path, whole: Path) -> None:
    """Check that runs have the same files with the same bytes, except for the seconds in history and state."""
    assert_same_files(out, whole)
    histories = [dict(History.read(folder / "history.csv")) | {"seconds": None} for folder in (out, whole)]
    np.testing.assert_equal(*histories)


def check_evaluation(launch: Launcher, out: Path, cure: str = "priory fit") -> None:
    """Check that an unfinished run can be evaluated, or that one line gives advice."""
    result = launch(*EVALUATE, str(out), watch=out)
    assert "Traceback" not in result["err"]
    if result["code"] == 0:
        finished = (out / "model.safetensors").exists()
        assert finished or "training has not ended: these are the best weights so far; go on with" in result["err"]
    else:
        assert result["code"] == 2
        assert result["err"].count("\n") == 1
        assert cure in result["err"]


def killed_at(launch: Launcher, whole: Path, kills: list[tuple[int | str, str]], name: str) -> None:
    """Kill a run at several writes, evaluate it each time and resume it; compare it with the uninterrupted run."""
    out = launch.folder / name
    for kill in kills:
        assert launch.fit(out, kill_at=kill)["code"] == -9
        check_evaluation(launch, out)
    result = launch.fit(out)
    assert result["code"] == 0, result["err"]
    assert_same_run(out, whole)
    shutil.rmtree(out)


def kills_of(writes: list[str]) -> list[tuple[int, str]]:
    """Return a kill for each write, without pictures between the first and the last: in a file, or before a folder."""
    pictures = [number for number, line in enumerate(writes, 1) if line.endswith(".png")]
    chosen = [number for number in range(1, len(writes) + 1) if number not in pictures[1:-1]]
    return [(number, "torn" if writes[number - 1].startswith("file") else "before") for number in chosen]


def killed_at_random(launch: Launcher, whole: Path, seconds: float, kills: list[float], name: str) -> None:
    """Kill a run after these shares of its time, resuming it each time; compare it with the uninterrupted run."""
    out = launch.folder / name
    for share in kills:
        assert launch.fit(out, kill_after=share * seconds)["code"] in (-9, 0)  # 0: it ended before the signal
        check_evaluation(launch, out)
    result = launch.fit(out)
    assert result["code"] == 0, result["err"]
    assert_same_run(out, whole)
    shutil.rmtree(out)


def test_every_file_of_a_run_is_created_by_an_observed_write(whole: tuple[Path, dict[str, Any]]) -> None:
    """So the tests below can kill the command at the creation of each file and folder."""
    out, result = whole
    seen = {line.split(" ", 1)[1] for line in result["writes"]} - {"whole"}
    assert seen == {path.name for path in out.rglob("*")}
    assert result["writes"].count("file state.safetensors") == 4


def test_files_of_a_run_have_the_usual_permissions(whole: tuple[Path, dict[str, Any]]) -> None:
    out, _ = whole
    (out.parent / "any").touch()
    usual = (out.parent / "any").stat().st_mode
    assert {path.stat().st_mode for path in out.rglob("*") if path.is_file()} == {usual}


def test_a_run_killed_at_several_writes_ends_with_the_same_files(
    launch: Launcher, whole: tuple[Path, dict[str, Any]]
) -> None:
    kills: list[tuple[int | str, str]] = [
        ("folder writes", "after"),
        ("file splits.npz", "torn"),
        ("file config.json", "before"),
        ("file state.safetensors", "torn"),
        ("file model.safetensors", "before"),
        ("file metrics.json", "after"),
        ("file samples.png", "torn"),
    ]
    killed_at(launch, whole[0], kills, "writes")


def test_a_run_killed_at_three_random_moments_ends_with_the_same_files(
    launch: Launcher, whole: tuple[Path, dict[str, Any]]
) -> None:
    out, result = whole
    killed_at_random(launch, out, result["seconds"], [random.Random(0).random() for _ in range(3)], "three")


def test_a_run_killed_at_every_write_ends_with_the_same_files(
    launch: Launcher, whole: tuple[Path, dict[str, Any]]
) -> None:
    out, result = whole
    for number, how in kills_of(result["writes"]):
        killed_at(launch, out, [(number, how)], f"{how}-{number}")


def test_a_run_killed_at_ten_random_moments_ends_with_the_same_files(
    launch: Launcher, whole: tuple[Path, dict[str, Any]]
) -> None:
    out, result = whole
    generator = random.Random(1)
    for number, kills in enumerate([1] * 5 + [2, 3]):  # the last two runs are killed several times
        killed_at_random(launch, out, result["seconds"], [generator.random() for _ in range(kills)], f"random-{number}")


def compare_line(out: Path, *more: str) -> tuple[str, ...]:
    quick = ("--set", "model.hidden=[16]", "--set", "training.batch_size=500", "--samples", "4", "--epochs", "2")
    return ("compare", "digits", "--priors", "standard,mog", "--seeds", "1", *quick, *more, "--out", str(out))


def test_a_killed_comparison_ends_with_the_same_table(launch: Launcher) -> None:
    whole, out = launch.folder / "compare", launch.folder / "compare-killed"
    result = launch(*compare_line(whole), watch=whole)
    assert result["code"] == 0, result["err"]
    metrics = [i for i, line in enumerate(result["writes"], 1) if line == "file metrics.json"]
    for kill in ((metrics[0], "torn"), ("file state.safetensors", "after"), ("file comparison.json", "torn")):
        assert launch(*compare_line(out), watch=out, kill_at=kill)["code"] == -9
    again = launch(*compare_line(out), watch=out)
    assert again["out"] == result["out"].replace(str(whole), str(out))
    names = {path.relative_to(whole) for path in whole.rglob("*")}
    assert {path.relative_to(out) for path in out.rglob("*")} == names
    for name in (Path("comparison.json"), *(name for name in names if name.name == "metrics.json")):
        assert (out / name).read_bytes() == (whole / name).read_bytes()


def refit_line(whole: Path, out: Path) -> tuple[str, ...]:
    quick = ("--components", "3", "--epochs", "2", "--samples", "4", "--set", "refit.batch_size=500")
    return ("refit", str(whole), "--prior", "mog", *quick, "--out", str(out))


def refit_killed_at(launch: Launcher, whole: Path, refitted: Path, kills: list[tuple[int | str, str]]) -> None:
    """Kill a refit at several writes and repeat the command; a finished run in the folder is refused."""
    out = launch.folder / "refit-killed"
    for kill in kills:
        assert launch(*refit_line(whole, out), watch=out, kill_at=kill)["code"] == -9
    done = (out / "config.json").exists()
    result = launch(*refit_line(whole, out), watch=out)
    assert result["code"] == (2 if done else 0), result["err"]
    assert_same_files(out, refitted)
    shutil.rmtree(out)


def assert_same_files(out: Path, whole: Path) -> None:
    names = {path.relative_to(whole) for path in whole.rglob("*")}
    assert {path.relative_to(out) for path in out.rglob("*")} == names
    for name in names:
        assert (whole / name).is_dir() or untimed(out / name) == untimed(whole / name), name


@pytest.fixture(scope="module")
def refitted(launch: Launcher, whole: tuple[Path, dict[str, Any]]) -> tuple[Path, list[str]]:
    """Return the folder of an uninterrupted refit, and its writes."""
    out = launch.folder / "refit"
    result = launch(*refit_line(whole[0], out), watch=out)
    assert result["code"] == 0, result["err"]
    return out, result["writes"]


def test_a_refit_killed_at_several_writes_is_completed_by_the_same_command(
    launch: Launcher, whole: tuple[Path, dict[str, Any]], refitted: tuple[Path, list[str]]
) -> None:
    kills: list[tuple[int | str, str]] = [
        ("file model.safetensors", "torn"),
        ("file samples.png", "torn"),
        ("file config.json", "torn"),
    ]
    refit_killed_at(launch, whole[0], refitted[0], kills)
    assert refitted[1][-1] == "file config.json"


def test_a_refit_killed_at_every_write_is_completed_by_the_same_command(
    launch: Launcher, whole: tuple[Path, dict[str, Any]], refitted: tuple[Path, list[str]]
) -> None:
    for kill in kills_of(refitted[1]):
        refit_killed_at(launch, whole[0], refitted[0], [kill])


@pytest.mark.parametrize(
    "place", [("priory.training.refitting", "frozen", 1), ("priory.workbench.pictures.vae", "save_figures", 1)]
)
def test_ctrl_c_in_a_refit_prints_advice(
    place: tuple[str, str, int], launch: Launcher, whole: tuple[Path, dict[str, Any]], refitted: tuple[Path, list[str]]
) -> None:
    out = launch.folder / f"refit-interrupted-{place[1]}"
    result = launch(*refit_line(whole[0], out), watch=out, interrupt=place)
    assert result["code"] == 130
    assert "interrupted; there is nothing to resume; give the same command again" in result["err"]
    assert "Traceback" not in result["err"]
    assert launch(*refit_line(whole[0], out), watch=out)["code"] == 0
    assert_same_files(out, refitted[0])
    shutil.rmtree(out)


MAP = ("gtm", "fit", "digits", "--points-per-side", "3", "--max-iter", "60", "--set", "model.tol=1e-3")


@pytest.fixture(scope="module")
def whole_map(launch: Launcher) -> tuple[Path, dict[str, Any]]:
    """Return the folder of an uninterrupted map, and the answer of the launcher."""
    out = launch.folder / "whole-map"
    result = launch(*MAP, "--out", str(out), watch=out)
    assert result["code"] == 0, result["err"]
    return out, result


def map_killed_at(launch: Launcher, whole: Path, kills: list[tuple[int | str, str]], name: str) -> None:
    """Kill a fit of a map at several writes; then the same command makes the same files and leaves no others."""
    out = launch.folder / name
    for kill in kills:
        assert launch(*MAP, "--out", str(out), watch=out, kill_at=kill)["code"] == -9
        check_evaluation(launch, out, "fit")
    result = launch(*MAP, "--out", str(out), watch=out)
    assert result["code"] == 0, result["err"]
    names = {path.relative_to(whole) for path in whole.rglob("*")}
    assert {path.relative_to(out) for path in out.rglob("*")} == names
    for path in whole.rglob("*.*"):
        assert untimed(out / path.relative_to(whole)) == untimed(path), path.name
    shutil.rmtree(out)


def test_every_file_of_a_map_is_created_by_an_observed_write(whole_map: tuple[Path, dict[str, Any]]) -> None:
    out, result = whole_map
    seen = [line.split(" ", 1)[1] for line in result["writes"]]
    assert sorted(seen) == sorted(["whole-map", *(path.name for path in out.rglob("*"))])
    assert seen[-1] == "model.safetensors"  # the last file, so its existence shows that the run is complete


def test_a_map_killed_at_several_writes_is_completed_by_the_same_command(
    launch: Launcher, whole_map: tuple[Path, dict[str, Any]]
) -> None:
    kills: list[tuple[int | str, str]] = [
        ("file splits.npz", "torn"),
        ("file config.json", "before"),
        ("file config.json", "after"),
        ("file nodes.png", "torn"),
        ("file model.safetensors", "torn"),
    ]
    map_killed_at(launch, whole_map[0], kills, "map")


def test_a_map_killed_at_every_write_is_completed_by_the_same_command(
    launch: Launcher, whole_map: tuple[Path, dict[str, Any]]
) -> None:
    out, result = whole_map
    for number, how in kills_of(result["writes"]):
        map_killed_at(launch, out, [(number, how)], f"map-{how}-{number}")


@pytest.mark.parametrize("command", [("embed",), ("score", "--samples", "2"), ("sample", "-n", "3")])
def test_the_next_command_removes_files_of_a_killed_one(
    command: tuple[str, ...], launch: Launcher, whole: tuple[Path, dict[str, Any]]
) -> None:
    folder = launch.folder / f"output-{command[0]}"
    folder.mkdir()
    name, *options = command
    line = (name, str(whole[0]), *options, "--out", str(folder / "z.csv"))
    assert launch(*line, watch=folder, kill_at=("file z.csv", "torn"))["code"] == -9
    (left,) = folder.iterdir()
    assert left.name.startswith(".z-")
    assert launch(*line, watch=folder)["code"] == 0
    assert [path.name for path in folder.iterdir()] == ["z.csv"]


# In the last epoch but one, during the estimate of the likelihood, before the first picture.
@pytest.mark.parametrize(
    ("place", "ended"),
    [
        (("priory.training.module", "_elbo_means", 8), False),
        (("priory.workbench.jobs.vae", "evaluate", 1), True),
        (("priory.workbench.pictures.vae", "save_figures", 1), True),
    ],
    ids=["training", "evaluation", "figures"],
)
def test_a_run_interrupted_by_ctrl_c_can_be_evaluated_and_resumed(
    place: tuple[str, str, int], ended: bool, launch: Launcher, whole: tuple[Path, dict[str, Any]]
) -> None:
    out = launch.folder / f"interrupted-{place[1]}"
    result = launch.fit(out, interrupt=place)
    assert result["code"] == 130
    assert f"interrupted; go on with: priory fit --resume --out {out}" in result["err"]
    assert "Traceback" not in result["err"]
    assert (out / "model.safetensors").exists() == ended
    evaluated = launch(*EVALUATE, str(out), "--json", watch=out)
    assert evaluated["code"] == 0, evaluated["err"]
    assert ("the best weights so far" in evaluated["err"]) != ended
    assert json.loads(evaluated["out"])["nll"]["value"] > 0
    assert (out / "metrics.json").exists() == ended  # a run has metrics only after its end
    assert launch.fit(out)["code"] == 0
    assert_same_run(out, whole[0])


def test_ctrl_c_before_a_run_exists_prints_advice(launch: Launcher) -> None:
    out = launch.folder / "nothing"
    result = launch.fit(out, interrupt=("priory.workbench.jobs.vae", "load_dataset", 1))
    assert result["code"] == 130
    assert "interrupted; no run was begun yet; give the same command again" in result["err"]
    assert not out.exists()


def interrupted_while_importing(folder: Path, seconds: float) -> tuple[int, list[str]]:
    """Return exit code and stderr of a command that gets SIGINT this many seconds after the start of Python."""
    command = [sys.executable, "-X", "importtime", "-m", "priory", "fit", "digits", "--out", str(folder / "run")]
    log = folder / f"{seconds}.err"
    with log.open("w") as err:
        process = subprocess.Popen(
            command,
            stderr=err,
            stdout=subprocess.DEVNULL,
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # background jobs ignore it otherwise
        )
    while "runpy" not in log.read_text() and process.poll() is None:
        time.sleep(0.005)
    time.sleep(seconds)
    process.send_signal(signal.SIGINT)
    code = process.wait(timeout=120)
    return code, [line for line in log.read_text().splitlines() if not line.startswith("import time:")]


@pytest.mark.parametrize("seconds", [0.1, 0.3, 0.6, 1.0, 1.5])
def test_ctrl_c_during_imports_prints_at_most_one_line(seconds: float, tmp_path: Path) -> None:
    code, lines = interrupted_while_importing(tmp_path, seconds)
    assert code == 130, lines
    assert lines in ([], ["interrupted; no run was begun yet; give the same command again"])
    assert not (tmp_path / "run").exists()


def test_ctrl_c_between_the_imports_and_the_command_prints_nothing(monkeypatch: pytest.MonkeyPatch, capsys) -> None:
    def interrupted(*arguments: object, **options: object) -> int:
        raise KeyboardInterrupt

    monkeypatch.setattr("priory.workbench.cli.app.app", interrupted)
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 130
    assert capsys.readouterr() == ("", "")


def test_ctrl_c_in_generated_code_has_the_same_exit_code(tmp_path: Path) -> None:
    """Imported libraries generate code (dataclasses); `python -m` would end by the signal there, with another code."""
    code = 'exec("import os, signal; os.kill(os.getpid(), signal.SIGINT); list(range(1000))")'
    (tmp_path / "mine.py").write_text(f"import signal; signal.signal(2, signal.default_int_handler); {code}")
    command = [sys.executable, "-m", "priory", "check", "mine:prior"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=120, check=False)
    assert (done.returncode, done.stderr) == (130, "")


def test_an_interrupted_comparison_prints_how_to_continue(launch: Launcher) -> None:
    out = launch.folder / "compare-interrupted"
    result = launch(*compare_line(out), watch=out, interrupt=("priory.training.module", "_elbo_means", 2))
    assert result["code"] == 130
    assert "interrupted; give the same command again; finished work is not repeated" in result["err"]
