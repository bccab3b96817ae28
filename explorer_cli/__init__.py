"""The `explorer` command: starts, watches and stops the parts of the platform and is the operator's way to tenants, tokens and runs.

Stands on top of everything else; nothing imports it. What a command does to data lives in `explorer_dagster` and `mcp_bridge`; here are
processes, terminals and exit statuses.
"""
