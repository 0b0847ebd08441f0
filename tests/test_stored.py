"""Files of a run folder with wrong content: the error is one line that names the file."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import priory
from command_line import MATRIX, run_cli, write
from priory.training.states import read_state, write_state
from priory.workbench.runs.config import note_of_newer_version

QUICK = ("--set", "model.hidden=[8]", "--set", "training.warmup=0", "--samples", 2, "--no-report")


@pytest.fixture(scope="module")
def trained(tmp_path_factory) -> Path:
    """Train a run of each kind on the same table; tests damage copies of them."""
    folder = tmp_path_factory.mktemp("trained")
    data = write(folder / "data.csv", MATRIX)
    assert run_cli("fit", data, "--epochs", 2, *QUICK, "--out", folder / "vae") == 0
    assert run_cli("gtm", "fit", data, "--points-per-side", 3, "--out", folder / "gtm") == 0
    return folder


@pytest.fixture
def runs(trained, tmp_path) -> Path:
    for name in ("vae", "gtm"):
        shutil.copytree(trained / name, tmp_path / name)
    return tmp_path


def edit(file: Path, *path: str, value: Any) -> None:
    """Set a value of a JSON file."""
    tree = json.loads(file.read_text())
    branch = tree
    for name in path[:-1]:
        branch = branch[name]
    branch[path[-1]] = value
    file.write_text(json.dumps(tree))


COMMANDS = [("evaluate", "--samples", 2), ("sample", "-n", 2), ("embed",), ("score", "--samples", 2), ("map",)]
COMMANDS += [("report",), ("refit", "--prior", "mog"), ("fit", "--resume", "--out")]


@pytest.mark.parametrize("kind", [[1], "som"], ids=str)
@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: command[0])
def test_every_command_refuses_an_unknown_kind_of_run(command, kind, runs, refused):
    edit(runs / "vae" / "config.json", "kind", value=kind)
    name, *options = command
    line = (name, *options, "vae") if name == "fit" else (name, "vae", *options)
    assert "vae/config.json: kind: expected " in refused(*line)


@pytest.mark.parametrize("content", [[], 3, "text", None, {}, {"settings": []}], ids=str)
@pytest.mark.parametrize("kind", ["vae", "gtm"])
def test_a_configuration_of_another_structure_is_refused(kind, content, runs, refused):
    (runs / kind / "config.json").write_text(json.dumps(content))
    assert f"{kind}/config.json: " in refused("evaluate", kind, "--samples", 2)


@pytest.mark.parametrize(
    ("kind", "path", "value"),
    [
        ("vae", ("refit_of",), {"a": 1}),
        ("vae", ("facts", "image_shape"), [3, 3]),
        ("vae", ("facts", "image_shape"), [-2, -2]),
        ("gtm", ("image_shape",), [3, 3]),
        ("vae", ("fingerprint",), {"rows": 40}),
        ("gtm", ("fingerprint", "values"), 3),
        ("gtm", ("fingerprint", "extra"), 3),
        ("vae", ("split_checksum",), None),
    ],
    ids=str,
)
def test_parts_of_a_configuration_that_do_not_fit(kind, path, value, runs, refused):
    edit(runs / kind / "config.json", *path, value=value)
    message = refused("report", kind)
    assert f"{kind}/config.json: " in message
    assert path[-1] in message


EVALUATION = {"num_samples": 2, "seed": 0}
METRICS = [
    [],
    3,
    None,
    {"nll": 3},
    {"nll": {"value": None, "se": None}, "evaluation": EVALUATION},
    {"nll": {"value": "x", "se": 1}, "evaluation": EVALUATION},
    {"nll": {"se": 1}, "evaluation": EVALUATION},
    {"nll": [1, 2], "evaluation": EVALUATION},
    {"nll": {"value": 1, "se": [1]}, "evaluation": EVALUATION},
    {"nll": {"value": 1, "se": 1}},
    {"nll": {"value": 1, "se": 1}, "evaluation": 3},
    {"nll": {"value": 1, "se": 1}, "evaluation": {"num_samples": "many"}},
]


@pytest.mark.parametrize("content", METRICS, ids=str)
@pytest.mark.parametrize("kind", ["vae", "gtm"])
def test_metrics_of_another_structure_are_refused(kind, content, runs, refused):
    (runs / kind / "metrics.json").write_text(json.dumps(content))
    assert f"{kind}/metrics.json: " in refused("report", kind)


def test_a_standard_error_may_be_missing(runs, done):
    """`noise_variance` of a map has no standard error."""
    edit(runs / "gtm" / "metrics.json", "nll", "se", value=None)
    done("report", "gtm")


def without(name: str) -> Callable[[dict[str, Any]], None]:
    return lambda state: state.pop(name)


def setting(*path: Any, value: Any) -> Callable[[dict[str, Any]], None]:
    def change(state: dict[str, Any]) -> None:
        branch: Any = state
        for name in path[:-1]:
            branch = branch[name]
        branch[path[-1]] = value

    return change


PARTS = ["identity", "finished", "progress", "history", "selection", "vae", "best", "optimizer", "schedulers"]
PARTS += ["precision", "random"]
STATES: dict[str, Callable[[dict[str, Any]], None]] = {
    **{f"no {name}": without(name) for name in PARTS},
    **{f"{name} 3": setting(name, value=3) for name in PARTS},
    "two schedulers": setting("schedulers", value=[{}, {}]),
    "a scheduler of another kind": setting("schedulers", value=[3]),
    "progress without step": setting("progress", value={"epoch": 2}),
    "negative epoch": setting("progress", "epoch", value=-1),
    "epoch of text": setting("progress", "epoch", value="2"),
    "epoch beyond the end": setting("progress", "epoch", value=9),
    "shorter history": lambda state: state["history"]["beta"].pop(),
    "history without a column": lambda state: state["history"].pop("beta"),
    "history of text": setting("history", "beta", 0, value="x"),
    "identity without rows": lambda state: state["identity"].pop("rows"),
    "identity with another setting": setting("identity", "settings", "epochs", value="many"),
    "no order": lambda state: state["identity"].pop("order_seed"),
    "selection with another name": lambda state: state["selection"].pop("stop"),
    "weights of text": lambda state: state["vae"].update(dict.fromkeys(state["vae"], "x")),
    "fewer weights": lambda state: state["vae"].popitem(),
    "fewer best weights": lambda state: state["best"].popitem(),
    "best weights of another shape": lambda state: state["best"].update(
        {name: torch.ones(1) for name in state["best"]}
    ),
    "no best epoch": setting("selection", "best_epoch", value=None),
    "optimizer without groups": lambda state: state["optimizer"].pop("param_groups"),
    "optimizer without groups in it": setting("optimizer", "param_groups", value=[]),
    "averages of another shape": setting("optimizer", "state", 0, "exp_avg", value=torch.ones(2)),
    "no averages": lambda state: state["optimizer"]["state"][0].pop("exp_avg"),
    "averages of text": setting("optimizer", "state", 0, value="x"),
    "no generator": setting("random", value={}),
    "generator of another size": setting("random", "cpu", value=torch.zeros(3, dtype=torch.uint8)),
    "generator of another type": setting("random", "cpu", value=torch.zeros(3)),
}


@pytest.mark.parametrize("change", STATES)
def test_a_training_state_of_another_structure_is_refused(change, runs, refused):
    """A run that is continued needs all parts of the state."""
    state = read_state(runs / "vae" / "state.safetensors")
    STATES[change](state)
    write_state(runs / "vae" / "state.safetensors", state)
    (runs / "vae" / "model.safetensors").unlink()
    edit(runs / "vae" / "config.json", "settings", "training", "epochs", value=4)
    message = refused("fit", "--resume", "--out", "vae")
    assert "vae/state.safetensors" in message


@pytest.mark.parametrize("part", ["optimizer", "schedulers", "selection", "history"])
def test_commands_that_read_weights_from_a_damaged_state_refuse_it(part, runs, refused):
    """Before the end of training, the best weights are read from the state."""
    state = read_state(runs / "vae" / "state.safetensors")
    del state[part]
    write_state(runs / "vae" / "state.safetensors", state)
    (runs / "vae" / "model.safetensors").unlink()
    assert f"vae/state.safetensors: the training state is damaged ({part}: " in refused("sample", "vae", "-n", 2)


def test_resuming_with_a_damaged_state_leaves_the_run_unchanged(runs, refused):
    write_state(runs / "vae" / "state.safetensors", {"vae": 3})
    assert "state.safetensors" in refused("fit", "--resume", "--epochs", 4, "--out", "vae")


def test_a_scheduler_of_another_structure_is_refused(tmp_path, done, refused):
    write(tmp_path / "data.csv", MATRIX)
    done("fit", "data.csv", "--epochs", 2, "--set", "training.schedule=one-cycle", *QUICK, "--out", "run")
    file = tmp_path / "run" / "state.safetensors"
    whole = read_state(file)
    whole["finished"], whole["progress"]["epoch"] = False, 1
    whole["history"] = {name: column[:1] for name, column in whole["history"].items()}
    for change in (lambda s: s.pop("last_epoch"), lambda s: s.update(base_lrs=3), lambda s: s.clear()):
        write_state(file, whole)
        state = read_state(file)
        change(state["schedulers"][0])
        write_state(file, state)
        assert "run/state.safetensors: the training state is damaged" in refused("fit", "--resume", "--out", "run")


@pytest.mark.parametrize(
    "splits",
    [
        {"train": np.arange(32), "valid": np.arange(32, 36)},
        {"train": np.arange(32), "valid": np.arange(32, 36), "test": np.arange(36, 40)},
        {"train": np.arange(32.0), "valid": np.arange(0), "test": np.arange(0)},
        {"train": np.array(["a"]), "valid": np.arange(0), "test": np.arange(0)},
    ],
    ids=["two parts", "other rows", "floats", "text"],
)
@pytest.mark.parametrize("kind", ["vae", "gtm"])
def test_another_split_is_refused(kind, splits, runs, refused):
    np.savez(runs / kind / "splits.npz", **splits)
    assert f"{kind}/splits.npz: expected the split that `priory " in refused("evaluate", kind, "--samples", 2)


def test_a_run_of_a_newer_version_gives_a_note(runs, capsys):
    edit(runs / "vae" / "config.json", "priory", value="99.1")
    assert run_cli("evaluate", runs / "vae", "--samples", 2) == 0
    assert f"note: {runs}/vae/config.json: priory 99.1 wrote this run" in capsys.readouterr().err
    with pytest.warns(UserWarning, match=r"priory 99\.1 wrote this run"):
        priory.load(runs / "vae")


@pytest.mark.parametrize(("name", "value"), [("color", 1), ("kind", "flow"), ("columns", 3)])
def test_an_error_about_a_file_of_a_newer_version_names_the_version(name, value, runs, refused):
    edit(runs / "vae" / "config.json", "priory", value="99.1")
    edit(runs / "vae" / "config.json", name, value=value)
    message = refused("evaluate", "vae")
    assert f"vae/config.json: {name}: " in message
    assert "priory 99.1 wrote this file" in message


@pytest.mark.parametrize("version", ["0.1.0", "0.1.9", "0.0.1", "0.1", "0", "?", ""])
def test_a_run_of_no_newer_version_gives_no_note(version, runs):
    edit(runs / "vae" / "config.json", "priory", value=version)
    assert note_of_newer_version(runs / "vae") is None
