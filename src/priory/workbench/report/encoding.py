"""Encode arrays and texts for a page: compressed, in base64, never as markup."""

from __future__ import annotations

import json
import zlib
from base64 import b64encode
from collections.abc import Sequence
from typing import Any, Literal

import numpy as np

Part = dict[str, Any]  # JSON
Kind = Literal["f4", "u2", "u1"]

_MARKUP = {ord(each): f"\\u{ord(each):04x}" for each in "<>&"}


def json_for_html(value: Any) -> str:
    r"""Return JSON for a script element: only ASCII, without any character of markup.

    >>> print(json_for_html("</script>\u2028"))
    "\u003c/script\u003e\u2028"
    """
    return json.dumps(value, allow_nan=False, separators=(",", ":")).translate(_MARKUP)


def size(part: Any) -> int:
    """Return the size of a part in the page, in bytes."""
    return len(json_for_html(part))


def quantized(values: np.ndarray, kind: Kind) -> Part:
    """Encode numbers as float32, or as 65535 or 255 levels of their range, with one more level for missing numbers.

    value = low + level * step
    """
    values = np.asarray(values, dtype=np.float64)
    if kind == "f4":
        with np.errstate(over="ignore"):  # numbers beyond float32 are missing in the page
            return _packed(values.astype("<f4"))
    there = np.isfinite(values)
    low, high = (float(values[there].min()), float(values[there].max())) if there.any() else (0.0, 0.0)
    levels = 2 ** (8 * int(kind[1])) - 2
    step = high / levels - low / levels  # the difference itself may overflow
    scaled = np.rint((np.where(there, values, low) / (step or 1.0)) - low / (step or 1.0))
    return _packed(np.where(there, np.clip(scaled, 0, levels), levels + 1).astype(f"<{kind}")) | {
        "low": low,
        "step": step,
        "missing": levels + 1,
    }


def whole_numbers(values: np.ndarray) -> Part:
    """Encode non-negative integers, in as many bytes as the largest needs."""
    values = np.asarray(values)
    largest = int(values.max(initial=0))
    return _packed(values.astype("<u1" if largest < 2**8 else "<u2" if largest < 2**16 else "<u4"))


def texts(values: Sequence[str] | np.ndarray) -> Part:
    written = json.dumps([str(each) for each in values], separators=(",", ":")).encode()
    return {"type": "text", "data": b64encode(zlib.compress(written, 6)).decode()}


def _packed(array: np.ndarray) -> Part:
    return {"type": array.dtype.str[1:], "data": b64encode(zlib.compress(array.tobytes(), 6)).decode()}
