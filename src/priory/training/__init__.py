"""Training: `fit`, `refit`, their settings and results. Needs the extra `train`; `__init__.pyi` lists the names."""

from priory._support.lazy import importer, modules_of_names
from priory._support.optional import require

require("pydantic", "train", "priory.training")  # Lightning is imported when training starts

__getattr__ = importer(__name__, modules_of_names(__file__))
