"""Tools of the toolset `workspaces`, and what `query` does with one: several tenants at once."""
