"""How raw tables become the tables that agents query: the dbt project of a tenant, and running it.

`project` lays out a tenant's dbt project (the static models of its provider and those that the provider's planner gives),
`dbt` runs dbt in this process, `changes` applies what changed without it, `refresh` brings tables up to date by both, `manifest`
describes the static models without a database.
"""
