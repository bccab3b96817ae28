"""In which ways can a load fail apart from the API's errors (`explorer.http.errors`)?"""

from typing import Self

from explorer.core.errors import ExplorerError, TransientError

_DISK_FULL = "53100"


class LoadFailed(TransientError):
    """The extracted rows could not be written; the tables are unchanged."""

    code = "load_failed"

    @classmethod
    def because_of(cls, error: BaseException) -> Self:
        """Wraps an error of dlt or the database, without connection strings or row contents."""
        cause = error
        while cause.__cause__ is not None:
            cause = cause.__cause__
        sqlstate = getattr(cause, "sqlstate", None) or getattr(cause, "pgcode", None)
        first_line = str(cause).strip().splitlines()[0] if str(cause).strip() else type(cause).__name__
        return cls(
            f"The data could not be written: {first_line[:300]}",
            next_step="No table is half changed. "
            + (
                "Make room on the database's disk, then try again."
                if sqlstate == _DISK_FULL or "No space left" in first_line
                else "Try again; the database's log tells more."
            ),
            details={"sqlstate": sqlstate} if sqlstate else {},
        )


class ResourceUnknownToPipeline(ExplorerError):
    """The pipeline has no such resource."""

    code = "resource_unknown"
