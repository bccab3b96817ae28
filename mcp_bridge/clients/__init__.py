"""How the bridge reaches others: Dagster over GraphQL, a tenant's database as its loader, and how long each may take."""
