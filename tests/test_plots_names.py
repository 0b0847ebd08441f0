"""Names from the user's data in figures: short, distinct, drawn literally, in a font with their letters."""

import warnings

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from matplotlib.cbook import is_math_text
from matplotlib.font_manager import FontProperties, findfont, get_font
from matplotlib.text import Text

from priory._support.messages import shortened_apart
from priory.plots import (
    plot_class_landscape,
    plot_landscapes,
    plot_map,
    plot_rate_distortion,
    plot_rows,
    plot_samples,
    save_figure,
)
from priory.plots.figure import LONGEST_NAME, as_drawn

ALIKE = [f"naive thymus-derived CD{i}-positive, alpha-beta T cell of the {'blood' * i}" for i in (4, 8)]
SAME_START_AND_END = [f"{'common beginning ' * 3}{middle}{' common end' * 4}" for middle in ("one", "two", "three")]
NAMES = [*ALIKE, *SAME_START_AND_END, "$x_1$", "US$", "a$b$c$", r"\$", "_hidden", "c1cc[nH]c75", "[/x]"]
ROWS = np.random.default_rng(0).normal(size=(len(NAMES) ** 2, len(NAMES)))


def texts(axes: object) -> list[str]:
    """Return all texts of a figure as drawn: without the backslash that prevents a formula after a dollar."""
    figure = np.asarray(axes, dtype=object).flat[0].figure
    return [text.get_text().replace(r"\$", "$").strip() for text in figure.findobj(Text) if text.get_text()]


FIGURES = {
    "map": lambda names: plot_map(ROWS[:, :2], classes=np.array(names)[np.arange(len(ROWS)) % len(names)]),
    "class landscape": lambda names: plot_class_landscape(
        np.eye(len(names)).repeat(len(names), 0), names, name=names[0]
    ),
    "rate and distortion": lambda names: plot_rate_distortion({name: (i, i) for i, name in enumerate(names)}),
    "rows": lambda names: plot_rows(ROWS[:5, : len(names)], ROWS[:5, : len(names)], names=names),
    "samples": lambda names: plot_samples(ROWS[:9, : len(names)], ROWS[:9, : len(names)], names=names),
    "landscapes": lambda names: plot_landscapes(ROWS[:9, : len(names)], names=names, most=20),
}


@pytest.mark.parametrize("figure", FIGURES)
def test_different_names_look_different_in_every_figure(figure):
    drawn = FIGURES[figure](NAMES)
    most = 24 if figure == "landscapes" else LONGEST_NAME
    shown = [text.rpartition(" (")[0] if text.endswith(")") else text for text in texts(drawn)]
    expected = set(shortened_apart(NAMES, most).values())
    assert len(expected) == len(NAMES)
    assert expected <= set(shown)


def test_a_name_with_dollars_is_drawn_literally():
    for name in ("$x_1$", "US$", "a$b$c$", r"\$", r"$\alpha$"):
        drawn = as_drawn(name)
        assert not is_math_text(drawn)
        assert drawn.replace(r"\$", "$") == name  # matplotlib does the same with texts without formulas


LONG = st.integers(0, 99).map(lambda number: f"{50 * 'x'}{number}{50 * 'y'}")


@given(st.lists(st.text(st.sampled_from("ab "), max_size=60) | LONG), st.sampled_from([10, 24, 40]))
def test_short_forms_are_short_and_distinct(names, most):
    short = shortened_apart(names, most)
    assert len(set(short.values())) == len(short) == len(set(names))
    assert max(map(len, short.values()), default=0) <= most
    assert all(short[name] == name for name in names if len(name) <= most and "#" not in short[name])


def only_in(font: str) -> str:
    """Return a letter that this font has and matplotlib's usual font lacks."""
    usual, other = (get_font(findfont(FontProperties(family=name))).get_charmap() for name in ("DejaVu Sans", font))
    return next(chr(code) for code in sorted(set(other) - set(usual)) if chr(code).isalpha())


def test_letters_that_the_usual_font_lacks_are_drawn_with_another_font(tmp_path):
    axes = plot_map(ROWS[:, :2], classes=[only_in("STIXGeneral")] * len(ROWS))  # matplotlib contains this font
    save_figure(axes, tmp_path / "figure.png")  # warnings are errors here
    assert len(axes.get_legend().get_texts()[0].get_fontfamily()) > 1


def test_letters_that_no_font_has_give_one_clear_warning(tmp_path):
    axes = plot_map(
        ROWS[:, :2], classes=["\U000f0000"] * len(ROWS), name="\U000f0001\U000f0002"
    )  # characters for private use
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        save_figure(axes, tmp_path / "figure.png")
    assert [str(warning.message)[:44] for warning in caught] == ["some letters of names are drawn as boxes, be"]
