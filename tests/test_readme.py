"""The Python blocks of the README and of the pages in docs/ run unchanged, one after another."""

import re
from pathlib import Path

import pytest
import torch
from packaging.version import Version

import priory

ROOT = Path(__file__).parents[1]
PAGES = {
    page.stem: re.findall(r"```python\n(.*?)```", page.read_text(), re.DOTALL)
    for page in (ROOT / "README.md", *sorted(ROOT.glob("docs/*.md")), *sorted(ROOT.glob("docs/start/*.md")))
}


NEEDS_TORCH_2_8 = pytest.mark.skipif(Version(torch.__version__) < Version("2.8"), reason="export.md needs torch 2.8")


@pytest.mark.parametrize(
    "page",
    [pytest.param(name, marks=NEEDS_TORCH_2_8 if name == "export" else ()) for name, blocks in PAGES.items() if blocks],
)
def test_code_of_a_page_runs(page, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    names = {"__name__": "page"}
    for number, block in enumerate(PAGES[page]):
        exec(compile(block, f"{page} {number}", "exec"), names)
        assert ("print" in block) == bool(capsys.readouterr().out)


def test_readme_and_the_page_about_vaes_use_a_vae():
    assert all(any("VAE" in block for block in PAGES[page]) for page in ("README", "vae"))


def test_every_public_function_and_class_has_an_example():
    """Doctests run them."""
    public = {name: getattr(priory, name) for name in dir(priory) if not name.startswith("_")}
    assert [name for name, each in public.items() if callable(each) and ">>>" not in (each.__doc__ or "")] == []
