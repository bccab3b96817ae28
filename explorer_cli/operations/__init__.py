"""What commands do: the operator's way to tenants, tokens, runs, meaning and the platform itself."""
