"""Which partitions exist? One per active tenant; the partition key is the tenant's key."""

import dagster as dg

from explorer.contract.names import TENANT_PARTITIONS

tenants = dg.DynamicPartitionsDefinition(name=TENANT_PARTITIONS)
