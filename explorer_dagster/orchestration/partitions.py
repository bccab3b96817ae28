"""Which partitions exist: one per active tenant, keyed by the tenant's readable key."""

import dagster as dg

TENANTS = "tenants"

tenants = dg.DynamicPartitionsDefinition(name=TENANTS)
