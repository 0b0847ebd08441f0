"""Fonts for characters that matplotlib's own font lacks, such as Chinese ones."""

from collections.abc import Iterable, Iterator
from typing import Any

# Fonts that come with matplotlib and have other characters, or boxes, at these code points.
_NO_TEXT = ("cm", "STIXNonUnicode", "STIXSize", "Last Resort")
_USUAL = (400, "normal", "regular")  # weights


def use_fallback_fonts(figure: Any) -> str:
    """Set, for each text of a figure, installed fonts with the characters that its font lacks; return the others."""
    from matplotlib.font_manager import findfont
    from matplotlib.text import Text

    lacking = {text: _lacking(findfont(text.get_fontproperties()), text.get_text()) for text in figure.findobj(Text)}
    missing = {character for characters in lacking.values() for character in characters}
    names, left = _fonts_for(missing)
    for text, characters in lacking.items():
        if characters:
            text.set_fontfamily(list(dict.fromkeys([*text.get_fontfamily(), *names])))
    return "".join(sorted(left))


def _lacking(path: str, characters: Iterable[str]) -> set[str]:
    """Return the characters that a font file does not have."""
    from matplotlib.font_manager import get_font

    visible = {character for character in characters if not character.isspace()}
    return {character for character in visible if not get_font(path).get_char_index(ord(character))}


def _fonts_for(missing: set[str]) -> tuple[list[str], set[str]]:
    """Return names of installed fonts that have the characters, and the characters that no font has."""
    names = []
    for name, path in _upright_fonts() if missing else ():
        left = _lacking(path, missing)
        if left < missing:
            names.append(name)
            missing = left
        if not missing:
            break
    return names, missing


def _upright_fonts() -> Iterator[tuple[str, str]]:
    """Yield name and file of the installed fonts of usual weight, those without serifs first."""
    from matplotlib.font_manager import fontManager

    fonts = [
        (font.name, font.fname)
        for font in fontManager.ttflist
        if font.style == "normal" and font.weight in _USUAL and not font.name.startswith(_NO_TEXT)
    ]
    return iter(sorted(fonts, key=lambda font: ("Sans" not in font[0], font)))
