"""Labels that color the rows of the page: classes in distinguishable groups, or numbers."""

from __future__ import annotations

import numpy as np

from priory.maps.labels import as_classes
from priory.plots.classes import MOST_STYLES, natural
from priory.workbench.report.encoding import Part, quantized, texts, whole_numbers


def label_part(name: str, values: np.ndarray) -> Part:
    """Encode a label of all rows: the kinds, the kind of each row and the group of each kind; or numbers.

    Groups are numbered in the order of the legend. If there are many kinds, the most frequent have a group each, and
    the rest share the group "others". Rows without a label come last.
    """
    values = np.asarray(values)
    classes = as_classes(values)
    if classes is None:
        return {"name": name, "numbers": quantized(values, "f4")}
    kinds, kind, counts = np.unique(classes.astype(str), return_inverse=True, return_counts=True)
    names, group = groups(kinds, counts)
    return {
        "name": name,
        "kinds": texts(kinds),
        "kind": whole_numbers(kind.ravel()),
        "group": whole_numbers(group),
        "groups": names,
    }


def groups(kinds: np.ndarray, counts: np.ndarray) -> tuple[list[Part], np.ndarray]:
    """Return the entries of the legend, and the index of each kind's entry.

    >>> groups(np.array(["", "10", "9"]), np.array([1, 5, 2]))[0]
    [{'name': '9', 'count': 2, 'own': True}, {'name': '10', 'count': 5, 'own': True}, {'name': 'none', ...}]
    """
    named = [i for i, kind in enumerate(kinds) if kind != ""]
    commonest = sorted(named, key=lambda i: -counts[i])
    own_group = commonest if len(named) <= MOST_STYLES else commonest[: MOST_STYLES - 1]
    own = sorted(own_group, key=lambda i: natural(str(kinds[i])))
    listed = [{"name": str(kinds[i]), "count": int(counts[i]), "own": True} for i in own]
    place = dict(zip(own, range(len(own)), strict=True))
    for name, members in (
        (f"{len(named) - len(own)} others", [i for i in named if i not in place]),
        ("none", [i for i, kind in enumerate(kinds) if kind == ""]),
    ):
        if members:
            place |= dict.fromkeys(members, len(listed))
            listed.append({"name": name, "count": int(counts[members].sum()), "own": False})
    return listed, np.array([place[i] for i in range(len(kinds))])
