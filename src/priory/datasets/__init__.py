"""Readers, splits, and what the values of a data set mean."""

from priory.datasets.arrays import read_arrays
from priory.datasets.constants import constant_columns
from priory.datasets.dataset import Dataset, Rows
from priory.datasets.likelihood_rule import RULE, LikelihoodProposal, propose_likelihood
from priory.datasets.loading import EMBEDDED, load_dataset
from priory.datasets.readers import FORMATS
from priory.datasets.summary import Summary, require_complete, require_finite
from priory.datasets.writers import check_output, write_rows

__all__ = [
    "EMBEDDED",
    "FORMATS",
    "RULE",
    "Dataset",
    "LikelihoodProposal",
    "Rows",
    "Summary",
    "check_output",
    "constant_columns",
    "load_dataset",
    "propose_likelihood",
    "read_arrays",
    "require_complete",
    "require_finite",
    "write_rows",
]
