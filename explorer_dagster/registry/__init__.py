"""Which pipelines exist and what each consists of: `pipelines/*.yml`, read and checked.

Assets, jobs, schedules, the loader's requests and the bridge's `list_pipelines` all come from here; nothing else reads the files.
"""

from explorer_dagster.registry.loader import PipelineInvalid, load_pipeline, load_pipelines
from explorer_dagster.registry.models import (
    Cursor,
    Discovery,
    ForEach,
    Pass,
    Pipeline,
    Relationship,
    Schedule,
    Source,
    Transforms,
)

__all__ = [
    "Cursor",
    "Discovery",
    "ForEach",
    "Pass",
    "Pipeline",
    "PipelineInvalid",
    "Relationship",
    "Schedule",
    "Source",
    "Transforms",
    "load_pipeline",
    "load_pipelines",
]
