"""Docstrings as reStructuredText. In the source they are plain text, with formulas indented."""

import re
from collections.abc import Iterator
from itertools import groupby
from typing import Any

from sphinx.domains.python import PyObject

SECTION = re.compile(r"(Args|Attributes|Returns|Raises|Yields|Warns):$")
ROWS = re.compile(r"torch\.Tensor \| numpy\.ndarray.*?priory\.rows\.protocol\.Rows")  # the union behind `RowsLike`
SHAPED = re.compile(r"(?:jaxtyping\.)?(Float|Int|Bool|Shaped|Num)\[(?:torch\.)?Tensor, ?'([^']*)'\]")


def setup(app: Any) -> None:
    """Sphinx's entry point."""
    app.connect("autodoc-process-docstring", as_rst, priority=400)  # before napoleon
    app.connect("autodoc-process-signature", short_signature)
    app.connect("autodoc-skip-member", skip)
    next(field for field in PyObject.doc_field_types if field.name == "variable").label = "Attributes"


def as_rst(app: Any, what: str, name: str, obj: Any, options: Any, lines: list[str]) -> None:
    """Rewrite the lines in place: formulas become literal blocks, and no other text is markup by accident."""
    lines[:] = list(_rewritten(lines))


def _rewritten(lines: list[str]) -> Iterator[str]:
    in_section = in_formula = False
    for paragraph in _paragraphs(lines):
        first = paragraph[0]
        if not first.startswith(" "):
            in_section, in_formula = bool(SECTION.match(first)), False
        elif not in_section and not in_formula:
            in_formula = True
            yield from ("::", "")
        literal = in_formula or first.lstrip().startswith(">>>")
        yield from paragraph if literal else _escaped("\n".join(paragraph)).split("\n")
        yield ""


def _paragraphs(lines: list[str]) -> Iterator[list[str]]:
    for has_text, group in groupby(lines, key=lambda line: bool(line.strip())):
        if has_text:
            yield list(group)


def _escaped(text: str) -> str:
    """Text outside of backticks without the characters that mean something in reStructuredText."""
    parts = re.split(r"(`+[^`]*`+|\*[A-Z][^*`]*\*)", text)  # literals and titles of books stay as they are
    return "".join(part if i % 2 else re.sub(r"([|*\\]|(?<=\w)_(?!\w))", r"\\\1", part) for i, part in enumerate(parts))


def short_signature(
    app: Any, what: str, name: str, obj: Any, options: Any, signature: str | None, returns: str | None
) -> tuple[str | None, str | None]:
    """Types without the modules that they come from; a tensor with its shape."""
    return _shortened(signature), _shortened(returns)


def _shortened(text: str | None) -> str | None:
    if text is None:
        return None
    text = ROWS.sub("RowsLike", text)
    text = SHAPED.sub(lambda match: f"{match[1]}[{match[2].strip() or 'scalar'!r}]", text)
    return re.sub(r"\b(?:[a-z_]+\.)+(?=[A-Za-z_]+)", "", text)


def skip(app: Any, what: str, name: str, obj: Any, skipped: bool, options: Any) -> bool | None:
    """Leave out what scikit-learn and torch expect of a class, and no user calls."""
    return True if re.fullmatch(r"set_\w+_request|extra_repr", name) else None
