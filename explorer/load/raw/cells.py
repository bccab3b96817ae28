"""What is a value in PostgreSQL's binary format, for COPY and array parameters?

Binary needs no quoting and no parsing: the server takes a quarter to a third more rows a second than as CSV. Source of the
format: PostgreSQL manual, COPY, Binary Format; of the types: their `recv` functions.
"""

import struct
from collections.abc import Callable, Collection, Iterable
from datetime import UTC, datetime
from typing import Any, ClassVar

import psycopg
from psycopg.adapt import Dumper
from psycopg.pq import Format

COPY_HEADER = b"PGCOPY\n\xff\r\n\x00" + bytes(8)
COPY_TRAILER = b"\xff\xff"

_EPOCH = datetime(2000, 1, 1, tzinfo=UTC)
_array_head = struct.Struct(">iiIii").pack
field_count = struct.Struct(">h").pack
cell_length = struct.Struct(">i").pack
eight_byte_cell = struct.Struct(">iq").pack
_SHORT_LENGTHS = tuple(cell_length(number) for number in range(256))
_NULL = cell_length(-1)
_BOOLEANS = {None: _NULL, True: b"\x00\x00\x00\x01\x01", False: b"\x00\x00\x00\x01\x00"}


def text_cell(value: str | None) -> bytes:
    if value is None:
        return _NULL
    data = value.encode("utf-8", "replace")
    size = len(data)
    return (_SHORT_LENGTHS[size] if size < 256 else cell_length(size)) + data


def timestamp_cells(values: Iterable[datetime | None]) -> list[bytes]:
    # Without a function call per value and without a division of timedeltas: two thirds of the time.
    return [
        _NULL
        if since is None
        else eight_byte_cell(8, (since.days * 86400 + since.seconds) * 1_000_000 + since.microseconds)
        for since in [None if value is None else value - _EPOCH for value in values]
    ]


def _booleans(values: Iterable[bool | None]) -> Iterable[bytes]:
    return map(_BOOLEANS.__getitem__, values)


def _bigints(values: Iterable[int | None]) -> list[bytes]:
    return [_NULL if value is None else eight_byte_cell(8, value) for value in values]


def _texts(values: Iterable[str | None]) -> Iterable[bytes]:
    return map(text_cell, values)


# Packs a column's values, by its kind.
CELLS: dict[str, Callable[[Iterable[Any]], Iterable[bytes]]] = {
    "text": _texts, "boolean": _booleans, "timestamp": timestamp_cells, "bigint": _bigints,
}  # fmt: skip


class PackedArray:
    """An array parameter in binary format: psycopg's own dumpers take ten times as long for thousands of values. Use a subclass.

    Object ids are those of PostgreSQL's catalog, pg_type.dat.
    """

    kind: ClassVar[str]
    oid: ClassVar[int]
    element_oid: ClassVar[int]

    def __init__(self, values: Collection[Any]) -> None:
        # Header: one dimension, nulls allowed, element type, length, lower bound 1.
        head = _array_head(1, 1, self.element_oid, len(values), 1)
        self.data = head + b"".join(CELLS[self.kind](values))


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
