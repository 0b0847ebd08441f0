"""Data sets: readers, splits, the likelihood rule, output files; `__init__.pyi` lists the names."""

from priory._support.lazy import importer, modules_of_names

__getattr__ = importer(__name__, modules_of_names(__file__))
