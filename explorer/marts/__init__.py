"""How raw tables become the tables that agents query: the dbt project of a tenant, and running it.

`project` lays out a tenant's dbt project (static models plus `generate`d ones), `profile` learns from the raw data what no
application says, `runner` runs dbt in this process, `manifest` describes the static models without a database.
Nothing here knows Dagster; loading the raw tables belongs to `loading`.
"""
