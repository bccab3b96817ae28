"""Data Explorer's engine: CommCare project spaces into Postgres, one isolated schema set per tenant.

Two floors. The lower one knows no Dagster (settings, errors, registry, postgres, catalog, commcare, loading, transforms'
plain parts) and is shared with `mcp_bridge`; the upper one (assets, checks, jobs, schedules, sensors, launcher) turns it into a
Dagster code location, whose table of contents is `explorer_dagster.definitions`.
"""
