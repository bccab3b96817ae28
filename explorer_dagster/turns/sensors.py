"""What does Dagster do in between by itself? Tenants of the catalog become partitions, and throttled runs are launched again."""

from collections.abc import Collection, Iterator, Sequence
from datetime import UTC, datetime
from typing import Any

import dagster as dg

from explorer.contract.names import TENANT_PARTITIONS, TENANT_REGISTRATION, THROTTLED_RUNS
from explorer.contract.tags import RunTags
from explorer_dagster import retries
from explorer_dagster.partitions import tenants
from explorer_dagster.resources import Platform
from explorer_dagster.runs import UNFINISHED

INTERVAL_S = 30
_AT_WORK_OR_DONE = [*UNFINISHED, dg.DagsterRunStatus.SUCCESS]


@dg.sensor(
    name=TENANT_REGISTRATION,
    minimum_interval_seconds=INTERVAL_S,
    default_status=dg.DefaultSensorStatus.RUNNING,
    description="Keeps the partitions equal to the active tenants of the catalog.",
)
def tenant_registration(context: dg.SensorEvaluationContext, platform: Platform) -> dg.SensorResult | dg.SkipReason:
    wanted = {tenant.key for tenant in platform.catalog.tenants.list()}
    present = set(context.instance.get_dynamic_partitions(TENANT_PARTITIONS))
    requests: list[dg.AddDynamicPartitionsRequest | dg.DeleteDynamicPartitionsRequest] = []
    if new := sorted(wanted - present):
        requests.append(tenants.build_add_request(new))
    if gone := sorted(present - wanted):
        requests.append(tenants.build_delete_request(gone))
    if not requests:
        return dg.SkipReason(f"All {len(wanted)} tenants are registered.")
    return dg.SensorResult(dynamic_partitions_requests=requests)


def throttled_runs(jobs: Sequence[Any], titles: Collection[str]) -> dg.SensorDefinition:
    """The sensor that retries throttled runs of `jobs` (results of `define_asset_job`); see `retries`.

    `titles`: the providers' names for people.
    """

    @dg.sensor(
        name=THROTTLED_RUNS,
        jobs=jobs,
        minimum_interval_seconds=INTERVAL_S,
        default_status=dg.DefaultSensorStatus.RUNNING,
        description=f"Starts runs again that ended because {' or '.join(sorted(titles))}'s allowance was used up, when the "
        "server lets them.",
    )
    def sensor(context: dg.SensorEvaluationContext, platform: Platform) -> Iterator[dg.RunRequest | dg.SkipReason]:
        instance = context.instance
        registered = set(instance.get_dynamic_partitions(TENANT_PARTITIONS))
        known = {tenant.key for tenant in platform.catalog.tenants.list()} & registered
        later: list[datetime] = []
        for record, at in retries.waiting_runs(instance):
            run = record.dagster_run
            # Marked at the next tick, when the new run exists: if the daemon dies in between, nothing is lost.
            if retries.was_started_again(instance, run):
                retries.settle(instance, run, "started")
            elif RunTags.from_tags(run.tags).partition_key not in known or _is_superseded(instance, record):
                retries.settle(instance, run, "dropped")
            elif at > datetime.now(UTC):
                later.append(at)
            else:
                yield retries.request(run)
        if later:
            yield dg.SkipReason(f"{len(later)} runs wait, the next one until {min(later):%Y-%m-%d %H:%M:%S} UTC.")

    return sensor


def _is_superseded(instance: dg.DagsterInstance, record: dg.RunRecord) -> bool:
    """Whether a later run of the tenant does, did or will do all that this one was to do."""
    run = record.dagster_run
    tenant = RunTags(partition_key=RunTags.from_tags(run.tags).partition_key)
    later = dg.RunsFilter(job_name=run.job_name, tags=tenant.to_tags(), created_after=record.create_timestamp)
    return any(
        _covers(other, run) and (other.status in _AT_WORK_OR_DONE or retries.is_waiting(other))
        for other in instance.get_runs(later)
    )


def _covers(other: dg.DagsterRun, run: dg.DagsterRun) -> bool:
    everything = other.asset_selection is None or (
        run.asset_selection is not None and run.asset_selection <= other.asset_selection
    )
    return everything and (_is_full(other) or not _is_full(run))


def _is_full(run: dg.DagsterRun) -> bool:
    return RunTags.from_tags(run.tags).full_refresh
