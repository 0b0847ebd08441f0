"""The quality of a map for some rows of a data set with known training rows and labels."""

import numpy as np

from priory.evaluation import Estimate
from priory.maps.labels import classes
from priory.maps.quality import NUM_NEIGHBORS
from priory.maps.topographic_map import TopographicMap
from priory.workbench.data import DatasetRows


def quality_on_map(drawn: TopographicMap, rows: DatasetRows) -> dict[str, Estimate]:
    """Return the measures of `TopographicMap.quality` for these rows.

    The accuracy of neighbors uses the training rows of the same data set: each labeled row outside of training is
    assigned the majority label of its neighbors among the training rows.
    """
    dataset = rows.dataset
    train = dataset.splits.get("train", np.empty(0, np.int64))
    kinds = classes(dataset.labels)
    if kinds is None or not len(train) or np.isin(rows.indices, train).any():
        return drawn.quality()
    known, mine = train[kinds[train] != ""], kinds[rows.indices]
    if len(known) < NUM_NEIGHBORS or (mine != "").sum() < 2:
        return drawn.quality()
    theirs = TopographicMap(drawn.surface, DatasetRows(dataset, known), reach=drawn.reach)
    return drawn.quality(mine, theirs, kinds[known])
