"""The Dagster code location `explorer`: everything that Dagster runs."""

import dagster as dg

from explorer.core.settings import get_settings
from explorer.providers import faults_of, provider_named
from explorer.registry import load_pipelines
from explorer_dagster.alerts.sensor import alerts
from explorer_dagster.launch.run_log import run_log
from explorer_dagster.pipelines import definitions_of, version_of
from explorer_dagster.provisioning import provisioning
from explorer_dagster.resources import Platform
from explorer_dagster.turns.maintenance import maintenance
from explorer_dagster.turns.outcomes import run_outcomes
from explorer_dagster.turns.sensors import tenant_registration, throttled_runs


def _all() -> dg.Definitions:
    pipelines = list(load_pipelines(get_settings().project_dir / "pipelines", faults_of).values())
    of_pipelines = dg.Definitions.merge(*map(definitions_of, pipelines))
    titles = {provider_named(pipeline.provider).title for pipeline in pipelines}
    platform = dg.Definitions(
        jobs=[provisioning],
        sensors=[
            tenant_registration,
            throttled_runs(list(of_pipelines.jobs or []), titles),
            run_outcomes({pipeline.name: version_of(pipeline) for pipeline in pipelines}),
            alerts(pipelines),
        ],
        resources={"platform": Platform()},
        executor=dg.in_process_executor,
        loggers={"console": run_log},
    )
    return dg.Definitions.merge(of_pipelines, maintenance(), platform)


# Dagster loads the only Definitions object of this module.
defs = _all()
