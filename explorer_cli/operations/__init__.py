"""What commands do: operations on tenants, tokens, runs, semantics and the platform itself."""
