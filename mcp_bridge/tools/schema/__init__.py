"""Tools of the toolset `schema`: what a tenant consists of, and what its columns mean."""
