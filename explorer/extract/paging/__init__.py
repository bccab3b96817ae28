"""The ways of paging, one module each, with its own stop rule and loop guard; declared in `explorer.providers.paging`."""
