"""One pipeline of the registry as Dagster definitions: its assets, its job over the tenants and its schedule."""

from collections.abc import Iterator

import dagster as dg
from dagster._core.storage.dagster_run import IN_PROGRESS_RUN_STATUSES

from explorer_dagster.orchestration.discovery import discovery_asset
from explorer_dagster.orchestration.loading import raw_assets
from explorer_dagster.orchestration.partitions import tenants
from explorer_dagster.orchestration.session import Platform
from explorer_dagster.orchestration.transforms import transform_assets
from explorer_dagster.registry import Pipeline

PARTITION_TAG = "dagster/partition"


def pipeline_definitions(pipeline: Pipeline) -> dg.Definitions:
    """Assets, the job named like the pipeline, and its schedule when it has one."""
    assets = [discovery_asset(pipeline), raw_assets(pipeline), transform_assets(pipeline)]
    job = dg.define_asset_job(
        pipeline.name,
        selection=dg.AssetSelection.assets(*assets),
        partitions_def=tenants,
        description=pipeline.description,
        executor_def=dg.in_process_executor,
    )
    return dg.Definitions(assets=assets, jobs=[job], schedules=_schedules(pipeline))


def _schedules(pipeline: Pipeline) -> list[dg.ScheduleDefinition]:
    if pipeline.schedule is None:
        return []

    @dg.schedule(
        name=f"{pipeline.name}_schedule",
        job_name=pipeline.name,
        cron_schedule=pipeline.schedule.cron,
        execution_timezone=pipeline.schedule.timezone,
        default_status=dg.DefaultScheduleStatus[pipeline.schedule.default_status.upper()],
        description=f"Starts {pipeline.name} for every active tenant that is not being synced already.",
    )
    def every_tenant(context: dg.ScheduleEvaluationContext, platform: Platform) -> Iterator[dg.RunRequest]:
        busy = {
            run.tags.get(PARTITION_TAG)
            for run in context.instance.get_runs(
                dg.RunsFilter(job_name=pipeline.name, statuses=[*IN_PROGRESS_RUN_STATUSES, dg.DagsterRunStatus.QUEUED])
            )
        }
        registered = set(context.instance.get_dynamic_partitions(tenants.name or ""))
        for tenant in platform.catalog.tenants.list():
            if tenant.key in registered and tenant.key not in busy:
                yield dg.RunRequest(
                    run_key=f"{context.scheduled_execution_time:%Y%m%dT%H%M}:{tenant.key}", partition_key=tenant.key
                )

    return [every_tenant]
