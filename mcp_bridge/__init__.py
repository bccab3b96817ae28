"""The door for agents: an MCP server whose tools read a tenant's tables, tell what is known of them, and start runs.

Arrows run down: `__main__`, `server`, `tools`, `gate`, `query_path`, `facts`, `runs`, `clients` and `sql`, `answers`."""
