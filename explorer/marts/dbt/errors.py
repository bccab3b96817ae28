"""What can go wrong with dbt as a whole; what fails in a single model is a result."""

from explorer.core.errors import ExplorerError


class TransformFailed(ExplorerError):
    """dbt could not begin or did not come to an end; failures of single models are results, not this."""

    code = "transform_failed"


class TransformBusy(ExplorerError):
    """Another run of dbt is under way in this process."""

    code = "transform_busy"


def first_lines(error: BaseException | None) -> str:
    """The beginning of dbt's message, on one line."""
    return " ".join(str(error).split())[:600] if error is not None else "no reason given"
