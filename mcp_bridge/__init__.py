"""The MCP server for agents, over the catalog, the tenants' tables and Dagster's GraphQL."""
