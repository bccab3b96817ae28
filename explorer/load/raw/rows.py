"""How does an extracted row become input for COPY? The record's own bytes between packed cells.

Encoding the JSON again would cost more than the load.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import UTC, datetime
from functools import lru_cache, partial
from typing import TypeVar

import msgspec
from xxhash import xxh3_128_hexdigest

from explorer.extract.records.reader import Row
from explorer.load.raw.cells import CELLS, cell_length, eight_byte_cell, field_count, text_cell, timestamp_cells
from explorer.load.raw.table import PROVENANCE_COLUMNS

CHUNK_BYTES = 1024 * 1024

_TEXTS_CACHED = 4096
_BEFORE_ALL = datetime.min.replace(tzinfo=UTC)


class RowVersion(msgspec.Struct, frozen=True, gc=False):
    """What identifies a version of a row. `content_hash` covers keys too, since constants of a pass are part of the content."""

    id: str
    cursor: datetime | None
    page: int
    content_hash: str

    @property
    def version(self) -> tuple[datetime, int]:
        """Of two rows with one id the higher version stays: the later cursor, then the one read last."""
        return (self.cursor or _BEFORE_ALL, self.page)

    @property
    def size(self) -> int:
        """Bytes of memory for the row's content; none while that waits on disk."""
        return 0


class PackedRow(RowVersion, frozen=True, gc=False):
    """A row as COPY takes it."""

    data: bytes

    @property
    def size(self) -> int:
        return len(self.data)


AnyRow = TypeVar("AnyRow", bound=RowVersion)
# Packs the rows of a page, whose number it gets.
Pack = Callable[[Sequence[Row], int], list[AnyRow]]


def keep_newest(newest: dict[str, AnyRow], rows: Iterable[AnyRow]) -> None:
    """Add `rows` to `newest`, by id. The highest version stays; of equal versions the last."""
    for row in rows:
        before = newest.get(row.id)
        if before is None or row.version >= before.version:
            newest[row.id] = row


class RowFormat:
    """The binary format of one source's rows: the typed `keys`, the record, and its origin."""

    def __init__(self, keys: Mapping[str, str], primary_key: str, run_id: str, loaded_at: datetime) -> None:
        # Texts other than keys (types, owners) repeat: their cells are cached.
        repeating = partial(map, lru_cache(_TEXTS_CACHED)(text_cell))
        self._cells = [
            repeating if kind == "text" and column != primary_key else CELLS[kind] for column, kind in keys.items()
        ]
        self._start = field_count(len(keys) + 1 + len(PROVENANCE_COLUMNS))
        self._origin = provenance_start(run_id, loaded_at)

    def pack(self, rows: Sequence[Row], page: int) -> list[PackedRow]:
        """Pack `rows`, read from `page`, for COPY."""
        if not rows:
            return []
        start = self._start
        # The hash is the last cell: 32 characters of text.
        end = b"".join((self._origin, eight_byte_cell(8, page), b"\x00\x00\x00\x20"))
        # Column by column, without a Python call per cell.
        columns = zip(*[row.keys for row in rows], strict=True)
        cells = [made(column) for made, column in zip(self._cells, columns, strict=True)]
        packed = []
        for row, keys in zip(rows, map(b"".join, zip(*cells, strict=True)), strict=True):
            json = row.json
            content_hash = xxh3_128_hexdigest(json + keys)
            # jsonb's first byte is its format version.
            data = b"".join((start, keys, cell_length(len(json) + 1), b"\x01", json, end, content_hash.encode()))
            packed.append(PackedRow(row.id, row.cursor, page, content_hash, data))
        return packed


def provenance_start(run_id: str, loaded_at: datetime) -> bytes:
    """The cells that all rows of a load share."""
    return b"".join((text_cell(run_id), *timestamp_cells([loaded_at])))
