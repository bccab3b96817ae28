"""How raw tables become the tables that agents query: the dbt project of a tenant, and running it.

`project` lays out a tenant's dbt project (the static models of its provider and those that the provider's planner gives),
`runner` runs dbt in this process, `refresh` brings tables up to date with or without it, `manifest` describes the static models
without a database.
"""
