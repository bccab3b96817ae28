"""One pipeline of the registry as Dagster definitions: its assets, its job over the tenants and its schedule."""

from collections.abc import Iterator

import dagster as dg
from dagster._core.storage.dagster_run import IN_PROGRESS_RUN_STATUSES

from explorer.registry import Pipeline, Schedule
from explorer_dagster.assets.dbt import transform_assets
from explorer_dagster.assets.discovery import discovery_asset
from explorer_dagster.assets.loading import raw_assets
from explorer_dagster.partitions import PARTITION_TAG, tenants
from explorer_dagster.resources import FULL_REFRESH_TAG, Platform


def pipeline_definitions(pipeline: Pipeline) -> dg.Definitions:
    """Assets, the job named like the pipeline, and the schedules that it has."""
    assets = [discovery_asset(pipeline), raw_assets(pipeline), transform_assets(pipeline)]
    job = dg.define_asset_job(
        pipeline.name,
        selection=dg.AssetSelection.assets(*assets),
        partitions_def=tenants,
        description=pipeline.description,
        executor_def=dg.in_process_executor,
    )
    return dg.Definitions(assets=assets, jobs=[job], schedules=schedules(pipeline))


def schedules(pipeline: Pipeline) -> list[dg.ScheduleDefinition]:
    """`<pipeline>_schedule` and `<pipeline>_full_refresh_schedule`, as far as the pipeline's file has them."""
    described: tuple[tuple[str, Schedule | None, dict[str, str]], ...] = (
        (f"{pipeline.name}_schedule", pipeline.schedule, {}),
        (f"{pipeline.name}_full_refresh_schedule", pipeline.full_refresh, {FULL_REFRESH_TAG: "true"}),
    )
    return [_schedule(pipeline, name, schedule, tags) for name, schedule, tags in described if schedule is not None]


def _schedule(pipeline: Pipeline, name: str, schedule: Schedule, tags: dict[str, str]) -> dg.ScheduleDefinition:
    what = "with everything read again, so that what is gone is found" if tags else "with what changed"

    @dg.schedule(
        name=name,
        job_name=pipeline.name,
        cron_schedule=schedule.cron,
        execution_timezone=schedule.timezone,
        default_status=dg.DefaultScheduleStatus[schedule.default_status.upper()],
        description=f"Starts {pipeline.name} {what}, for every active tenant that is not being synced already.",
    )
    def every_tenant(context: dg.ScheduleEvaluationContext, platform: Platform) -> Iterator[dg.RunRequest]:
        busy = {
            run.tags.get(PARTITION_TAG)
            for run in context.instance.get_runs(
                dg.RunsFilter(job_name=pipeline.name, statuses=[*IN_PROGRESS_RUN_STATUSES, dg.DagsterRunStatus.QUEUED])
            )
            # A sync of what changed finds nothing that is gone: a full refresh queues behind it.
            if tags.items() <= run.tags.items()
        }
        registered = set(context.instance.get_dynamic_partitions(tenants.name or ""))
        for tenant in platform.catalog.tenants.list():
            if tenant.key in registered and tenant.key not in busy:
                yield dg.RunRequest(
                    run_key=f"{context.scheduled_execution_time:%Y%m%dT%H%M}:{tenant.key}",
                    partition_key=tenant.key,
                    tags=tags,
                )

    return every_tenant
