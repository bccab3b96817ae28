"""Where the platform's PostgreSQL comes from and how tenants are kept apart in it.

`connections` tells every process how to log in; its `Login` is the one type for a way into a database. `embedded` runs a private
server, `bootstrap` makes any server (embedded or external) ready, unless it is another HOME's (`ownership`); `hardening` takes
the catalogs away from PUBLIC, `provisioning` makes and removes tenants' roles and schemas, both by the steps of `roles`.
`storage_errors` says a failing database's own errors in words. Nothing here knows a provider, Dagster or the tables inside the
schemas.
"""
