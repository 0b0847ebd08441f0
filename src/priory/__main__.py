"""`python -m priory`: the command line."""

from collections import namedtuple

from priory.workbench.cli.main import main

try:
    main()
finally:
    # Python remembers a Ctrl-C that met code which a library was making by exec, and `python -m` then dies of SIGINT
    # instead of exiting with main's code. Anything that is made in this way, as a named tuple is, makes it forget.
    namedtuple("Anything", ())
