"""What the user says of a table of text."""

from __future__ import annotations

from dataclasses import dataclass

from priory._support.messages import shortened

TEXT_OPTIONS = ("header", "delimiter", "decimal", "missing")


@dataclass(frozen=True)
class TextOptions:
    """What the user says of a table of text; None and () leave it to the file.

    Attributes:
        header: whether the first line holds names of columns.
        delimiter: the character between fields; 'tab' is one too.
        decimal: the decimal mark, '.' or ','.
        missing: words for a missing cell, beside those that pandas knows.
        known: columns that a model expects; a first line that has them is a header.

    Raises:
        ValueError: the delimiter is no single character, or the decimal mark is another one.
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
        """The names of the options that the user gave."""
        return [name for name in TEXT_OPTIONS if getattr(self, name) not in (None, ())]
