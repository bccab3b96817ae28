"""What does a raw table look like?"""

from collections.abc import Mapping
from dataclasses import dataclass

from explorer.contract.bookkeeping import rejected
from explorer.registry import Source

# Beside the typed keys: what every raw table has. `_deleted_at` is set when a record is gone, never by its row.
RECORD_COLUMN = "record"
PROVENANCE_COLUMNS = ("_run_id", "_loaded_at", "_page", "_content_hash")
DELETED_COLUMN = "_deleted_at"


@dataclass(frozen=True)
class RawTable:
    """A raw table. `columns`: the loaded ones before provenance, to their kinds (`KeyType`, or `json`); `cursor`: the column that
    tells the newer of two versions."""

    name: str
    source: str
    key: str
    columns: Mapping[str, str]
    cursor: str | None = None

    @classmethod
    def of_source(cls, source: Source) -> "RawTable":
        """The table of a source of the pipeline."""
        columns = dict(source.keys) | {RECORD_COLUMN: "json"}
        return cls(
            source.table, source.name, source.primary_key, columns, source.cursor.field if source.cursor else None
        )

    @property
    def loaded(self) -> tuple[str, ...]:
        """Columns that COPY fills, in its order."""
        return (*self.columns, *PROVENANCE_COLUMNS)


REJECTED = RawTable(rejected.TABLE, "rejected", rejected.KEY, dict.fromkeys(rejected.COLUMNS, "text"))
