"""Colors of numbers, by their size; by their quantiles if they are skewed."""

from typing import Any, NamedTuple

import numpy as np

_LEVELS = 257  # levels between which colors are interpolated: one more than a color map has
_TICKS = (0.0, 0.25, 0.5, 0.75, 1.0)
# Values are skewed if a tail beyond the middle 80 % is at least this many times as long as the middle 80 % are wide.
# The ratio is 1.4 for a million normal draws, and about 5 for 600 log-normal ones.
_LONG_TAIL = 1.5


class ColorScale(NamedTuple):
    """Arguments of a picture of numbers and of its color bar, and an addition to the bar's label."""

    picture: dict[str, Any]
    bar: dict[str, Any]
    note: str


def color_scale(values: np.ndarray, low: float | None = None, high: float | None = None) -> ColorScale:
    """Return colors by quantiles if most values lie in a small part of their range and no limit is given."""
    levels = color_levels(np.ma.masked_invalid(values).compressed()) if low is None and high is None else None
    if levels is None:
        return ColorScale({"vmin": low, "vmax": high}, {}, "")
    from matplotlib.colors import FuncNorm

    parts = np.linspace(0, 1, len(levels))

    def part(numbers: Any) -> Any:
        return np.ma.masked_array(np.interp(numbers, levels, parts), np.ma.getmask(numbers))

    norm = FuncNorm((part, lambda shares: np.interp(shares, parts, levels)), levels[0], levels[-1])
    ticks = np.interp(_TICKS, parts, levels)
    return ColorScale({"norm": norm}, {"ticks": ticks, "format": _short}, ", colors by quantiles")


def color_levels(values: np.ndarray) -> np.ndarray | None:
    """Return numbers whose colors are evenly spaced, if the values are skewed: the quantiles of the distinct values.

    Distinct values are used so that a frequent value, such as 0, has one color and not many.

    >>> color_levels(np.arange(9.0)) is None, color_levels(np.array([0.0] * 9 + [1.0, 50.0])).tolist()
    (True, [0.0, 1.0, 50.0])
    """
    different = np.unique(values)
    if len(different) < 3:
        return None
    tenth, ninth = np.quantile(values, [0.1, 0.9])
    if max(tenth - different[0], different[-1] - ninth) < _LONG_TAIL * (ninth - tenth):
        return None
    return different if len(different) <= _LEVELS else np.quantile(different, np.linspace(0, 1, _LEVELS))


def _short(value: float, position: int | None = None) -> str:
    return f"{float(f'{value:.3g}'):g}".replace("-", "\N{MINUS SIGN}")
