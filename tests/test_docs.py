"""The documentation is complete, and its links work; `make docs` builds the site."""

import re
import sys
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
import typer

import priory
from priory.evaluation import METRIC_DESCRIPTIONS
from priory.workbench.cli.app import app
from priory.workbench.settings.base import setting_names
from priory.workbench.settings.gtm import GTMRunSettings
from priory.workbench.settings.priors import PRIORS
from priory.workbench.settings.run import RefitRequest, RunSettings

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
SITE = DOCS / "_build" / "html"
GENERATED = DOCS / "_generated"
PAGES = [
    *(path for path in sorted(DOCS.rglob("*.md")) if not {"_build", "_generated"} & set(path.parts)),
    *sorted(ROOT.glob("*.md")),
]


@pytest.fixture(scope="module")
def generated(tmp_path_factory) -> Path:
    """Write the generated pages of settings, commands and results; return their folder."""
    folder = tmp_path_factory.mktemp("generated")
    sys.path.insert(0, str(DOCS))
    try:
        import_module("_pages").write(folder)
    finally:
        sys.path.remove(str(DOCS))
    return folder


def documented() -> Iterator[tuple[str, str]]:
    """Yield module and name of every entry of the reference."""
    for page in sorted((DOCS / "reference").glob("*.md")):
        module = ""
        for kind, name in re.findall(r"^\.\. (currentmodule|auto\w+):: (\S+)", page.read_text(), re.MULTILINE):
            if kind == "currentmodule":
                module = name
            else:
                yield module, name


def test_every_public_name_is_in_the_reference_once():
    names = [name for module, name in documented() if module == "priory"]
    assert sorted(names) == sorted(name for name in dir(priory) if not name.startswith("_"))


def test_every_entry_of_the_reference_exists():
    assert [name for module, name in documented() if not hasattr(import_module(module), name)] == []


def options(command: Any) -> set[str]:
    """Return the flags of a command and of all its subcommands."""
    own = {flag for parameter in command.params for flag in (*parameter.opts, *parameter.secondary_opts)}
    below = [options(each) for each in getattr(command, "commands", {}).values()]
    return {flag for flag in own.union(*below) if flag.startswith("--")} - {"--help", "--version"}


def test_every_command_and_option_is_in_the_docs(generated):
    text, group = (generated / "commands.md").read_text(), typer.main.get_command(app)
    for name, command in group.commands.items():
        section = "".join(re.findall(rf"^## `priory {name}\b.*?(?=^## |\Z)", text, re.MULTILINE | re.DOTALL))
        assert [flag for flag in options(command) if flag not in section] == []


@pytest.mark.parametrize("kind", [RunSettings, RefitRequest, GTMRunSettings])
def test_every_setting_is_in_the_docs(generated, kind):
    text = (generated / "settings.md").read_text()
    priors = PRIORS if kind is not GTMRunSettings else ["standard"]
    names = {name for prior in priors for name in setting_names(kind, {"model": {"prior": prior}})} - {"seed"}
    assert [name for name in sorted(names) if f"`{name}`" not in text] == []


def test_every_metric_is_in_the_glossary(generated):
    text = (generated / "metrics.md").read_text()
    assert [name for name in METRIC_DESCRIPTIONS if f"`{name}`" not in text] == []


def links(page: Path) -> Iterator[tuple[Path, str]]:
    """Yield the file and the anchor of each link of a page; links to the web are left out."""
    text = re.sub(r"^```.*?^```|^    .*?$|`[^`\n]*`", "", page.read_text(), flags=re.MULTILINE | re.DOTALL)
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        if not re.match(r"https?:|mailto:", target):
            path, _, anchor = target.partition("#")
            place = DOCS / path[1:] if path.startswith("/") else page.parent / path if path else page
            yield place.resolve(), anchor


def anchors(page: Path) -> set[str]:
    """Return the anchors of a page's headings, as code hosts such as GitHub make them."""
    headings = re.findall(r"^#+ (.*)$", page.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).strip().replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_relative_links_exist(page, generated):
    for target, anchor in links(page):
        if target.is_relative_to(GENERATED):
            target = generated / target.relative_to(GENERATED)
        assert target.exists(), f"{page.name} links to {target}"
        assert not anchor or anchor in anchors(target), f"{page.name} links to #{anchor} of {target}"


@pytest.mark.skipif(not SITE.is_dir(), reason="make docs builds the site")
def test_site_loads_nothing_from_the_web():
    loaded = re.compile(r"""<(?:script|img|link|iframe|source)\b[^>]*?(?:src|href)=["'](?:https?:)?//[^"']+""")
    for page in SITE.rglob("*.html"):
        assert loaded.findall(page.read_text()) == []
    for sheet in SITE.rglob("*.css"):
        assert re.findall(r"""(?:@import|url\()\s*["']?https?://[^"')]+""", sheet.read_text()) == []
