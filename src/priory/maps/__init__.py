"""Maps of data: rows on the grid of a GTM prior, a GTM-VampPrior or a classical GTM."""

from priory.maps.places import Places, places_of
from priory.maps.surfaces import surface_of
from priory.maps.topographic_map import Nodes, TopographicMap

__all__ = ["Nodes", "Places", "TopographicMap", "places_of", "surface_of"]
