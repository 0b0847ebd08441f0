"""Docstrings as reStructuredText. In the source they are plain text, with formulas indented."""

import re
from typing import Any

SECTION = re.compile(
    r"(Args|Attributes|Returns|Raises|Yields|Reference|References|Warns|Note|Example|Examples)s?:\s*(.*)"
)
ROWS = re.compile(r"torch\.Tensor \| numpy\.ndarray.*?priory\.rows\.protocol\.Rows")  # the union behind `RowsLike`
SHAPED = re.compile(r"(?:jaxtyping\.)?(Float|Int|Bool|Shaped|Num)\[(?:torch\.)?Tensor, ?'([^']*)'\]")


def as_rst(app: Any, what: str, name: str, obj: Any, options: Any, lines: list[str]) -> None:
    """Rewrite the lines in place: formulas become literal blocks, and no other text is markup by accident."""
    lines[:] = list(_rewritten(lines))


def _rewritten(lines: list[str]) -> Any:
    in_section = in_formula = in_doctest = False
    previous = ""
    for line in lines:
        indented, blank = line.startswith("  "), not line.strip()
        in_doctest = not blank and (in_doctest or line.lstrip().startswith(">>>"))
        if not indented and not blank:
            in_section, in_formula = bool(SECTION.fullmatch(line)), False
        if indented and not in_section and not in_formula and not in_doctest and not previous.strip():
            in_formula = True
            yield from ("::", "")
        yield line if in_formula or in_doctest else _escaped(line)
        previous = line


def _escaped(line: str) -> str:
    """Text outside of backticks without the characters that mean something in reStructuredText."""
    parts = re.split(r"(`+[^`]*`+)", line)
    if line.count("`") % 2:  # a literal that goes on in the next line
        return line
    return "".join(part if part.startswith("`") else _plain(part) for part in parts)


def _plain(text: str) -> str:
    text = text.replace("\\", r"\\").replace("|", r"\|")
    text = re.sub(r"(?<=\w)_(?!\w)", r"\\_", text)
    return re.sub(r"(?<!^)\*(?!\*)", r"\\*", text) if len(re.findall(r"\*", text)) % 2 else text


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
    """Leave scikit-learn's own methods out."""
    return True if re.fullmatch(r"set_\w+_request", name) else None
