"""What did runs mean for their tenants' schedules? A failed one holds the tenant back, a good one ends that.

Whichever door launched them: an agent's run with a wrong key says as much as a schedule's.
"""

from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import dagster as dg

from explorer.catalog import Catalog
from explorer.contract.names import RUN_OUTCOMES
from explorer.contract.tags import RunTags
from explorer.registry import Pipeline
from explorer_dagster.resources import Platform
from explorer_dagster.turns.looking import is_final

INTERVAL_S = 30
# Of so many runs in one evaluation; the others come at the next.
_AT_ONCE = 500
_ENDED = [dg.DagsterRunStatus.SUCCESS, dg.DagsterRunStatus.FAILURE]
_UNKNOWN = "run_failed"


def run_outcomes(pipelines: Sequence[Pipeline]) -> dg.SensorDefinition:
    """The sensor that reads how the runs of these pipelines ended."""
    names = {pipeline.name for pipeline in pipelines}

    @dg.sensor(
        name=RUN_OUTCOMES,
        minimum_interval_seconds=INTERVAL_S,
        default_status=dg.DefaultSensorStatus.RUNNING,
        description="Holds tenants back whose runs fail: an hour, then longer, up to a day; a good run ends that.",
    )
    def sensor(context: dg.SensorEvaluationContext, platform: Platform) -> dg.SkipReason:
        since = datetime.fromisoformat(context.cursor) if context.cursor else datetime.now(UTC) - timedelta(hours=1)
        ended = dg.RunsFilter(statuses=_ENDED, updated_after=since)
        records = context.instance.get_run_records(ended, limit=_AT_ONCE, order_by="update_timestamp", ascending=True)
        last = {(run.job_name, tenant): run for run, tenant in _of_tenants(records, names)}
        held = _take(context.instance, platform.catalog, last)
        if records:
            context.update_cursor(records[-1].update_timestamp.isoformat())
        return dg.SkipReason(f"{len(records)} runs have ended, {held} tenants are held back for it.")

    return sensor


def _of_tenants(records: Sequence[dg.RunRecord], jobs: set[str]) -> Iterator[tuple[dg.DagsterRun, str]]:
    """The runs of tenants, the earliest first, without those that start again by themselves."""
    for record in records:
        run = record.dagster_run
        tags = RunTags.from_tags(run.tags)
        # One that the server made wait says nothing against the tenant, and is changed again when it is settled.
        if run.job_name in jobs and tags.partition_key is not None and tags.retry is None:
            yield run, tags.partition_key


def _take(instance: dg.DagsterInstance, catalog: Catalog, last: Mapping[tuple[str, str], dg.DagsterRun]) -> int:
    """Write the last outcome of each tenant and pipeline. Returns the number of failures."""
    tenants = {tenant.key: tenant for tenant in catalog.tenants.list()}
    failed = 0
    for pipeline in {job for job, _ in last}:
        runs = {tenants[key]: run for (job, key), run in last.items() if job == pipeline and key in tenants}
        good = [tenant.id for tenant, run in runs.items() if run.status == dg.DagsterRunStatus.SUCCESS]
        catalog.syncs.looked(pipeline, good)
        for tenant, run in runs.items():
            if run.status == dg.DagsterRunStatus.FAILURE:
                failed += 1
                code, message = _cause(instance, run)
                catalog.syncs.failed(tenant, pipeline, code, message, is_final=is_final(code))
    return failed


def _cause(instance: dg.DagsterInstance, run: dg.DagsterRun) -> tuple[str, str]:
    """Code and message of the run's first failed step."""
    found = instance.get_records_for_run(run.run_id, of_type=dg.DagsterEventType.STEP_FAILURE, limit=1).records
    event = found[0].event_log_entry.dagster_event if found else None
    told = event.step_failure_data.user_failure_data if event else None
    if told is None:
        return _UNKNOWN, f"Run {run.run_id} failed."
    codes = list(_codes({label: entry.value for label, entry in told.metadata.items()}))
    return next(filter(is_final, codes), next(iter(codes), _UNKNOWN)), told.description or f"Run {run.run_id} failed."


def _codes(facts: Mapping[str, Any]) -> Iterator[str]:
    """The codes of a failure: its own, and those of failed sources."""
    for value in (facts, *facts.values()):
        code = value.get("code") if isinstance(value, Mapping) else None
        if isinstance(code, str):
            yield code
