"""Descriptions, in one line, of arguments that the command line cannot parse."""

from collections.abc import Sequence
from typing import Any

from priory._support.messages import in_our_words, nearest, shortened
from priory.workbench.settings.base import setting_names


def describe_usage_error(error: Any, arguments: Sequence[str]) -> str:
    """Describe click's exception in one line: the option, what was expected, what was typed, and the nearest name."""
    context = getattr(error, "ctx", None)
    if context is None:
        return _sentence(error)
    path = context.command_path
    known = [name for parameter in context.command.params for name in (*parameter.opts, *parameter.secondary_opts)]
    commands = list(getattr(context.command, "commands", ()))
    typed = getattr(error, "option_name", None)
    if typed is not None and typed not in known:
        settings = getattr(context.command.callback, "settings_kind", None)
        return f"{path}: there is no option {shortened(typed)}{_option_hint(typed, known, settings) or _help(path)}"
    if commands:
        return _no_command(error, path, commands, arguments)
    parameter = getattr(error, "param", None)
    if parameter is not None:
        return _bad_parameter(error, path, parameter, arguments)
    return f"{path}: {_sentence(error)}{_help(path)}"


def _option_hint(typed: str, known: list[str], settings: Any) -> str:
    """Suggest an option or setting; compare without dashes, which would make short names look alike."""
    if not typed.startswith("--"):
        return ""
    name = typed[2:].replace("_", "-")
    options = {option[2:]: option for option in known if option.startswith("--")}
    if "set" in options and name not in options:
        same = [setting for setting in setting_names(settings) if setting.rpartition(".")[2].replace("_", "-") == name]
        if same:
            return f"; did you mean --set {same[0]}=VALUE?"
    close = nearest(name, options)
    return f"; did you mean {options[close]}?" if close else ""


def _no_command(error: Any, path: str, commands: list[str], arguments: Sequence[str]) -> str:
    known = {*commands, *path.split()}
    typed = next((text for text in arguments if text not in known and not text.startswith("-")), None)
    if typed is None:
        return f"{path}: {_sentence(error)}{_help(path)}"
    close = nearest(typed, commands)
    hint = f"did you mean {close}?" if close else f"there are {', '.join(commands)}"
    return f"{path}: there is no command {shortened(typed)}; {hint}"


def _bad_parameter(error: Any, path: str, parameter: Any, arguments: Sequence[str]) -> str:
    if type(error).__name__ == "MissingParameter":
        name = parameter.metavar or parameter.opts[0]
        purpose = str(getattr(parameter, "help", None) or "a value").rstrip(".")
        return f"{path}: expected {name}, {purpose[:1].lower()}{purpose[1:]}, got nothing{_help(path)}"
    name, value = _typed([*parameter.opts, *parameter.secondary_opts], arguments)
    given = name if value is None else f"{name} {shortened(value)}"
    return f"{given}: {_sentence(error)}{_help(path)}"


def _typed(names: Sequence[str], arguments: Sequence[str]) -> tuple[str, str | None]:
    """Return the name by which an option was typed, and its value."""
    for i, text in enumerate(arguments):
        option, equals, value = text.partition("=")
        if option in names:
            return option, value if equals else next(iter(arguments[i + 1 :]), None)
    return names[0], None


def _sentence(error: Any) -> str:
    return in_our_words(str(error.message)) or "cannot be read"


def _help(path: str) -> str:
    return f"; see: {path} --help"
