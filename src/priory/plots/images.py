"""Mosaics of gray images."""

import math
from collections.abc import Sequence

import numpy as np

from priory.plots.figure import Axes, TensorOrArray, check_same_shape, new_axes, to_numpy, to_rows


def plot_images(
    images: TensorOrArray,
    *,
    image_shape: Sequence[int],
    columns: int | None = None,
    low: float | None = None,
    high: float | None = None,
    title: str | None = None,
    axes: Axes | None = None,
) -> Axes:
    """Draw flat rows as a mosaic of gray images, in reading order.

    Args:
        images: shape (batch, input), input = height * width.
        image_shape: (height, width) or (1, height, width).
        columns: images per line; by default the mosaic is square.
        low: value drawn black; None uses the smallest value.
        high: value drawn white; None uses the largest value.
        title: text above the mosaic.
        axes: axes to draw in; None makes a new figure.

    Returns:
        The axes; one data unit is one pixel, and image n begins at (n // columns * height, n % columns * width).

    Raises:
        ValueError: shapes disagree, or there is nothing to draw.

    >>> plot_images(np.random.rand(6, 20), image_shape=(4, 5), columns=3).images[0].get_array().shape
    (8, 15)
    """
    tiles = _tiles("images", images, image_shape)
    columns = _column_count(columns, math.ceil(math.sqrt(len(tiles))))
    line, place = np.divmod(np.arange(len(tiles)), columns)
    corners = np.stack([line * tiles.shape[1], place * tiles.shape[2]], axis=1)
    return _draw_mosaic(tiles, corners, low, high, title, axes)


def plot_reconstructions(
    originals: TensorOrArray,
    reconstructions: TensorOrArray,
    *,
    image_shape: Sequence[int],
    columns: int | None = None,
    low: float | None = None,
    high: float | None = None,
    title: str | None = None,
    axes: Axes | None = None,
) -> Axes:
    """Draw images, each with its reconstruction below it, on one gray scale.

    Other arguments are those of `plot_images`; the default scale is that of the originals.

    Args:
        originals: shape (batch, input), input = height * width.
        reconstructions: as `originals`, in the same order.
        columns: pairs per band; at most 10 by default.

    Returns:
        The axes; one data unit is one pixel, and the lines of images are labeled.

    Raises:
        ValueError: shapes disagree, or there is nothing to draw.
    """
    above = _tiles("originals", originals, image_shape)
    below = _tiles("reconstructions", reconstructions, image_shape)
    check_same_shape("reconstructions", below, "originals", above)
    columns = _column_count(columns, min(10, len(above)))
    low = float(np.nanmin(above)) if low is None else low
    high = float(np.nanmax(above)) if high is None else high
    _, height, width = above.shape
    band, place = np.divmod(np.arange(len(above)), columns)
    stride = 2 * height + math.ceil(height / 5)  # bands are separated, so that pairs are recognized
    corners = np.stack([band * stride, place * width], axis=1)
    tiles, corners = np.concatenate([above, below]), np.concatenate([corners, corners + np.array([height, 0])])
    axes = _draw_mosaic(tiles, corners, low, high, title, axes)
    centers = [
        top + (height - 1) / 2 for first in range(0, (band[-1] + 1) * stride, stride) for top in (first, first + height)
    ]
    axes.set_yticks(centers, ["data", "reconstruction"] * (band[-1] + 1))
    return axes


