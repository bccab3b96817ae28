"""The `explorer` command: starts, watches and stops the platform's parts; the operator's way to tenants, tokens and runs.

Stands on top of everything else; nothing imports it. What a command does to data lives in `explorer_dagster` and
`mcp_bridge`; here are processes, terminals and exit statuses.
"""
