"""`python -m priory`: the command line."""

import os
import sys

from priory.workbench.cli.main import INTERRUPTED, main

try:
    main()
except SystemExit as end:
    if end.code != INTERRUPTED:
        raise
    # If Ctrl-C interrupted code that a library ran by exec, Python would end by SIGINT instead of with this exit code.
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(INTERRUPTED)
