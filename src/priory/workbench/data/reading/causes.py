"""Causes why a cell of a table is not a number, and their cures."""

from __future__ import annotations

import re
import shlex
from collections.abc import Collection, Sequence

_DIGITS = r"\d[\d.,]*"
_THOUSANDS = r"[+-]?\d{1,3}(,\d{3})+"
# (pattern of the cell, cause, cure); the first match decides
_CAUSES = [
    (r"\?+|-+|\*+|\.+|n\.?[ad]\.?|n/d|missing|unknown|nil", "a mark of a missing cell", "leave such cells empty"),
    (
        rf"[<>\u2264\u2265~]\s*{_DIGITS}",
        "a limit of detection",
        "write a value such as half of it, or leave the cell empty",
    ),
    (rf"{_THOUSANDS}\.\d*", "commas between thousands", "remove them"),
    (_THOUSANDS, "commas between thousands, or a decimal comma", "remove the commas, or write a decimal point"),
    (r"[+-]?\d{1,3}(\.\d{3})+,\d*", "points between thousands", "remove them"),
    (r"[+-]?\d{1,3}([ \xa0\u2009\u202f'\u2019]\d{3})+([.,]\d*)?", "gaps between thousands", "remove them"),
    (r"[+-]?(\d+,\d*|,\d+)(e[+-]?\d+)?", "a decimal comma", "write a decimal point"),
    (r"[+-]?(\d+\.\d*|\.\d+)(e[+-]?\d+)?", "a decimal point", "write a decimal comma"),
    (r"[+-]?[\d.]+d[+-]?\d+", "a Fortran exponent", "write E in place of D"),
    (rf"[\u2212\u2013\u2014]\s*{_DIGITS}", "a minus sign that is no hyphen", "replace it by -"),
    (rf"[+-]?{_DIGITS}\s*[^\d\s.,]+", "a number with a unit", "move the unit into the name of the column"),
]
_OPTIONS = {  # for tables of text, alternatives to the cure
    "a mark of a missing cell": ("--missing", ""),
    "a limit of detection": ("--missing", ""),
    "commas between thousands, or a decimal comma": ("--decimal", ","),
    "a decimal comma": ("--decimal", ","),
    "a decimal point": ("--decimal", "."),
}
_MOST_WORDS = 3  # of missing cells that a message lists


def cause_and_cure(cells: Sequence[str], options: Collection[str]) -> str:
    """Describe why cells of a column are not numbers; return '' if the cause of one is unknown.

    `options` contains --missing and --decimal if they would help.

    >>> cause_and_cure(["?"], ["--missing"])
    "a mark of a missing cell: leave such cells empty, or --missing '?'"
    >>> cause_and_cure(["2,899.37", "1,024.5"], []), cause_and_cure(["red"], [])
    ('commas between thousands: remove them', '')
    """
    causes = [_cause(cell) for cell in cells]
    if None in causes or not causes:
        return ""
    cause, cure = causes[0]  # type: ignore[misc]
    option, mark = _OPTIONS.get(cause, ("", ""))
    if option not in options:
        return f"{cause}: {cure}"
    words = [cell for cell, cause in zip(cells, causes, strict=True) if cause == causes[0]][:_MOST_WORDS]
    return f"{cause}: {cure}, or {f'{option} {mark}' if mark else missing_options(words)}"


def missing_options(words: Sequence[str]) -> str:
    """Return the options that declare these words as marks of missing cells.

    >>> missing_options(["?", "--"])
    "--missing '?' --missing=--"
    """
    return " ".join(f"--missing{'=' if word.startswith('-') else ' '}{shlex.quote(word)}" for word in words)


def _cause(cell: str) -> tuple[str, str] | None:
    matching = ((cause, cure) for form, cause, cure in _CAUSES if re.fullmatch(form, cell.strip(), re.IGNORECASE))
    return next(matching, None)
