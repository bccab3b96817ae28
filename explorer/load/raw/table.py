"""What does a raw table look like?"""

from collections.abc import Mapping
from dataclasses import dataclass

from explorer.contract.bookkeeping import rejected
from explorer.registry import Source

# Columns of every raw table beside the typed keys. `_deleted_at` is set when a record is gone, never with its row.
RECORD_COLUMN = "record"
PROVENANCE = {"_run_id": "text", "_loaded_at": "timestamp", "_page": "bigint", "_content_hash": "text"}
PROVENANCE_COLUMNS = tuple(PROVENANCE)
DELETED_COLUMN = "_deleted_at"


@dataclass(frozen=True)
class RawTable:
    """A raw table. `columns`: loaded columns before provenance, with their kinds (`KeyType`, or `json`); `cursor`: the column
    that orders two versions of a row; `by_dlt`: whether dlt writes its rows."""

    name: str
    source: str
    key: str
    columns: Mapping[str, str]
    cursor: str | None = None
    by_dlt: bool = False

    @classmethod
    def of_source(cls, source: Source) -> "RawTable":
        """The table of a pipeline's source."""
        columns = dict(source.keys) | {RECORD_COLUMN: "json"}
        cursor = source.cursor.field if source.cursor else None
        return cls(source.table, source.name, source.primary_key, columns, cursor, source.load == "dlt")

    @property
    def loaded(self) -> tuple[str, ...]:
        """The columns that a load fills, in order."""
        return (*self.columns, *PROVENANCE_COLUMNS)

    @property
    def kinds(self) -> dict[str, str]:
        """All columns with their kinds."""
        return {**self.columns, **PROVENANCE, DELETED_COLUMN: "timestamp"}


REJECTED = RawTable(rejected.TABLE, "rejected", rejected.KEY, dict.fromkeys(rejected.COLUMNS, "text"))
