"""When does a pipeline start by itself, and for which tenants?"""

from collections.abc import Iterator

import dagster as dg

from explorer.contract.names import full_refresh_schedule_name, schedule_name
from explorer.contract.tags import RunTags
from explorer.registry import Pipeline, Schedule
from explorer_dagster.partitions import tenants
from explorer_dagster.resources import Platform
from explorer_dagster.runs import UNFINISHED


def schedules(pipeline: Pipeline) -> list[dg.ScheduleDefinition]:
    """`<pipeline>_schedule` and `<pipeline>_full_refresh_schedule`, where the pipeline's file has them."""
    described = (
        (schedule_name(pipeline.name), pipeline.schedule, RunTags()),
        (full_refresh_schedule_name(pipeline.name), pipeline.full_refresh, RunTags(full_refresh=True)),
    )
    return [_schedule(pipeline, name, schedule, tags) for name, schedule, tags in described if schedule is not None]


def _schedule(pipeline: Pipeline, name: str, schedule: Schedule, tags: RunTags) -> dg.ScheduleDefinition:
    what = "with everything read again, so that what is gone is found" if tags.full_refresh else "with what changed"

    @dg.schedule(
        name=name,
        job_name=pipeline.name,
        cron_schedule=schedule.cron,
        execution_timezone=schedule.timezone,
        default_status=dg.DefaultScheduleStatus[schedule.default_status.upper()],
        description=f"Starts {pipeline.name} {what}, for every active tenant that is not being synced already.",
    )
    def every_tenant(context: dg.ScheduleEvaluationContext, platform: Platform) -> Iterator[dg.RunRequest]:
        registered = set(context.instance.get_dynamic_partitions(tenants.name or ""))
        waiting = registered - _busy(context.instance, pipeline.name, tags)
        for tenant in platform.catalog.tenants.list():
            if tenant.provider == pipeline.provider and tenant.key in waiting:
                yield dg.RunRequest(
                    run_key=f"{context.scheduled_execution_time:%Y%m%dT%H%M}:{tenant.key}",
                    partition_key=tenant.key,
                    tags=tags.to_tags(),
                )

    return every_tenant


def _busy(instance: dg.DagsterInstance, job: str, tags: RunTags) -> set[str | None]:
    """Keys of tenants with an active run that does what a run with these tags would do.

    A sync of changes does not find deleted records, so a full refresh queues behind it.
    """
    runs = instance.get_runs(dg.RunsFilter(job_name=job, statuses=UNFINISHED, tags=tags.to_tags()))
    return {RunTags.from_tags(run.tags).partition_key for run in runs}
