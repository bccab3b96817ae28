"""How does a walked row become what COPY takes? PostgreSQL's binary form, around the record's own bytes.

It needs no quoting here and no scanning there: the server takes a quarter to a third more rows a second than as CSV. Building the
JSON again would cost more than the load. Source of the form: PostgreSQL manual, COPY, Binary Format; of the types: their `recv`
functions.
"""

import struct
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from functools import lru_cache, partial
from hashlib import blake2b
from pathlib import Path
from tempfile import TemporaryFile
from typing import IO, Any, ClassVar

import msgspec
import psycopg
from psycopg.adapt import Dumper
from psycopg.pq import Format
from xxhash import xxh3_128_hexdigest

from explorer.extract.records import Reject, Row

# Beside the typed keys: what every raw table has. `_deleted_at` is set by the merge, never by a load.
RECORD_COLUMN = "record"
PROVENANCE_COLUMNS = ("_run_id", "_loaded_at", "_page", "_content_hash")
COPY_HEADER = b"PGCOPY\n\xff\r\n\x00" + bytes(8)
COPY_TRAILER = b"\xff\xff"
CHUNK_BYTES = 1024 * 1024

_REJECT_KEEPS_BYTES = 10_000
# Enough to ask the table for them; a load with more is written without asking.
_REJECT_IDS_KEPT = 10_000
_TEXTS_KEPT = 4096
_EPOCH = datetime(2000, 1, 1, tzinfo=UTC)
_BEFORE_ALL = datetime.min.replace(tzinfo=UTC)
_array_head = struct.Struct(">iiIii").pack
_count = struct.Struct(">h").pack
_length = struct.Struct(">i").pack
_eight_bytes = struct.Struct(">iq").pack
_SHORT_LENGTHS = tuple(_length(number) for number in range(256))
_NULL = _length(-1)
_BOOLEANS = {None: _NULL, True: b"\x00\x00\x00\x01\x01", False: b"\x00\x00\x00\x01\x00"}


def _text(value: str | None) -> bytes:
    if value is None:
        return _NULL
    data = value.encode("utf-8", "replace")
    size = len(data)
    return (_SHORT_LENGTHS[size] if size < 256 else _length(size)) + data


def _timestamps(values: Iterable[datetime | None]) -> list[bytes]:
    # Without a call for each, and without dividing one timedelta by another, it takes two thirds of the time.
    return [
        _NULL
        if since is None
        else _eight_bytes(8, (since.days * 86400 + since.seconds) * 1_000_000 + since.microseconds)
        for since in [None if value is None else value - _EPOCH for value in values]
    ]


def _booleans(values: Iterable[bool | None]) -> Iterable[bytes]:
    return map(_BOOLEANS.__getitem__, values)


def _bigints(values: Iterable[int | None]) -> list[bytes]:
    return [_NULL if value is None else _eight_bytes(8, value) for value in values]


def _texts(values: Iterable[str | None]) -> Iterable[bytes]:
    return map(_text, values)


# Cells of a column, by its kind.
_CELLS: dict[str, Callable[[Iterable[Any]], Iterable[bytes]]] = {
    "text": _texts, "boolean": _booleans, "timestamp": _timestamps, "bigint": _bigints,
}  # fmt: skip


class PackedRow(msgspec.Struct, frozen=True, gc=False):
    """A row as COPY takes it, `data`, and what tells it from others. `content_hash` covers keys too: constants of a pass are part
    of what is known."""

    id: str
    cursor: datetime | None
    page: int
    content_hash: str
    data: bytes

    @property
    def version(self) -> tuple[datetime, int]:
        """Of two rows with one id the one with the higher version stays: the later cursor, then the one read last."""
        return (self.cursor or _BEFORE_ALL, self.page)


def keep_newest(kept: dict[str, PackedRow], rows: Iterable[PackedRow]) -> None:
    """Add `rows` to those kept by id; of several with one id the highest version stays, of equal ones the last."""
    for row in rows:
        before = kept.get(row.id)
        if before is None or row.version >= before.version:
            kept[row.id] = row


class RowFormat:
    """Rows of one source: the typed `keys`, the record, and where it came from."""

    def __init__(self, keys: Mapping[str, str], primary_key: str, run_id: str, loaded_at: datetime) -> None:
        # Other texts than keys (types, owners) come again and again.
        repeating = partial(map, lru_cache(_TEXTS_KEPT)(_text))
        self._cells = [
            repeating if kind == "text" and column != primary_key else _CELLS[kind] for column, kind in keys.items()
        ]
        self._start = _count(len(keys) + 1 + len(PROVENANCE_COLUMNS))
        self._origin = _origin(run_id, loaded_at)

    def pack(self, rows: Sequence[Row], page: int) -> list[PackedRow]:
        """`rows`, read from `page`, for COPY."""
        if not rows:
            return []
        start = self._start
        # The hash is the last cell: 32 characters of text.
        end = b"".join((self._origin, _eight_bytes(8, page), b"\x00\x00\x00\x20"))
        # Column by column, which has no frame of Python's for each cell.
        columns = zip(*[row.keys for row in rows], strict=True)
        cells = [made(column) for made, column in zip(self._cells, columns, strict=True)]
        packed = []
        for row, keys in zip(rows, map(b"".join, zip(*cells, strict=True)), strict=True):
            json = row.json
            content_hash = xxh3_128_hexdigest(json + keys)
            # jsonb's first byte is the version of its form.
            data = b"".join((start, keys, _length(len(json) + 1), b"\x01", json, end, content_hash.encode()))
            packed.append(PackedRow(row.id, row.cursor, page, content_hash, data))
        return packed


class PackedArray:
    """An array parameter in binary form: psycopg's own dumpers take ten times as long over thousands of values. Use a subclass.

    Object ids are those of PostgreSQL's catalog, pg_type.dat.
    """

    kind: ClassVar[str]
    oid: ClassVar[int]
    element_oid: ClassVar[int]

    def __init__(self, values: Collection[Any]) -> None:
        # One dimension, nulls allowed, the elements' type, how many, from 1.
        head = _array_head(1, 1, self.element_oid, len(values), 1)
        self.data = head + b"".join(_CELLS[self.kind](values))


class TextArray(PackedArray):
    """text[]"""

    kind, oid, element_oid = "text", 1009, 25


class TimestampArray(PackedArray):
    """timestamptz[]; datetimes with a zone."""

    kind, oid, element_oid = "timestamp", 1185, 1184


class BigintArray(PackedArray):
    """bigint[]"""

    kind, oid, element_oid = "bigint", 1016, 20


class _ArrayDumper(Dumper):
    format = Format.BINARY

    def dump(self, obj: PackedArray) -> bytes:
        return obj.data


for _array in (TextArray, TimestampArray, BigintArray):
    psycopg.adapters.register_dumper(_array, type(f"{_array.__name__}Dumper", (_ArrayDumper,), {"oid": _array.oid}))


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
        digest = blake2b(reject.json, digest_size=16, person=b"reject")
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
    return b"".join((_text(run_id), *_timestamps([loaded_at])))
