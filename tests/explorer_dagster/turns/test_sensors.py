"""Sensors: partitions follow the catalog's active tenants, and throttled runs start again."""

import dagster as dg

from explorer.contract.names import TENANT_PARTITIONS
from explorer_dagster.resources import Platform
from explorer_dagster.turns.sensors import tenant_registration, throttled_runs
from tests.explorer_dagster.conftest import Stage


def registration(stage: Stage) -> dg.SensorResult | dg.SkipReason:
    """What the sensor asks for at this moment."""
    with dg.build_sensor_context(stage.instance, resources={"platform": Platform()}) as context:
        answer = tenant_registration(context)
    assert isinstance(answer, dg.SensorResult | dg.SkipReason)
    return answer


def requested(answer: dg.SensorResult | dg.SkipReason) -> list[tuple[str, list[str]]]:
    assert isinstance(answer, dg.SensorResult)
    return [(type(each).__name__, list(each.partition_keys)) for each in answer.dynamic_partitions_requests or ()]


def test_partitions_follow_the_active_tenants(stage: Stage) -> None:
    active = [tenant.key for tenant in stage.catalog.tenants.list()]
    assert stage.tenant.key in active
    stage.instance.add_dynamic_partitions(TENANT_PARTITIONS, active)
    assert isinstance(registration(stage), dg.SkipReason)

    stage.instance.delete_dynamic_partition(TENANT_PARTITIONS, stage.tenant.key)
    assert requested(registration(stage)) == [("AddDynamicPartitionsRequest", [stage.tenant.key])]

    stage.instance.add_dynamic_partitions(TENANT_PARTITIONS, [stage.tenant.key, "gone:b", "gone:a"])
    assert requested(registration(stage)) == [("DeleteDynamicPartitionsRequest", ["gone:a", "gone:b"])]


def test_the_sensor_of_throttled_runs_names_whose_allowance_it_waits_for(stage: Stage) -> None:
    job = stage.definitions.resolve_job_def("commcare_sync")
    assert "because A or B's allowance was used up" in str(throttled_runs([job], {"B", "A"}).description)
    [sensor] = stage.definitions.sensors or ()
    assert "because CommCare's allowance was used up" in str(sensor.description)
