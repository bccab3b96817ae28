"""Which pipelines exist, what are they made of, and what do their tables mean? Reads and checks `pipelines/*.yml`.

Assets, jobs, schedules, the loader's requests and the bridge's `list_pipelines` all come from here; nothing else reads the files.
"""

from explorer.core.typed_yaml import Fault
from explorer.registry.keys import Keys, load_keys
from explorer.registry.loader import PipelineInvalid, load_pipeline, load_pipelines
from explorer.registry.models import (
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
from explorer.registry.semantics import (
    Example,
    PersonalData,
    Semantics,
    SemanticsInvalid,
    load_semantics,
    parse_semantics,
)

__all__ = [
    "Cursor",
    "Discovery",
    "Example",
    "Fault",
    "ForEach",
    "Keys",
    "Pass",
    "PersonalData",
    "Pipeline",
    "PipelineInvalid",
    "Relationship",
    "Schedule",
    "Semantics",
    "SemanticsInvalid",
    "Source",
    "Transforms",
    "load_keys",
    "load_pipeline",
    "load_pipelines",
    "load_semantics",
    "parse_semantics",
]
