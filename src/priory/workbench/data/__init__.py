"""Data sets: readers, splits, the likelihood rule, output files."""

from priory.workbench.data.completeness import require_complete, require_finite
from priory.workbench.data.constants import constant_columns, describe_constants
from priory.workbench.data.dataset import Dataset, DatasetRows, telling_rows, with_columns
from priory.workbench.data.likelihood_rule import RULE, LikelihoodProposal, propose_likelihood
from priory.workbench.data.loading import EMBEDDED, load_dataset
from priory.workbench.data.reading.arrays import read_arrays
from priory.workbench.data.reading.readers import FORMATS
from priory.workbench.data.reading.table import Table
from priory.workbench.data.summary import Summary
from priory.workbench.data.writing.writers import check_output, write_rows

__all__ = [
    "EMBEDDED",
    "FORMATS",
    "RULE",
    "Dataset",
    "DatasetRows",
    "LikelihoodProposal",
    "Summary",
    "Table",
    "check_output",
    "constant_columns",
    "describe_constants",
    "load_dataset",
    "propose_likelihood",
    "read_arrays",
    "require_complete",
    "require_finite",
    "telling_rows",
    "with_columns",
    "write_rows",
]
