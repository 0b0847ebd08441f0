"""The README's Python runs as it stands."""

import re
from pathlib import Path

import pytest

README = Path(__file__).parents[1] / "README.md"
BLOCKS = re.findall(r"```python\n(.*?)```", README.read_text(), re.DOTALL)


@pytest.mark.parametrize("code", BLOCKS, ids=range(len(BLOCKS)))
def test_readme_code_runs(code, capsys):
    exec(compile(code, README.name, "exec"), {"__name__": "readme"})
    assert "print" not in code or "Estimate(value=" in capsys.readouterr().out


def test_readme_shows_the_library_and_the_hand_written_vae():
    assert len(BLOCKS) == 2
