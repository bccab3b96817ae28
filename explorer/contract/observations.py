"""How far a running step is: metadata of the observations that it stores while it works."""

from explorer.contract.records import Record


class LoadProgress(Record, frozen=True, kw_only=True):
    """Of a raw table: distinct records and pages read so far, and how many the server counts, if it says."""

    rows: int | None = None
    pages: int | None = None
    expected: int | None = None


class TableProgress(Record, frozen=True, kw_only=True):
    """Of a table that was just built, or could not be. `state`: as in `materializations.ListedTable.status`."""

    table: str | None = None
    state: str | None = None
    rows: int | None = None
