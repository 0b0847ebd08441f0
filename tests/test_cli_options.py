"""Options and settings: bounds of numbers, no truth values for numbers, one device for all commands."""

import inspect
import json
from collections.abc import Iterator
from typing import Any, get_args

import pytest
import typer
from pydantic import BaseModel

from command_line import QUICK, run_cli
from priory.training import check_devices
from priory.training.settings import RefitSettings, TrainingSettings
from priory.workbench.cli import requests
from priory.workbench.cli.app import app
from priory.workbench.cli.commands import opening
from priory.workbench.settings.base import SETTINGS, checked, setting_names, with_options
from priory.workbench.settings.gtm import GTMRunSettings
from priory.workbench.settings.model import ModelSettings
from priory.workbench.settings.parts import settings_of
from priory.workbench.settings.priors import PRIORS
from priory.workbench.settings.run import RefitRequest, RunSettings

KINDS = (RunSettings, RefitRequest, GTMRunSettings)
TOO_MANY = 10**20


def options(app: typer.Typer, path: str = "") -> Iterator[tuple[str, str, Any, Any]]:
    """Return for every option its command, its parameter, the parameter's type and typer's information."""
    for command in app.registered_commands:
        name = command.name or command.callback.__name__
        for parameter in inspect.signature(command.callback, eval_str=True).parameters.values():
            yield path + name, parameter.name, *get_args(parameter.annotation)
    for group in app.registered_groups:
        yield from options(group.typer_instance, f"{group.name} ")


OPTIONS = list(options(app))


def numbers(kind: type[BaseModel], tree: dict[str, Any]) -> Iterator[tuple[str, Any]]:
    """Return the paths of the settings with a numeric default, and the default."""
    values: Any = checked(kind, tree, SETTINGS).model_dump()
    for path in setting_names(kind, tree):
        value = values
        for name in path.split("."):
            value = value[name]
        if isinstance(value, int | float) and not isinstance(value, bool):
            yield path, value


NUMBERS: dict[tuple[type[BaseModel], str], tuple[str, Any]] = {}  # setting -> first prior with it, default
for _kind in KINDS:
    for _prior in ["standard"] if _kind is GTMRunSettings else PRIORS:
        for _path, _value in numbers(_kind, {} if _kind is GTMRunSettings else {"model": {"prior": _prior}}):
            NUMBERS.setdefault((_kind, _path), (_prior, _value))


def refusal(kind: type[BaseModel], path: str, text: str) -> str:
    options = {} if kind is GTMRunSettings else {"model.prior": NUMBERS[kind, path][0]}
    with pytest.raises(ValueError, match=path) as caught:
        with_options(kind(), options, [f"{path}={text}"])
    return str(caught.value)


def test_every_whole_number_of_the_command_line_has_bounds():
    whole = {(command, name): (info.min, info.max) for command, name, kind, info in OPTIONS if kind is int}
    assert len(whole) > 10
    assert not [key for key, bounds in whole.items() if None in bounds]


@pytest.mark.parametrize(("kind", "path"), [key for key, (_, value) in NUMBERS.items() if isinstance(value, int)])
def test_every_whole_number_of_the_settings_has_bounds(kind, path):
    assert f"got {TOO_MANY}" in refusal(kind, path, str(TOO_MANY))


@pytest.mark.parametrize("text", ["true", "false"])
@pytest.mark.parametrize(("kind", "path"), NUMBERS)
def test_settings_refuse_truth_values_for_numbers(kind, path, text):
    message = refusal(kind, path, text)
    assert "number" in message
    assert message.count("got") == 1


@pytest.mark.parametrize("setting", ["model.hidden=[true, 3]", "model.log_variance_range=[0, true]"])
def test_settings_refuse_truth_values_in_lists_of_numbers(setting):
    with pytest.raises(ValueError, match="number"):
        with_options(RunSettings(), {}, [setting])


def test_settings_from_a_signature_refuse_truth_values_for_numbers():
    def make(rate: float, steps: int = 2, *, flag: bool = True, either: int | bool = 3) -> None: ...

    kind = settings_of(make, [])
    assert checked(kind, {"rate": 1, "flag": False, "either": True}, SETTINGS).model_dump() == {
        "rate": 1.0,
        "steps": 2,
        "flag": False,
        "either": True,
    }
    for name in ("rate", "steps"):
        with pytest.raises(ValueError, match=f"{name}: expected a (whole )?number, got True"):
            checked(kind, {"rate": 1.0} | {name: True}, SETTINGS)
    with pytest.raises(ValueError, match="rate: expected a value, got none; give --set rate=VALUE"):
        checked(kind, {}, SETTINGS)
    with pytest.raises(ValueError, match=r"config.json: rate: expected a value, got none$"):
        checked(kind, {}, "config.json")


