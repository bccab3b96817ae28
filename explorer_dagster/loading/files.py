"""How do walked rows become the CSV file that the loader imports? Written page by page, never held in memory.

The record goes into the file as the server sent it, only quoted for CSV: building it again would cost more than the load.
"""

import hashlib
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Self

from explorer_dagster.loading.records import Reject, Row

# Beside the typed keys: what every raw table has. `_deleted_at` is set by the merge, never by a file.
RECORD_COLUMN = "record"
PROVENANCE_COLUMNS = ("_run_id", "_loaded_at", "_page", "_content_hash")
REJECTED_COLUMNS = ("rejected_id", "resource", "reason", "record_start")
_REJECT_KEEPS_BYTES = 10_000
_BUFFER_BYTES = 1024 * 1024


class _CsvFile:
    """A CSV file with a header, for COPY: unquoted empty is NULL, all else is quoted. `rows`: written so far."""

    def __init__(self, path: Path, columns: tuple[str, ...], run_id: str) -> None:
        self.path = path
        self.rows = 0
        self._run = _quoted(run_id.encode()) + b"," + datetime.now(UTC).isoformat().encode()
        self._file = path.open("wb", buffering=_BUFFER_BYTES)
        self._file.write(",".join(columns).encode() + b"\n")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()


class RecordFile(_CsvFile):
    """Rows of one source: its key columns, the record, and where it came from."""

    def __init__(self, path: Path, keys: tuple[str, ...], run_id: str) -> None:
        super().__init__(path, (*keys, RECORD_COLUMN, *PROVENANCE_COLUMNS), run_id)

    def write(self, row: Row, page: int) -> None:
        """Add `row`, read from `page`. The content hash covers keys too: constants of a pass are part of what is known."""
        cells = [b"" if key is None else _quoted(key.encode("utf-8", "replace")) for key in row.keys]
        digest = hashlib.blake2b(row.json, digest_size=16)
        digest.update(b",".join(cells))
        record = b'"' + row.json.replace(b'"', b'""') + b'"'
        self._file.write(b",".join((*cells, record, self._run, b"%d" % page, digest.hexdigest().encode())) + b"\n")
        self.rows += 1


class RejectFile(_CsvFile):
    """Records set aside, of all resources of a load; the first 10,000 bytes of each are kept."""

    def __init__(self, path: Path, run_id: str) -> None:
        super().__init__(path, (*REJECTED_COLUMNS, *PROVENANCE_COLUMNS), run_id)

    def write(self, resource: str, reject: Reject, page: int) -> None:
        """Add a reject of `resource`, read from `page`; the same record has the same id in every load."""
        digest = hashlib.blake2b(reject.json, digest_size=16, person=b"reject")
        digest.update(resource.encode())
        identity = digest.hexdigest().encode()
        start = reject.json[:_REJECT_KEEPS_BYTES].decode("utf-8", "replace").replace("\x00", "\ufffd")
        cells = (identity, resource.encode(), reject.reason.encode(), start.encode())
        line = (*map(_quoted, cells), self._run, b"%d" % page, identity)
        self._file.write(b",".join(line) + b"\n")
        self.rows += 1


def _quoted(value: bytes) -> bytes:
    return b'"' + value.replace(b'"', b'""') + b'"'
