"""The options for reading a table of text."""

from __future__ import annotations

from dataclasses import dataclass

from priory._support.messages import shortened

TEXT_OPTIONS = ("header", "delimiter", "decimal", "missing")


@dataclass(frozen=True)
class TextOptions:
    """The options for reading a table of text. None and () mean that the content of the file decides.

    Attributes:
        header: whether the first line contains names of columns.
        delimiter: the character between fields; 'tab' is accepted.
        decimal: the decimal mark, '.' or ','.
        missing: words for a missing cell, in addition to those of pandas.
        known: columns that a model expects; a first line that contains them is a header.

    Raises:
        ValueError: the delimiter is not a single character, or the decimal mark is not '.' or ','.
    """

    header: bool | None = None
    delimiter: str | None = None
    decimal: str | None = None
    missing: tuple[str, ...] = ()
    known: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.delimiter in ("tab", r"\t"):
            object.__setattr__(self, "delimiter", "\t")
        if self.delimiter is not None and (len(self.delimiter) != 1 or self.delimiter in '"\r\n'):
            raise ValueError(
                f"delimiter: expected one character, such as ';', '|' or tab, got {shortened(self.delimiter)!r}"
            )
        if self.decimal not in (None, ".", ","):
            raise ValueError(f"decimal: expected one of . and , got {shortened(self.decimal)!r}")

    @property
    def given(self) -> list[str]:
        """The names of the options that the user set."""
        return [name for name in TEXT_OPTIONS if getattr(self, name) not in (None, ())]
