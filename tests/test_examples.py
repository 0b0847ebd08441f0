"""The scripts in examples/ run and are short."""

import runpy
import sys
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).parents[1] / "examples"
ARGUMENTS = {
    "own_vae": ["2"],
    "table_map": ["map.png"],
    "check_own_prior": [],
    "better_prior": ["2"],
    "book_figures": ["1"],
}
LEAVES = {"table_map": ["map.png"], "book_figures": ["figure_4_11.png", "figure_4_12.png"]}


def test_every_script_has_a_test():
    assert {path.stem for path in EXAMPLES.glob("*.py")} == ARGUMENTS.keys()


@pytest.mark.parametrize("name", ARGUMENTS)
def test_example_has_at_most_forty_lines(name):
    assert len((EXAMPLES / f"{name}.py").read_text().splitlines()) <= 40


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=pytest.mark.slow if name == "book_figures" else ()) for name in ARGUMENTS]
)
def test_example_runs(name, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", [f"{name}.py", *ARGUMENTS[name]])
    runpy.run_path(str(EXAMPLES / f"{name}.py"), run_name="__main__")
    assert sorted(path.name for path in tmp_path.iterdir()) == LEAVES.get(name, [])
    assert name in LEAVES or "nats" in capsys.readouterr().out or name == "check_own_prior"
