"""Where does the platform's PostgreSQL come from, and how are tenants separated in it?

`connections` holds every process's logins; its type `Login` is one way into one database. `embedded` runs a private server.
`bootstrap` sets up any server (embedded or external), unless another HOME owns it (`ownership`). `hardening` takes the system
catalogs away from PUBLIC; `provisioning` makes and removes tenants' roles and schemas; both use the steps of `roles`.
`storage_errors` explains errors of a failing database. Nothing here knows a provider, Dagster or the tables inside the schemas.
"""
