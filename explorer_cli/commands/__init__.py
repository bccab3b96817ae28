"""The commands and their arguments: a module per group of commands, without heavy imports."""
