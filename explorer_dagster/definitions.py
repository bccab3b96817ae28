"""The Dagster code location `explorer`: the table of contents of everything that Dagster runs."""

import dagster as dg

from explorer.core.settings import get_settings
from explorer.providers import faults_of
from explorer.registry import load_pipelines
from explorer_dagster.pipelines import pipeline_definitions
from explorer_dagster.resources import Platform
from explorer_dagster.sensors import tenant_registration, throttled_runs

_pipelines = [
    pipeline_definitions(pipeline)
    for pipeline in load_pipelines(get_settings().project_dir / "pipelines", faults_of).values()
]

defs = dg.Definitions.merge(
    *_pipelines,
    dg.Definitions(
        sensors=[tenant_registration, throttled_runs([job for each in _pipelines for job in each.jobs or []])],
        resources={"platform": Platform()},
        executor=dg.in_process_executor,
    ),
)
