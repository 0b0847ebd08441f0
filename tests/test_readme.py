"""The Python of the README and of the pages in docs/ runs as it stands."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
BLOCKS = {
    f"{page.stem} {number}": code
    for page in (ROOT / "README.md", *sorted(ROOT.glob("docs/*.md")))
    for number, code in enumerate(re.findall(r"```python\n(.*?)```", page.read_text(), re.DOTALL))
}


@pytest.mark.parametrize("name", BLOCKS)
def test_code_of_the_pages_runs(name, capsys):
    exec(compile(BLOCKS[name], name, "exec"), {"__name__": "page"})
    assert ("print" in BLOCKS[name]) == bool(capsys.readouterr().out)


def test_readme_shows_the_hand_written_vae_the_library_and_the_map():
    assert [name for name in BLOCKS if name.startswith("README")] == ["README 0", "README 1", "README 2"]
