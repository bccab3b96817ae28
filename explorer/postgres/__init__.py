"""Where the platform's PostgreSQL comes from and how tenants are kept apart in it.

`embedded` runs a private server, `bootstrap` makes any server (embedded or external) ready, `hardening` takes the catalogs away
from PUBLIC, `provisioning` makes and removes tenants' roles and schemas, `connections` tells every process how to log in.
Nothing here knows a provider, Dagster or the tables inside the schemas.
"""
