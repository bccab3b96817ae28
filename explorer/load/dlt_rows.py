"""In which form do rows go to dlt, so that every value stays as it came? As lines of an `insert_values` file.

dlt imports such a file as it is. Of rows of Python values it would write its own, and numbers beyond a float would change; from
CSV, its other format for PostgreSQL, an empty text comes out as NULL. The lines wait on disk, since only rows that differ are
loaded, and which these are is known at the extract's end.
"""

from collections.abc import Iterable, Sequence
from datetime import datetime
from pathlib import Path
from tempfile import SpooledTemporaryFile
from typing import Any

from explorer.extract.records.reader import Row
from explorer.load.raw.rows import RowFormat, RowVersion
from explorer.load.raw.table import RawTable

_MEMORY_BYTES = 1024 * 1024
_ESCAPES = str.maketrans({"\\": r"\\", "'": r"\'", "\n": r"\n", "\r": r"\r"})


class WaitingRow(RowVersion, frozen=True, gc=False):
    """A row whose line begins at `start` of the file and has `length` bytes."""

    start: int
    length: int


class WaitingRows:
    """The rows of one source until dlt imports those that differ. `row_format`: gives them their content hash."""

    def __init__(self, table: RawTable, row_format: RowFormat, folder: Path, run_id: str, loaded_at: datetime) -> None:
        self.table = table
        self._format = row_format
        self._origin = (run_id, loaded_at)
        self._file = SpooledTemporaryFile(_MEMORY_BYTES, dir=str(folder))  # noqa: SIM115

    def pack(self, rows: Sequence[Row], page: int) -> list[WaitingRow]:
        """Keep `rows`, read from `page`."""
        return [
            WaitingRow(each.id, each.cursor, page, each.content_hash, *self._keep(row, page, each.content_hash))
            for row, each in zip(rows, self._format.pack(rows, page), strict=True)
        ]

    def write(self, path: Path, rows: Iterable[WaitingRow]) -> None:
        """Write the file that dlt imports, of at least one row."""
        columns = ",".join(f'"{column}"' for column in self.table.loaded)
        with path.open("wb") as file:
            before = f"INSERT INTO {{}}({columns})\nVALUES\n".encode()
            for row in rows:
                self._file.seek(row.start)
                file.write(before + self._file.read(row.length))
                before = b",\n"
            file.write(b";")

    def close(self) -> None:
        """Delete the content."""
        self._file.close()

    def _keep(self, row: Row, page: int, content_hash: str) -> tuple[int, int]:
        values = (*row.keys, row.json.decode(), *self._origin, page, content_hash)
        line = f"({','.join(map(literal, values))})".encode("utf-8", "replace")
        start = self._file.tell()
        self._file.write(line)
        return start, len(line)


def literal(value: Any) -> str:
    """A key's value, or a text, as SQL without a line break."""
    match value:
        case None:
            return "NULL"
        case str():
            return f"E'{value.translate(_ESCAPES)}'"
        case datetime():
            return f"'{value.isoformat()}'"
    return str(value)
