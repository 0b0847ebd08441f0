"""Words that error messages share: suggestions of names, and messages of libraries in our own words."""

import re
import unicodedata
from collections.abc import Iterable, Sequence
from difflib import get_close_matches

TRAIN_AGAIN = "put back the file that `priory fit` wrote, or train again"

_ALIKE = 0.6  # difflib's ratio above which a name is suggested: two swapped letters of three reach it
_MOST_NAMES = 10_000  # each comparison takes microseconds; nobody mistypes one of a million columns
_LONGEST_NAME = 100

_CONTROLS = ("Cc", "Cs", "Zl", "Zp")  # categories: control characters, surrogates, separators of lines
_REORDERING = (
    "LRE",
    "RLE",
    "LRO",
    "RLO",
    "PDF",
    "LRI",
    "RLI",
    "FSI",
    "PDI",
)  # characters that reorder text

# Messages of pydantic and click; the first pattern that matches is replaced.
_WORDS = (
    (r"Input should be greater than or equal to (.*)", r"expected at least \1"),
    (r"Input should be greater than (.*)", r"expected more than \1"),
    (r"Input should be less than or equal to (.*)", r"expected at most \1"),
    (r"Input should be a valid integer.*|Unable to parse input string as an integer.*", "expected a whole number"),
    (r".* is not a valid int.*", "expected a whole number"),
    (r".* is not in the range x>=(\S+)", r"expected at least \1"),
    (r".* is not in the range (\S+)<=x<=(\S+)", r"expected at least \1 and at most \2"),
    (r"Input should be a valid number.*|.* is not a valid float.*", "expected a number"),
    (r"Input should be a valid boolean.*", "expected true or false"),
    (r"Input should be a valid string.*", "expected text"),
    (r"Input should be a valid (dictionary|object).*", "expected settings by name, {...}"),
    (r"Input should be a valid (tuple|list).*", "expected a list"),
    (r"Input should be (.*)", r"expected \1"),
    (r"Value error, (.*)", r"\1"),
)


def nearest(name: str, known: Iterable[str]) -> str | None:
    """Return the known name that is most similar, by its letters or by the initials of its words; None if none is.

    >>> nearest("vmap", ["standard", "vamp", "gtm-vamp"]), nearest("lr", ["layer", "learning_rate"])
    ('vamp', 'learning_rate')
    >>> nearest("quux", ["standard", "vamp"]) is None
    True
    """
    names = list(known)
    if len(name) > _LONGEST_NAME or len(names) > _MOST_NAMES:
        return None
    typed = name.lower()
    lowered = {other.lower(): other for other in reversed(names)}
    abbreviated = {_initials(other): lowered[other] for other in reversed(lowered) if len(_initials(other)) > 1}
    close = get_close_matches(typed, lowered, n=1, cutoff=_ALIKE)
    if typed in abbreviated and typed not in lowered:
        return abbreviated[typed]
    return lowered[close[0]] if close else None


def _initials(name: str) -> str:
    return "".join(word[:1] for word in re.split("[-_]", name))


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """Return the end of an error message: `; did you mean vamp?`, or '' if no name is similar.

    >>> did_you_mean("vmap", ["standard", "vamp"]), did_you_mean("quux", ["standard", "vamp"])
    ('; did you mean vamp?', '')
    """
    close = nearest(name, known)
    return "" if close is None else f"; did you mean {close}?"


def in_our_words(sentence: str) -> str:
    """Return a library's message about a value in our own words.

    >>> in_our_words("Input should be greater than or equal to 1"), in_our_words("Option takes an argument.")
    ('expected at least 1', 'option takes an argument')
    """
    text = " ".join(sentence.split()).rstrip(".")
    for pattern, words in _WORDS:
        if match := re.fullmatch(pattern, text):
            return match.expand(words)
    return text[:1].lower() + text[1:]


def first_few(names: Sequence[str], most: int = 5) -> str:
    """Return the first names of a list.

    >>> first_few(["a", "b", "c"]), first_few(["a", "b", "c"], 2)
    ('a, b, c', 'a, b, ...')
    """
    return ", ".join(names[:most]) + (", ..." if len(names) > most else "")


def shortened(text: str, most: int = 80) -> str:
    """Return the text, or its beginning if it is long.

    >>> shortened("abcdefgh", 5)
    'ab...'
    """
    return text if len(text) <= most else text[: most - 3] + "..."


def shortened_apart(texts: Iterable[str], most: int) -> dict[str, str]:
    """Return a short form of each text, with at most `most` letters; different texts have different forms.

    Long texts with a common beginning are shortened in the common part, so that the differences remain.

    >>> shortened_apart(["regulatory CD4-positive T cell", "regulatory CD8-positive T cell", "B cell"], 16)
    {'regulatory CD4-positive T cell': 'regu...CD4-po...', ..., 'B cell': 'B cell'}
    """
    forms: dict[str, str] = {}
    for text, form in _by_difference(list(dict.fromkeys(texts)), most).items():
        number = 1
        while form in forms.values():  # too short, or equal to the form of another text
            number += 1
            form = f"{form[: most - len(f' #{number}')]} #{number}"
        forms[text] = form
    return forms


def _by_difference(texts: Sequence[str], most: int) -> dict[str, str]:
    """Shorten the texts to their beginnings; for texts with the same beginning, add the part where they differ."""
    alike: dict[str, list[str]] = {}
    for text in texts:
        alike.setdefault(shortened(text, most), []).append(text)
    forms: dict[str, str] = {}
    head = most // 4
    for form, group in alike.items():
        if len(group) == 1 or head < 2:
            forms |= dict.fromkeys(group, form)
            continue
        first, last = min(group), max(group)
        until = next((i for i, pair in enumerate(zip(first, last, strict=False)) if len(set(pair)) > 1), len(first))
        start = max(first[:until].rfind(" ") + 1, until - head)  # start of the differing word, or some letters before
        ends = _by_difference([text[start:] for text in group], most - head - 3)
        forms |= {text: f"{text[:head]}...{ends[text[start:]]}" for text in group}
    return forms


def visible(text: str) -> str:
    r"""Return the text in one line; characters that control a terminal, or reorder text, become escapes.

    >>> print(visible("cell\x1b[2J \u202e7 naïve"))
    cell\x1b[2J \u202e7 naïve
    """
    return "".join(c.encode("unicode_escape").decode() if _controls_terminal(c) else c for c in text)


def _controls_terminal(character: str) -> bool:
    return unicodedata.category(character) in _CONTROLS or unicodedata.bidirectional(character) in _REORDERING


def duration(seconds: float) -> str:
    """Return a duration in words, with about two digits.

    >>> duration(8.2), duration(400.0), duration(20000.0)
    ('8 s', '7 min', '5.6 h')
    """
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
