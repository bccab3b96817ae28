"""What can go wrong with dbt as a whole? Failures of single models are results."""

from explorer.core.errors import ExplorerError


class TransformFailed(ExplorerError):
    """dbt could not start or was not able to finish. Failures of single models are results, not this error."""

    code = "transform_failed"


class TransformBusy(ExplorerError):
    """Another dbt run is in progress in this process."""

    code = "transform_busy"


def first_lines(error: BaseException | None) -> str:
    """The beginning of dbt's message, on one line."""
    return " ".join(str(error).split())[:600] if error is not None else "no reason given"
