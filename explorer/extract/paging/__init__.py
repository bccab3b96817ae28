"""The ways of paging: one module each, with its own end condition and loop guard. Declared in `explorer.providers.paging`."""
