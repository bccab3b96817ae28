"""How does a walked row become what COPY takes? PostgreSQL's binary form, around the record's own bytes.

It needs no quoting here and no scanning there: the server takes a quarter to a third more rows a second than as CSV. Building the
JSON again would cost more than the load. Source of the form: PostgreSQL manual, COPY, Binary Format; of the types: their `recv`
functions.
"""

import hashlib
import struct
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryFile
from typing import IO

from explorer_dagster.loading.records import Reject, Row

# Beside the typed keys: what every raw table has. `_deleted_at` is set by the merge, never by a load.
RECORD_COLUMN = "record"
PROVENANCE_COLUMNS = ("_run_id", "_loaded_at", "_page", "_content_hash")
REJECTED_COLUMNS = ("rejected_id", "resource", "reason", "record_start")
COPY_HEADER = b"PGCOPY\n\xff\r\n\x00" + bytes(8)
COPY_TRAILER = b"\xff\xff"
CHUNK_BYTES = 1024 * 1024

_REJECT_KEEPS_BYTES = 10_000
# Enough to ask the table for them; a load with more is written without asking.
_REJECT_IDS_KEPT = 10_000
_EPOCH = datetime(2000, 1, 1, tzinfo=UTC)
_count = struct.Struct(">h").pack
_length = struct.Struct(">i").pack
_eight_bytes = struct.Struct(">iq").pack
_SHORT_LENGTHS = tuple(_length(number) for number in range(256))
_NULL = _length(-1)
_BOOLEANS = {"true": b"\x00\x00\x00\x01\x01", "false": b"\x00\x00\x00\x01\x00"}


def _text(value: str) -> bytes:
    data = value.encode("utf-8", "replace")
    size = len(data)
    return (_SHORT_LENGTHS[size] if size < 256 else _length(size)) + data


def _timestamp(value: str) -> bytes:
    since = datetime.fromisoformat(value) - _EPOCH
    return _eight_bytes(8, (since.days * 86_400 + since.seconds) * 1_000_000 + since.microseconds)


_CELLS: dict[str, Callable[[str], bytes]] = {
    "text": _text,
    "boolean": _BOOLEANS.__getitem__,
    "timestamp": _timestamp,
    "bigint": lambda value: _eight_bytes(8, int(value)),
}


class RowFormat:
    """Rows of one source: the typed `keys`, the record, and where it came from."""

    def __init__(self, keys: Mapping[str, str], run_id: str, loaded_at: datetime) -> None:
        self._cells = [_CELLS[kind] for kind in keys.values()]
        self._start = _count(len(keys) + 1 + len(PROVENANCE_COLUMNS))
        self._origin = _origin(run_id, loaded_at)

    def pack(self, row: Row, page: int) -> tuple[str, bytes]:
        """The content hash of `row`, read from `page`, and the row for COPY.

        The hash covers keys too: constants of a pass are part of what is known.
        """
        json = row.json
        cells = b"".join([_NULL if key is None else cell(key) for cell, key in zip(self._cells, row.keys, strict=True)])
        digest = hashlib.blake2b(json, digest_size=16)
        digest.update(cells)
        content_hash = digest.hexdigest()
        # jsonb's first byte is the version of its form.
        return content_hash, b"".join(
            (
                self._start, cells, _length(len(json) + 1), b"\x01", json,
                self._origin, _eight_bytes(8, page), b"\x00\x00\x00\x20", content_hash.encode(),
            )
        )  # fmt: skip


class RejectFile:
    """Records of one source set aside, on disk, for COPY; the first 10,000 bytes of each are kept.

    `rows` counts them; `ids` names them as long as there are not too many, else it is None.
    """

    def __init__(self, folder: Path, run_id: str, loaded_at: datetime) -> None:
        self.rows = 0
        self.ids: list[str] | None = []
        self._folder = folder
        self._origin = _origin(run_id, loaded_at)
        self._file: IO[bytes] | None = None

    def write(self, resource: str, reject: Reject, page: int) -> None:
        """Add a reject of `resource`, read from `page`; the same record has the same id in every load."""
        if self._file is None:
            self._file = TemporaryFile(dir=self._folder)  # noqa: SIM115
        digest = hashlib.blake2b(reject.json, digest_size=16, person=b"reject")
        digest.update(resource.encode())
        identity = digest.hexdigest()
        start = reject.json[:_REJECT_KEEPS_BYTES].decode("utf-8", "replace").replace("\x00", "\ufffd")
        cells = [_text(cell) for cell in (identity, resource, reject.reason, start)]
        count = _count(len(cells) + len(PROVENANCE_COLUMNS))
        self._file.write(b"".join((count, *cells, self._origin, _eight_bytes(8, page), _text(identity))))
        self.rows += 1
        if self.ids is not None:
            self.ids.append(identity)
        if self.rows > _REJECT_IDS_KEPT:
            self.ids = None

    def chunks(self) -> Iterator[bytes]:
        """What was written, from its beginning."""
        if self._file:
            self._file.seek(0)
            while chunk := self._file.read(CHUNK_BYTES):
                yield chunk

    def close(self) -> None:
        """Forget what was written."""
        if self._file:
            self._file.close()


def _origin(run_id: str, loaded_at: datetime) -> bytes:
    return _text(run_id) + _timestamp(loaded_at.isoformat())
