"""How do raw tables become the tables that agents query? The dbt project of a tenant, and running it.

`project` writes a tenant's dbt project (the provider's static models and those of its table planner), `runner` runs dbt in this
process, `refresh` updates tables with or without dbt, `manifest` describes the static models without a database.
"""
