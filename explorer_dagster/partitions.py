"""Which partitions exist: one per active tenant, keyed by the tenant's key."""

import dagster as dg

from explorer.contract.names import TENANT_PARTITIONS

tenants = dg.DynamicPartitionsDefinition(name=TENANT_PARTITIONS)