def plot_node_images(
    contents: TensorOrArray,
    *,
    image_shape: Sequence[int],
    side: int,
    usage: TensorOrArray | None = None,
    low: float | None = None,
    high: float | None = None,
    title: str | None = None,
    axes: Axes | None = None,
) -> Axes:
    """Draw the images of the nodes of a square grid at their positions: u_1 to the right, u_2 upwards.

    Other arguments are those of `plot_images`.

    Args:
        contents: (node, input), input = height * width; the grid's last coordinate changes fastest.
        side: nodes along each side of the grid.
        usage: (node,), the share of the rows of each node; images of nodes with less than half of an equal share fade,
            down to 0.3 of their strength for nodes without rows.

    Returns:
        The axes; one data unit is one pixel, and node k is in column k // side from the left, k % side from below.

    Raises:
        ValueError: shapes disagree.
    """
    tiles = _tiles("contents", contents, image_shape)
    if side < 1 or len(tiles) != side**2:
        raise ValueError(f"contents: expected {side} x {side} nodes (side x side), got {len(tiles)}")
    opacity = None
    if usage is not None:
        shares = to_numpy(usage).ravel()
        if len(shares) != len(tiles) or not (shares >= 0).all():
            expected = f"{len(tiles)} shares of at least 0, one per node"
            raise ValueError(f"usage: expected {expected}, got shape {shares.shape}")
        equal = shares.sum() / len(tiles) or 1.0
        opacity = 0.3 + 0.7 * np.minimum(shares / (0.5 * equal), 1.0)
    column, up = np.divmod(np.arange(len(tiles)), side)
    corners = np.stack([(side - 1 - up) * tiles.shape[1], column * tiles.shape[2]], axis=1)
    if axes is None:
        width = min(9.0, max(6.0, 0.4 * side))  # inches: 20 x 20 nodes need more room than 10 x 10
        axes = new_axes(1, 1, (width, max(1.0, width * tiles.shape[1] / tiles.shape[2])))[0]
    axes = _draw_mosaic(tiles, corners, low, high, title, axes, opacity)
    axes.set(xlabel="$u_1$", ylabel="$u_2$")
    return axes


def _tiles(name: str, images: TensorOrArray, image_shape: Sequence[int]) -> np.ndarray:
    """Return images of shape (batch, height, width)."""
    rows = to_rows(name, images)
    shape = tuple(image_shape)[1:] if len(image_shape) == 3 and image_shape[0] == 1 else tuple(image_shape)
    if len(shape) != 2 or min(shape) < 1:
        raise ValueError(f"image_shape: expected (height, width) or (1, height, width), got {tuple(image_shape)}")
    if rows.shape[1] != math.prod(shape):
        raise ValueError(f"{name}: expected {math.prod(shape)} columns for image_shape {shape}, got shape {rows.shape}")
    return rows.reshape(-1, *shape)


def _column_count(columns: int | None, default: int) -> int:
    if columns is not None and columns < 1:
        raise ValueError(f"columns: expected at least 1, got {columns}")
    return columns or default


def _draw_mosaic(
    tiles: np.ndarray,
    corners: np.ndarray,
    low: float | None,
    high: float | None,
    title: str | None,
    axes: Axes | None,
    opacity: np.ndarray | None = None,
) -> Axes:
    """Draw tiles (n, height, width) with frames; their upper left pixels are at corners (n, 2), line and column."""
    _, height, width = tiles.shape
    canvas = _laid_out(tiles, corners)
    if axes is None:
        inches = 6.0 / max(canvas.shape)
        axes = new_axes(1, 1, (max(inches * canvas.shape[1], 1.5), max(inches * canvas.shape[0], 1.0)))[0]
    alpha = None if opacity is None else _laid_out(np.broadcast_to(opacity[:, None, None], tiles.shape), corners)
    axes.imshow(canvas, cmap="gray", vmin=low, vmax=high, alpha=alpha)
    _draw_frames(axes, corners[:, ::-1] - 0.5, height, width)
    axes.set_xticks([])
    axes.set_yticks([])
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    if title:
        axes.set_title(title)
    return axes


def _laid_out(tiles: np.ndarray, corners: np.ndarray) -> np.ndarray:
    _, height, width = tiles.shape
    canvas = np.full(corners.max(axis=0) + np.array([height, width]), np.nan)
    for tile, (top, left) in zip(tiles, corners, strict=True):
        canvas[top : top + height, left : left + width] = tile
    return canvas


def _draw_frames(axes: Axes, upper_left: np.ndarray, height: int, width: int) -> None:
    from matplotlib.collections import PolyCollection

    outline = np.array([[0, 0], [width, 0], [width, height], [0, height]])
    outlines = list(upper_left[:, None] + outline)
    # Light blue differs from the black and white of the images. Not clipped, because half of the outer frame is
    # outside.
    axes.add_collection(
        PolyCollection(outlines, facecolors="none", edgecolors="#8fa3b8", linewidths=0.8, clip_on=False)
    )
