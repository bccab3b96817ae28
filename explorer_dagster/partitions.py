"""Which partitions exist: one per active tenant, keyed by the tenant's readable key."""

import dagster as dg

TENANTS = "tenants"
PARTITION_TAG = "dagster/partition"

tenants = dg.DynamicPartitionsDefinition(name=TENANTS)
