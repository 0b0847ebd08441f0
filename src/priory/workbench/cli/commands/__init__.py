"""The implementation of each command, in a file of its name. `cli.options` has the options."""
