"""The product without Dagster and without MCP: settings, catalog, providers, loading, tables and marts."""
