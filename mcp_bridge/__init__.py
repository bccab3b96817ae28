"""The door for agents: an MCP server over the catalog, the tenants' tables and Dagster's GraphQL."""