@pytest.mark.parametrize("kind", [TrainingSettings, RefitSettings])
def test_the_librarys_settings_refuse_truth_values(kind):
    for name, default in kind().model_dump().items():
        if isinstance(default, int | float) and not isinstance(default, bool):
            with pytest.raises(ValueError, match=name):
                kind(**{name: True})


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("training.warmup=nan", "got nan"),
        ("training.warmup=x", "got 'x'"),
        ("training.warmup=2.5", "got 2.5"),
        ("training.devices=0", "got 0"),
        ("training.devices=cpu", "got 'cpu'"),
        ("seed=-1", "got -1"),
        ("model.learn_weights=2", "expected true or false, got 2"),
        ("training.schedule=linear", "got 'linear'"),
    ],
)
def test_messages_contain_the_value_once(setting, message):
    with pytest.raises(ValueError, match=r"settings: ") as caught:
        with_options(RunSettings(model=ModelSettings(prior="vamp")), {}, [setting])
    assert str(caught.value).endswith(message)
    assert str(caught.value).count("got") == 1


@pytest.mark.parametrize("option", ["--samples", "--seeds"])
def test_huge_numbers_are_refused_with_the_bound(option, capsys):
    assert run_cli("compare", "digits", option, TOO_MANY) == 2
    errors = capsys.readouterr().err
    assert f"{option} {TOO_MANY}: expected at " in errors
    assert "at most 10" in errors


COMPUTING = {"fit", "evaluate", "sample", "embed", "map", "score", "impute", "report", "refit", "compare", "gtm fit"}


def test_all_computing_commands_have_the_option_device():
    devices = {command: info for command, name, _, info in OPTIONS if name == "device"}
    assert set(devices) == COMPUTING
    assert len({(info.help, info.metavar, info.param_decls) for info in devices.values()}) == 1


@pytest.mark.parametrize(
    ("device", "accelerator", "devices"),
    [("cpu", "cpu", 1), ("cuda", "gpu", 1), ("cuda:0", "gpu", "0,"), ("cuda:1", "gpu", "1,"), ("mps", "mps", 1)],
)
def test_the_option_device_sets_settings_of_training(device, accelerator, devices, monkeypatch):
    monkeypatch.setattr(opening, "chosen_device", lambda name: name)  # not all of them exist on this machine
    settings = requests.settings_of_device(device, {})
    assert settings == {"training.accelerator": accelerator, "training.devices": devices}
    assert with_options(RunSettings(), settings).training.devices == devices


@pytest.mark.slow
@pytest.mark.parametrize("command", ["fit", "compare"])
def test_models_are_trained_on_the_device(command, tmp_path, capsys):
    priors = ("--priors", "standard,vamp") if command == "compare" else ()
    assert run_cli(command, "digits", *QUICK, *priors, "--device", "cpu", "--out", tmp_path) == 0
    for config in tmp_path.rglob("config.json"):
        assert json.loads(config.read_text())["settings"]["training"]["accelerator"] == "cpu"


@pytest.mark.parametrize("command", ["fit", "compare"])
def test_missing_devices_are_refused(command, capsys, tmp_path):
    assert run_cli(command, "digits", "--out", tmp_path, "--device", "meta") == 2
    assert "--device meta: expected auto, cpu or a device" in capsys.readouterr().err


def test_a_device_and_its_settings_are_refused_together(capsys):
    assert run_cli("fit", "digits", "--device", "cpu", "--accelerator", "cpu") == 2
    assert "--device cpu: expected either --device or --accelerator, got both" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["RANK", "LOCAL_RANK", "WORLD_SIZE", "SLURM_PROCID"])
@pytest.mark.parametrize("value", ["abc", "-1", "", "1.5"])
def test_an_error_names_a_launchers_variable_that_is_not_a_number(name, value, monkeypatch):
    monkeypatch.setenv(name, value)
    with pytest.raises(ValueError, match=f"{name}: expected a whole number in the environment.*got '{value}'"):
        check_devices(TrainingSettings())
