"""Which commands there are, with which arguments; a module per group of commands, without heavy imports."""
