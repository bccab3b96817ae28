"""In which ways a load can fail that are not the API's (those are in `explorer_dagster.commcare.errors`)."""

from explorer_dagster.errors import ExplorerError, TransientError


class LoadInProgress(TransientError):
    """Another process is loading the same tenant."""

    code = "load_in_progress"


class LoadFailed(TransientError):
    """What was read could not be written; the tables are as they were."""

    code = "load_failed"


class ResourceUnknownToPipeline(ExplorerError):
    """A resource was asked for that the pipeline does not have."""

    code = "resource_unknown"
