"""The Dagster code location `explorer`: the table of contents of everything that Dagster runs."""

import dagster as dg

from explorer.core.settings import get_settings
from explorer.providers import faults_of, provider_named
from explorer.registry import Pipeline, load_pipelines
from explorer_dagster.assets.discovery import discovery_assets
from explorer_dagster.assets.loading import raw_assets
from explorer_dagster.assets.transforms import transform_assets
from explorer_dagster.jobs import sync_job
from explorer_dagster.resources import Platform
from explorer_dagster.schedules import schedules
from explorer_dagster.sensors import tenant_registration, throttled_runs


def _of_pipeline(pipeline: Pipeline) -> dg.Definitions:
    provider = provider_named(pipeline.provider)
    assets = [
        *discovery_assets(pipeline, provider),
        raw_assets(pipeline, provider),
        *transform_assets(pipeline, provider),
    ]
    return dg.Definitions(assets=assets, jobs=[sync_job(pipeline, assets)], schedules=schedules(pipeline))


def _all() -> dg.Definitions:
    pipelines = load_pipelines(get_settings().project_dir / "pipelines", faults_of).values()
    of_pipelines = dg.Definitions.merge(*map(_of_pipeline, pipelines))
    titles = {provider_named(pipeline.provider).title for pipeline in pipelines}
    platform = dg.Definitions(
        sensors=[tenant_registration, throttled_runs(list(of_pipelines.jobs or []), titles)],
        resources={"platform": Platform()},
        executor=dg.in_process_executor,
    )
    return dg.Definitions.merge(of_pipelines, platform)


# Dagster loads the only Definitions object of this module.
defs = _all()
