"""What did runs mean for their tenants' schedules? A failed one holds the tenant back, a good one ends that.

Whichever door launched them: an agent's run with a wrong key says as much as a schedule's.
"""

from collections.abc import Container, Iterable, Iterator, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

import dagster as dg

from explorer.catalog import Catalog, QuotaExhausted
from explorer.catalog.coordination.syncs import GoodRun
from explorer.contract.names import RUN_OUTCOMES
from explorer.contract.tags import RunTags
from explorer_dagster.resources import Platform
from explorer_dagster.turns.looking import is_final

INTERVAL_S = 30
# Of so many runs in one evaluation; the others come at the next.
_AT_ONCE = 500
_ENDED = [dg.DagsterRunStatus.SUCCESS, dg.DagsterRunStatus.FAILURE]
_UNKNOWN = "run_failed"


def run_outcomes(versions: Mapping[str, str]) -> dg.SensorDefinition:
    """The sensor that reads how runs of pipelines ended. `versions`: of all that a run uses, by the pipeline's name."""
    loaded_at = datetime.now(UTC)

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
        last = {(record.dagster_run.job_name, tenant): record for record, tenant in _of_tenants(records, versions)}
        held = _take(context.instance, platform.catalog, last, versions, loaded_at)
        if records:
            context.update_cursor(records[-1].update_timestamp.isoformat())
        return dg.SkipReason(f"{len(records)} runs have ended, {held} tenants are held back for it.")

    return sensor


def _of_tenants(records: Iterable[dg.RunRecord], jobs: Container[str]) -> Iterator[tuple[dg.RunRecord, str]]:
    """The runs of tenants, the earliest first, without those that start again by themselves, and those of some assets only:
    these say nothing about the others."""
    for record in records:
        run = record.dagster_run
        tags = RunTags.from_tags(run.tags)
        # One that the server made wait says nothing against the tenant, and is changed again when it is settled.
        is_whole = not run.asset_selection and not run.op_selection
        if run.job_name in jobs and tags.partition_key is not None and tags.retry is None and is_whole:
            yield record, tags.partition_key


def _take(
    instance: dg.DagsterInstance,
    catalog: Catalog,
    last: Mapping[tuple[str, str], dg.RunRecord],
    versions: Mapping[str, str],
    loaded_at: datetime,
) -> int:
    """Write the last outcome of each tenant and pipeline. Returns the number of failures that count.

    `loaded_at`: when this process read the definitions. A run that began before may have used others.
    """
    tenants = {tenant.key: tenant for tenant in catalog.tenants.list()}
    failed = 0
    for pipeline in {job for job, _ in last}:
        runs = {tenants[key]: record for (job, key), record in last.items() if job == pipeline and key in tenants}
        good = []
        for tenant, record in runs.items():
            run, (began_at, ended_at) = record.dagster_run, _times(record)
            if run.status == dg.DagsterRunStatus.SUCCESS:
                version = versions[pipeline] if began_at >= loaded_at else ""
                good.append(GoodRun(tenant.id, began_at, ended_at, version))
                continue
            code, message = _cause(instance, run)
            if code == QuotaExhausted.code:
                # No turn is taken while it is used up.
                continue
            failed += catalog.syncs.failed(
                tenant, pipeline, code, message, is_final=is_final(code), began_at=began_at, ended_at=ended_at,
                full_refresh=RunTags.from_tags(run.tags).full_refresh,
            )  # fmt: skip
        catalog.syncs.ran(pipeline, good)
    return failed


def _times(record: dg.RunRecord) -> tuple[datetime, datetime]:
    """When the run began and ended. One that could not be launched has no beginning."""
    ended = record.end_time or record.update_timestamp.timestamp()
    return datetime.fromtimestamp(record.start_time or ended, UTC), datetime.fromtimestamp(ended, UTC)


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
