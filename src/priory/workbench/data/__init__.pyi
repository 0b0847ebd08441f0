from priory.workbench.data.completeness import (
    require_complete as require_complete,
)
from priory.workbench.data.completeness import (
    require_finite as require_finite,
)
from priory.workbench.data.constants import (
    constant_columns as constant_columns,
)
from priory.workbench.data.constants import (
    describe_constants as describe_constants,
)
from priory.workbench.data.dataset import (
    Dataset as Dataset,
)
from priory.workbench.data.dataset import (
    DatasetRows as DatasetRows,
)
from priory.workbench.data.dataset import (
    check_width as check_width,
)
from priory.workbench.data.dataset import (
    telling_rows as telling_rows,
)
from priory.workbench.data.dataset import (
    with_columns as with_columns,
)
from priory.workbench.data.embedded import EMBEDDED as EMBEDDED
from priory.workbench.data.likelihood_rule import (
    RULE as RULE,
)
from priory.workbench.data.likelihood_rule import (
    LikelihoodProposal as LikelihoodProposal,
)
from priory.workbench.data.likelihood_rule import (
    propose_likelihood as propose_likelihood,
)
from priory.workbench.data.loading import load_dataset as load_dataset
from priory.workbench.data.reading.arrays import read_arrays as read_arrays
from priory.workbench.data.reading.readers import FORMATS as FORMATS
from priory.workbench.data.reading.table import Table as Table
from priory.workbench.data.summary import Summary as Summary
from priory.workbench.data.writing.writers import (
    check_output as check_output,
)
from priory.workbench.data.writing.writers import (
    write_rows as write_rows,
)
