"""Type checkers find the public names: a misspelled name is an error, and each name has its own type."""

import inspect
import re
import subprocess
import sys
from pathlib import Path

import pytest

import priory

pytestmark = pytest.mark.slow  # mypy reads torch first; with its cache it takes a second

MISSPELLED = ("refitt", "VampPriorr", "density_")
NAMES = [name for name in dir(priory) if not name.startswith("__")]


@pytest.fixture(scope="module")
def messages(tmp_path_factory, pytestconfig) -> dict[str, str]:
    """Return the message of mypy about each name, from one strict run on one file."""
    names = [*NAMES, *MISSPELLED]
    snippet = tmp_path_factory.mktemp("typing") / "snippet.py"
    snippet.write_text("\n".join(["import priory", *(f"reveal_type(priory.{name})" for name in names)]))
    options = ["--strict", "--follow-imports=silent", "--config-file=", "--disable-error-code=name-defined"]
    done = subprocess.run(
        [sys.executable, "-m", "mypy", *options, f"--cache-dir={pytestconfig.cache.mkdir('mypy')}", str(snippet)],
        capture_output=True,
        text=True,
        env={"MYPYPATH": str(Path(priory.__file__).parents[1])},
        check=False,
    )
    lines = re.findall(r"snippet\.py:(\d+): (.*)", done.stdout)
    assert len(lines) >= len(names), done.stdout + done.stderr
    return {names[int(line) - 2]: message for line, message in reversed(lines)}


def test_a_misspelled_name_is_an_error(messages):
    for name in MISSPELLED:
        assert f'Module has no attribute "{name}"' in messages[name]


def test_every_public_name_has_a_signature(messages):
    for name in NAMES:
        revealed = re.search(r'Revealed type is "(.*)"', messages[name])
        assert revealed, messages[name]
        assert re.match(r"(def |Overload\(|type\[)", revealed[1]), f"{name}: {revealed[1]}"
        untyped = revealed[1].startswith("def (*args: Any, **kwargs: Any)")
        assert not untyped or inspect.isabstract(getattr(priory, name)), name  # an abstract module has torch's __init__
