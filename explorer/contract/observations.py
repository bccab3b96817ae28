"""How far is a running step? Metadata of the observations that it stores while it works."""

from explorer.contract.records import Record


class LoadProgress(Record, frozen=True, kw_only=True):
    """Progress of a raw table: distinct records and pages read so far, and the server's count, if it gives one."""

    rows: int | None = None
    pages: int | None = None
    expected: int | None = None


class TableProgress(Record, frozen=True, kw_only=True):
    """A table that was just built or failed. `state`: as in `materializations.ListedTable.status`."""

    table: str | None = None
    state: str | None = None
    rows: int | None = None
