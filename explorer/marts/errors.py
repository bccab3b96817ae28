"""What can go wrong with dbt as a whole? Failures of single models are results."""

from explorer.core.errors import ExplorerError


class TransformFailed(ExplorerError):
    """dbt could not start or was not able to finish. Failures of single models are results, not this error."""

    code = "transform_failed"


class DbtProjectMissing(ExplorerError):
    """The folder of the dbt project is missing."""

    code = "dbt_project_missing"
