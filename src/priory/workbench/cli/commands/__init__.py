"""What each command does and says, one after the other in files of their names; their options are in `options`."""
