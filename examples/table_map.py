"""Draw a map of a table with empty cells by the classical GTM: python examples/table_map.py [PICTURE]"""

import sys

import numpy as np
from sklearn.datasets import load_wine
from sklearn.preprocessing import StandardScaler

from priory import GTM
from priory.plots import plot_map, save_figure

wine = load_wine()
x = StandardScaler().fit_transform(wine.data)
x[np.random.default_rng(0).random(x.shape) < 0.1] = np.nan  # one cell in ten is empty
gtm = GTM(points_per_side=12).fit(x)
places = gtm.transform(x)  # (178, 2)
axes = plot_map(places, classes=[str(wine.target_names[kind]) for kind in wine.target], name="cultivar")
save_figure(axes, sys.argv[1] if len(sys.argv) > 1 else "wine_map.png")
print("log p(x) of the cells that are there, mean over rows, nats:", round(gtm.score(x), 2))
