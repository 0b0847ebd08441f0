"""`python -m priory`: the command line."""

from priory.cli import main

main()
