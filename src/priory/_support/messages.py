"""Words that error messages share: the name that was meant, and what a library said in the words of the house."""

import re
from collections.abc import Iterable, Sequence
from difflib import get_close_matches

TRAIN_AGAIN = "put back the file that `priory fit` wrote, or train again"

_ALIKE = 0.6  # difflib's ratio from which a name is worth suggesting: two letters of three that changed places are
_MOST_NAMES = 10_000  # comparing takes microseconds each; nobody mistypes one of a million columns
_LONGEST_NAME = 100

# pydantic's and click's sentences; the first that matches is replaced.
_WORDS = (
    (r"Input should be greater than or equal to (.*)", r"expected at least \1"),
    (r"Input should be greater than (.*)", r"expected more than \1"),
    (r"Input should be less than or equal to (.*)", r"expected at most \1"),
    (r"Input should be a valid integer.*|Unable to parse input string as an integer.*", "expected a whole number"),
    (r".* is not a valid integer.*", "expected a whole number"),
    (r".* is not in the range x>=(\S+)", r"expected at least \1"),
    (r".* is not in the range (\S+)<=x<=(\S+)", r"expected at least \1 and at most \2"),
    (r"Input should be a valid number.*|.* is not a valid float.*", "expected a number"),
    (r"Input should be a valid string.*", "expected text"),
    (r"Input should be a valid (dictionary|object).*", "expected settings by name, {...}"),
    (r"Input should be a valid (tuple|list).*", "expected a list"),
    (r"Input should be (.*)", r"expected \1"),
    (r"Value error, (.*)", r"\1"),
)


def nearest(name: str, known: Iterable[str]) -> str | None:
    """The known name that is most like this one, by its letters or by the initials of its words; None if none is.

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
    """The end of an error message: `; did you mean vamp?`, or nothing where no name is near.

    >>> did_you_mean("vmap", ["standard", "vamp"]), did_you_mean("quux", ["standard", "vamp"])
    ('; did you mean vamp?', '')
    """
    close = nearest(name, known)
    return "" if close is None else f"; did you mean {close}?"


def in_our_words(sentence: str) -> str:
    """What a library found wrong with a value, as our messages say it.

    >>> in_our_words("Input should be greater than or equal to 1"), in_our_words("Option takes an argument.")
    ('expected at least 1', 'option takes an argument')
    """
    text = " ".join(sentence.split()).rstrip(".")
    for pattern, words in _WORDS:
        if match := re.fullmatch(pattern, text):
            return match.expand(words)
    return text[:1].lower() + text[1:]


def first_few(names: Sequence[str], most: int = 5) -> str:
    """The first names of a list.

    >>> first_few(["a", "b", "c"]), first_few(["a", "b", "c"], 2)
    ('a, b, c', 'a, b, ...')
    """
    return ", ".join(names[:most]) + (", ..." if len(names) > most else "")


def shortened(text: str, most: int = 80) -> str:
    """The text, or its beginning where it is long.

    >>> shortened("abcdefgh", 5)
    'ab...'
    """
    return text if len(text) <= most else text[: most - 3] + "..."
