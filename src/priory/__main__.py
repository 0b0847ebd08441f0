"""`python -m priory`: the command line."""

import os
import sys

from priory.workbench.cli.main import INTERRUPTED, main

try:
    main()
except SystemExit as end:
    if end.code != INTERRUPTED:
        raise
    # If a Ctrl-C met code that a library ran by exec, Python would now die of SIGINT instead of exiting with the code.
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(INTERRUPTED)
