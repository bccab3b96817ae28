"""What does a raw table look like?"""

from collections.abc import Mapping
from dataclasses import dataclass

from explorer.contract.bookkeeping import rejected
from explorer.registry import Source

# Columns of every raw table beside the typed keys. `_deleted_at` is set when a record is gone, never by COPY.
RECORD_COLUMN = "record"
PROVENANCE_COLUMNS = ("_run_id", "_loaded_at", "_page", "_content_hash")
DELETED_COLUMN = "_deleted_at"


@dataclass(frozen=True)
class RawTable:
    """A raw table. `columns`: loaded columns before provenance, with their kinds (`KeyType`, or `json`); `cursor`: the column
    that orders two versions of a row."""

    name: str
    source: str
    key: str
    columns: Mapping[str, str]
    cursor: str | None = None

    @classmethod
    def of_source(cls, source: Source) -> "RawTable":
        """The table of a pipeline's source."""
        columns = dict(source.keys) | {RECORD_COLUMN: "json"}
        return cls(
            source.table, source.name, source.primary_key, columns, source.cursor.field if source.cursor else None
        )

    @property
    def loaded(self) -> tuple[str, ...]:
        """The columns that COPY fills, in order."""
        return (*self.columns, *PROVENANCE_COLUMNS)


REJECTED = RawTable(rejected.TABLE, "rejected", rejected.KEY, dict.fromkeys(rejected.COLUMNS, "text"))
