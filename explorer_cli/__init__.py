"""The `explorer` command: starts, watches and stops the platform's parts, and manages tenants, tokens and runs.

It is the top layer; nothing imports it. Work on data is done in `explorer_dagster` and `mcp_bridge`; this package handles
processes, terminals and exit statuses.
"""
