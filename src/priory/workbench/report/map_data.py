"""The map in the form that the page's script reads."""

from __future__ import annotations

import math

import numpy as np

from priory.plots.classes import CLASS_COLORS
from priory.plots.maps import spread_about
from priory.workbench.report.budget import THUMBNAILS_SHARE, Allowance, column_kind, rows_that_fit, sheet_that_fits
from priory.workbench.report.contents import MapContents, NodeContents
from priory.workbench.report.encoding import Kind, Part, quantized, size, texts, whole_numbers
from priory.workbench.report.labels import label_part
from priory.workbench.report.rows import ColumnMoments, column_moments, columns, dense
from priory.workbench.report.thumbnails import gray_tiles, sprite_sheet

_EXACT_PLACES = 200_000  # rows; with more, places are rounded to 1/65535 of the map


def map_data(contents: MapContents, bytes_left: int) -> Part:
    """Return the map as JSON for the page, in at most `bytes_left` bytes; its `notes` name the parts left out."""
    allowance = Allowance(bytes_left)
    index = rows_that_fit(len(contents.places), allowance.left)
    if len(index) < len(contents.places):
        allowance.notes.append(
            f"{len(index)} of the {len(contents.places)} rows are drawn, a random subset: all rows would make the "
            "file too large."
        )
    data = _places_part(contents, index, allowance)
    if contents.nodes is not None:
        data["nodes"] = allowance.take(_nodes_part(contents.nodes))
    data |= _names_part(contents, index, allowance)
    moments = None if contents.x is None else column_moments(contents.x)
    if moments is not None and contents.image_shape is not None:
        data |= _images_part(contents, index, moments, allowance)
    if moments is not None:
        data["columns"] = _columns_part(contents, index, moments, allowance)
    return data | {"notes": allowance.notes, "colors": list(CLASS_COLORS)}


def _places_part(contents: MapContents, index: np.ndarray, allowance: Allowance) -> Part:
    places = np.asarray(contents.places, dtype=np.float64)[index]
    kind: Kind = "f4" if len(index) <= _EXACT_PLACES else "u2"
    shown = _shown(places, contents.nodes)
    data: Part = {
        "count": len(index),
        "axes": [str(axis) for axis in contents.axes],
        "places": allowance.take([quantized(places[:, i], kind) for i in range(2)]),
        "shown": allowance.take([quantized(shown[:, i], "u2") for i in range(2)]),
    }
    if contents.score is not None:
        score = quantized(np.asarray(contents.score)[index], kind)
        data["score"] = allowance.take({"name": contents.score_name, "numbers": score})
    return data


def _names_part(contents: MapContents, index: np.ndarray, allowance: Allowance) -> Part:
    """Encode labels and ids; row numbers if the ids do not fit."""
    numbers = texts(index)
    labels = []
    for name, values in contents.labels.items():
        part = label_part(str(name), np.asarray(values)[index])
        if allowance.take_if_it_fits(
            part, f"The label {name} is left out: it would make the file too large.", keep=size(numbers)
        ):
            labels.append(part)
    ids = allowance.take_if_it_fits(
        texts(np.asarray(contents.ids)[index]),
        "The ids are left out: they would make the file too large. Rows are named by their number in the data set, "
        "from 0.",
    )
    return {"labels": labels, "ids": ids or allowance.take(numbers)}


def _shown(places: np.ndarray, nodes: NodeContents | None) -> np.ndarray:
    """Return where rows are drawn: rows at the same place are spread by less than half of the distance of nodes."""
    if nodes is None:
        return places
    ends = np.ptp(np.asarray(nodes.places), axis=0).max() / 2 or 1.0
    return spread_about(places / ends, 0.9 / max(1, math.isqrt(len(nodes.places)) - 1)) * ends


def _nodes_part(nodes: NodeContents) -> Part:
    places = np.asarray(nodes.places, dtype=np.float64)
    return {
        "count": len(places),
        "places": [quantized(places[:, i], "f4") for i in range(2)],
        "numbers": [{"name": str(name), "numbers": quantized(values, "f4")} for name, values in nodes.numbers.items()],
        "side": _side(places),
    }


def _side(places: np.ndarray) -> int | None:
    """Return the nodes per side of a regular square grid whose last coordinate varies fastest; else None."""
    side = math.isqrt(len(places))
    if side < 2 or side**2 != len(places):
        return None
    axes = [np.linspace(places[:, i].min(), places[:, i].max(), side) for i in range(2)]
    grid = np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1).reshape(-1, 2)
    return side if np.allclose(places, grid, atol=1e-6) else None


def _images_part(contents: MapContents, index: np.ndarray, moments: ColumnMoments, allowance: Allowance) -> Part:
    """Encode sheets of the nodes' images and of the rows' images."""
    assert contents.image_shape is not None
    shape = contents.image_shape
    low = float(moments.low.min()) if contents.low is None else contents.low
    high = float(moments.high.max()) if contents.high is None else contents.high
    part: Part = {}
    if contents.nodes is not None:
        tiles = gray_tiles(np.asarray(contents.nodes.contents), shape, low, high)
        sheet = sprite_sheet(tiles, _side(np.asarray(contents.nodes.places)))
        part["node_sheet"] = allowance.take_if_it_fits(
            sheet, "The nodes' images are left out: they would make the file too large."
        )

    def make(chosen: np.ndarray) -> Part:
        return sprite_sheet(gray_tiles(dense(contents.x, index[chosen]), shape, low, high))

    numbers_left = 4 * len(index)  # at most, for the indices of the rows
    rows_and_sheet = sheet_that_fits(make, len(index), int(THUMBNAILS_SHARE * allowance.left) - numbers_left)
    if rows_and_sheet is not None:
        chosen, thumbnails = rows_and_sheet
        part["sheet"] = allowance.take(thumbnails | {"rows": whole_numbers(chosen)})
        if len(chosen) < len(index):
            allowance.notes.append(
                f"{len(chosen)} of {len(index)} rows have a thumbnail, a random subset: all would make the file too "
                "large."
            )
    return part


def _columns_part(contents: MapContents, index: np.ndarray, moments: ColumnMoments, allowance: Allowance) -> list[Part]:
    """Encode the columns for colors and lists; if not all fit, those with the largest standard deviation."""
    names = [str(name) for name in contents.columns]
    kind = column_kind(len(index), len(names), allowance.left)
    order = np.argsort(-moments.scale, kind="stable")
    included: dict[int, Part] = {}
    for column, values in zip(order.tolist(), columns(contents.x, order), strict=False):
        part: Part = {
            "name": names[column],
            "mean": float(moments.mean[column]),
            "scale": float(moments.scale[column]),
            "rows": quantized(values[index], kind),
        }
        if contents.nodes is not None:
            part["nodes"] = quantized(np.asarray(contents.nodes.contents)[:, column], "u2" if kind == "u1" else kind)
        if size(part) > allowance.left:
            allowance.notes.append(
                f"{len(included)} of the {len(names)} columns are in the page, those that vary most: "
                "all columns would make the file too large."
            )
            break
        included[column] = allowance.take(part)
    if kind != "f4":
        levels = {"u2": 65535, "u1": 255}[kind]
        allowance.notes.append(f"Values of columns are rounded to {levels} levels of their range.")
    return [included[column] for column in sorted(included)]
