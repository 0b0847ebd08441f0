"""Save and load models without pickle: a recipe of known classes in JSON, and numbers in a safetensors file."""

from priory.saving.folders import RECIPE, WEIGHTS, load, save

__all__ = ["RECIPE", "WEIGHTS", "load", "save"]
