"""How tenants become partitions: the catalog decides who exists, Dagster follows."""

import dagster as dg

from explorer_dagster.orchestration.partitions import TENANTS, tenants
from explorer_dagster.orchestration.session import Platform

INTERVAL_S = 30


@dg.sensor(
    name="tenant_registration",
    minimum_interval_seconds=INTERVAL_S,
    default_status=dg.DefaultSensorStatus.RUNNING,
    description="Keeps the partitions equal to the active tenants of the catalog.",
)
def tenant_registration(context: dg.SensorEvaluationContext, platform: Platform) -> dg.SensorResult | dg.SkipReason:
    wanted = {tenant.key for tenant in platform.catalog.tenants.list()}
    present = set(context.instance.get_dynamic_partitions(TENANTS))
    requests: list[dg.AddDynamicPartitionsRequest | dg.DeleteDynamicPartitionsRequest] = []
    if new := sorted(wanted - present):
        requests.append(tenants.build_add_request(new))
    if gone := sorted(present - wanted):
        requests.append(tenants.build_delete_request(gone))
    if not requests:
        return dg.SkipReason(f"All {len(wanted)} tenants are registered.")
    return dg.SensorResult(dynamic_partitions_requests=requests)
