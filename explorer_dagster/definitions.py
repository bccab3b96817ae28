"""The Dagster code location `explorer`: the table of contents of everything that Dagster runs."""

import dagster as dg

from explorer_dagster.orchestration.pipeline import pipeline_definitions
from explorer_dagster.orchestration.sensors import tenant_registration
from explorer_dagster.orchestration.session import Platform
from explorer_dagster.registry import load_pipelines
from explorer_dagster.settings import get_settings

defs = dg.Definitions.merge(
    *(pipeline_definitions(pipeline) for pipeline in load_pipelines(get_settings().project_dir / "pipelines").values()),
    dg.Definitions(
        sensors=[tenant_registration],
        resources={"platform": Platform()},
        executor=dg.in_process_executor,
    ),
)
