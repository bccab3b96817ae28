"""How do raw tables become the tables that agents query? The dbt project of a tenant, and running it.

`project` writes a tenant's dbt project (the provider's static models and those of its table planner), `dbt` runs dbt in this
process, `changes` applies changed rows without dbt, `refresh` updates tables by both, `manifest` describes the static models
without a database.
"""
