"""Many small gray images in one PNG."""

from __future__ import annotations

import io
import math
from base64 import b64encode

import numpy as np

from priory._support.optional import require
from priory.workbench.report.encoding import Part

_LARGEST_SIDE = 64  # in pixels; larger images are reduced by an integer factor


def gray_tiles(rows: np.ndarray, image_shape: tuple[int, int], low: float, high: float) -> np.ndarray:
    """Convert rows (n, D) to uint8 images (n, height, width): low and missing pixels are black, high is white."""
    height, width = image_shape
    factor = math.ceil(max(height, width) / _LARGEST_SIDE)
    tiles = np.nan_to_num(rows, nan=low).reshape(-1, height, width)
    if factor > 1:
        padding = ((0, 0), (0, -height % factor), (0, -width % factor))
        tiles = np.pad(tiles, padding, mode="edge")
        shape = len(tiles), tiles.shape[1] // factor, factor, tiles.shape[2] // factor, factor
        tiles = tiles.reshape(shape).mean(axis=(2, 4))
    scaled = (tiles - low) / ((high - low) or 1.0)
    return np.rint(255 * np.clip(scaled, 0.0, 1.0)).astype(np.uint8)


def sprite_sheet(tiles: np.ndarray, side: int | None = None) -> Part:
    """Make one PNG of all tiles, uint8 (n, height, width), in reading order.

    With `side`, the tiles are at the nodes of a square grid of this side; the last coordinate increases upwards.
    """
    count, height, width = tiles.shape
    across = side or max(1, math.ceil(math.sqrt(count * height / width)))
    down = side or math.ceil(count / across)
    i = np.arange(count)
    line, place = (side - 1 - i % side, i // side) if side else (i // across, i % across)
    gap = max(1, round(min(height, width) / 8)) if side else 0  # only the tiles of a map have gaps
    canvas = np.full((down, height + gap, across, width + gap), 255 if gap else 0, dtype=np.uint8)
    canvas[line, :height, place, :width] = tiles
    image = require("PIL.Image", "plots", "a sheet of thumbnails").fromarray(
        canvas.reshape(down * (height + gap), across * (width + gap))
    )
    png = io.BytesIO()
    image.save(png, "PNG", compress_level=7)
    return {
        "png": b64encode(png.getvalue()).decode(),
        "height": height,
        "width": width,
        "gap": gap,
        "across": across,
        "as_map": bool(side),
    }
