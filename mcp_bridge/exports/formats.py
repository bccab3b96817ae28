"""Rows as CSV, JSON lines or Parquet. Every format keeps each value exactly, or the export ends with an error.

Null is no empty text: an empty cell of CSV is null and `""` is empty text, as PostgreSQL writes them. Arrays and documents are
JSON in CSV, lists and JSON text in Parquet. A writer holds the rows of one row group at most.
"""

import io
import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime, time
from decimal import Context, Decimal, Inexact, InvalidOperation
from typing import Any, Literal, Protocol

import msgspec
import pyarrow as pa
import pyarrow.parquet as pq

from explorer.core.errors import ExplorerError
from mcp_bridge.answers.envelope import compact_json
from mcp_bridge.sql import StreamedColumn

Format = Literal["csv", "csv_exact", "jsonl", "parquet"]
Rows = Sequence[tuple[str | None, ...]]
# File name extension and media type.
KINDS: dict[str, tuple[str, str]] = {
    "csv": ("csv", "text/csv; charset=utf-8; header=present"),
    "csv_exact": ("csv", "text/csv; charset=utf-8; header=present"),
    "jsonl": ("jsonl", "application/x-ndjson"),
    "parquet": ("parquet", "application/vnd.apache.parquet"),
}
# The key of a Parquet file's metadata under which its provenance stands, as JSON.
PROVENANCE_KEY = b"explorer.provenance"
# What spreadsheets take for the beginning of a formula (OWASP, CSV injection), the wide forms of East Asian fonts too.
_FORMULA = re.compile("[=+\\-@\t\r\n\uff1d\uff0b\uff0d\uff20]")
_SPECIAL = re.compile('[",\r\n]')
_NUMBER = re.compile(r"-?\d+(?:\.\d+)?(?:[eE][+-]?\d+)?")
_INSTANT = re.compile(r"(\d{4,}-\d\d-\d\d) (\d\d:\d\d:\d\d(?:\.\d+)?)(\+00)?")
_GROUP_BYTES = 8 * 1024 * 1024
# PostgreSQL's numeric has no limit. 18 digits before the point and 20 after it hold sums of bigint and averages.
_NUMERIC = (38, 20)
# How reading a value, or handing it to Arrow, fails.
_MISFITS = (ValueError, ArithmeticError, pa.ArrowException)
_TEXTS = frozenset({"text", "varchar", "bpchar", "name", "char", "xml", ""})


class ValueNotExact(ExplorerError):
    """The format has no exact form of a value."""

    code = "value_not_exact"


class Writer(Protocol):
    """Makes a file of rows. `formulas`: number of cells that a spreadsheet would have taken for a formula, and that were
    changed."""

    formulas: int

    def begin(self) -> bytes:
        """The beginning of the file."""

    def add(self, rows: Rows) -> bytes:
        """The next part of the file. Raises: ValueNotExact."""

    def end(self) -> bytes:
        """The rest of the file."""


def unique_names(columns: Sequence[StreamedColumn]) -> list[str]:
    """The columns' names, later ones of the same name numbered: readers of files know columns by name."""
    names: list[str] = []
    taken = {column.name for column in columns}
    for column in columns:
        name, number = column.name, 1
        while name in names or (number > 1 and name in taken):
            number += 1
            name = f"{column.name}_{number}"
        names.append(name)
    return names


def writer(format_: str, columns: Sequence[StreamedColumn], provenance: Mapping[str, Any]) -> Writer:
    """A writer of that format. `provenance` is written into Parquet; the other formats have no place for it."""
    if format_ == "parquet":
        return _Parquet(columns, provenance)
    if format_ == "jsonl":
        return _JsonLines(columns)
    return _Csv(columns, escapes=format_ == "csv")


class _Csv:
    """RFC 4180 in UTF-8. `escapes`: texts of the source that a spreadsheet would run as a formula begin with `'`."""

    def __init__(self, columns: Sequence[StreamedColumn], *, escapes: bool) -> None:
        self._names, self.formulas = unique_names(columns), 0
        self._escapes = escapes
        # Numbers and times that begin with a sign are no formulas.
        self._texts = [column.base in _TEXTS and not column.is_array for column in columns]
        self._instants = [column.base in ("timestamp", "timestamptz") and not column.is_array for column in columns]
        self._booleans = [column.base == "bool" and not column.is_array for column in columns]

    def begin(self) -> bytes:
        return self._lines([[self._safe(name) for name in self._names]])

    def add(self, rows: Rows) -> bytes:
        return self._lines([[self._cell(value, n) for n, value in enumerate(row)] for row in rows])

    def end(self) -> bytes:
        return b""

    def _cell(self, value: str | None, column: int) -> str | None:
        if value is None or value == "":
            return value
        if self._texts[column]:
            return self._safe(value)
        if self._instants[column]:
            return _instant_text(value)
        if self._booleans[column]:
            return "true" if value == "t" else "false"
        return value

    def _safe(self, value: str) -> str:
        if self._escapes and _FORMULA.match(value):
            self.formulas += 1
            return f"'{value}"
        return value

    def _lines(self, rows: list[list[str | None]]) -> bytes:
        return "".join(",".join(map(_quoted, row)) + "\r\n" for row in rows).encode()


def _quoted(value: str | None) -> str:
    if value is None:
        return ""
    if value and not _SPECIAL.search(value):
        return value
    return '"' + value.replace('"', '""') + '"'


class _JsonLines:
    """One object per line. Numbers have all their digits, so that a reader of doubles may lose some; NaN and infinities are
    texts."""

    formulas = 0

    def __init__(self, columns: Sequence[StreamedColumn]) -> None:
        self._keys = [compact_json(name) + ":" for name in unique_names(columns)]
        self._values = [_json_of(column) for column in columns]

    def begin(self) -> bytes:
        return b""

    def add(self, rows: Rows) -> bytes:
        return "".join(self._line(row) for row in rows).encode("utf-8", "surrogatepass")

    def end(self) -> bytes:
        return b""

    def _line(self, row: tuple[str | None, ...]) -> str:
        parts = (
            key + ("null" if value is None else write(value))
            for key, write, value in zip(self._keys, self._values, row, strict=True)
        )
        return "{" + ",".join(parts) + "}\n"


def _json_of(column: StreamedColumn) -> Callable[[str], str]:
    """How a value of the column is written in JSON."""
    if column.is_array or column.base in ("", "json", "jsonb"):
        # Outside of strings, where they are escaped, line breaks are only blanks.
        return lambda text: text.replace("\n", " ").replace("\r", " ")
    if column.base in _NUMBERS:
        return lambda text: text if _NUMBER.fullmatch(text) else compact_json(text)
    if column.base == "bool":
        return lambda text: "true" if text == "t" else "false"
    if column.base in ("timestamp", "timestamptz"):
        return lambda text: compact_json(_instant_text(text))
    return compact_json


def _instant_text(text: str) -> str:
    """ISO-8601. `infinity` and years before Christ stay as PostgreSQL writes them."""
    found = _INSTANT.fullmatch(text)
    return f"{found[1]}T{found[2]}{'+00:00' if found[3] else ''}" if found else text


class _Parquet:
    """Row groups of some megabytes, each compressed for itself."""

    formulas = 0

    def __init__(self, columns: Sequence[StreamedColumn], provenance: Mapping[str, Any]) -> None:
        names = unique_names(columns)
        self._columns = [_ParquetColumn.of_column(name, column) for name, column in zip(names, columns, strict=True)]
        fields = [
            pa.field(each.name, each.type, metadata={"postgres_type": column.type})
            for each, column in zip(self._columns, columns, strict=True)
        ]
        metadata = {PROVENANCE_KEY: compact_json(dict(provenance)).encode("utf-8", "replace")}
        self._schema = pa.schema(fields, metadata=metadata)
        self._out = _Out()
        self._held: list[tuple[str | None, ...]] = []
        self._held_bytes = 0
        self._writer: pq.ParquetWriter | None = None

    def begin(self) -> bytes:
        self._writer = pq.ParquetWriter(self._out, self._schema, compression="zstd")
        return self._out.take()

    def add(self, rows: Rows) -> bytes:
        self._held += rows
        self._held_bytes += sum(len(cell) + 8 for row in rows for cell in row if cell is not None)
        return self._written() if self._held_bytes >= _GROUP_BYTES else b""

    def end(self) -> bytes:
        rest = self._written()
        if self._writer is not None:
            self._writer.close()
        return rest + self._out.take()

    def _written(self) -> bytes:
        if self._held and self._writer is not None:
            arrays = [column.array([row[number] for row in self._held]) for number, column in enumerate(self._columns)]
            held, self._held, self._held_bytes = len(self._held), [], 0
            table = pa.Table.from_arrays(arrays, schema=self._schema) if arrays else None
            if table is not None:
                self._writer.write_table(table, row_group_size=held)
        return self._out.take()


class _Out(io.RawIOBase):
    """What pyarrow writes into; it asks where it is."""

    def __init__(self) -> None:
        super().__init__()
        self._parts: list[bytes] = []
        self._written = 0

    def writable(self) -> bool:
        return True

    def write(self, data: Any) -> int:
        part = bytes(data)
        self._parts.append(part)
        self._written += len(part)
        return len(part)

    def tell(self) -> int:
        return self._written

    def take(self) -> bytes:
        """What was written since the last time."""
        parts, self._parts = self._parts, []
        return b"".join(parts)


@dataclass(frozen=True)
class _ParquetColumn:
    """A column of the file. `read`: makes a value of PostgreSQL's text."""

    name: str
    type: pa.DataType
    read: Callable[[str], Any]
    of: StreamedColumn

    @classmethod
    def of_column(cls, name: str, column: StreamedColumn) -> "_ParquetColumn":
        type_, read = _parquet_type(column)
        if column.is_array:
            elements = _element_reader(column.base, read)

            def read_list(text: str) -> Any:
                found = msgspec.json.decode(text, type=list[Any]) if column.base not in _NUMBERS else _exact_list(text)
                if any(isinstance(each, list) for each in found):
                    raise ValueError("an array of arrays")
                return [None if each is None else elements(each) for each in found]

            return cls(name, pa.list_(type_), read_list, column)
        return cls(name, type_, read, column)

    def array(self, values: list[str | None]) -> pa.Array:
        """The values as Arrow holds them. Raises: ValueNotExact."""
        read = self.read
        try:
            return pa.array([None if value is None else read(value) for value in values], type=self.type)
        except _MISFITS:
            misfit = next((value for value in values if value is not None and not self._fits(value)), "")
        raise ValueNotExact(
            f"Parquet has no exact form for a value of {self.name} ({self.of.type}): {misfit[:40]!r}.",
            next_step="Cast the column, such as to text, double precision or numeric(38, 10), or export as csv or jsonl.",
            details={"column": self.name},
        )

    def _fits(self, value: str) -> bool:
        try:
            pa.array([self.read(value)], type=self.type)
        except _MISFITS:
            return False
        return True


def _exact_list(text: str) -> list[Any]:
    """A JSON list whose numbers keep their digits."""
    found = json.loads(text, parse_int=str, parse_float=str)
    return found if isinstance(found, list) else [found]


def _element_reader(base: str, read: Callable[[str], Any]) -> Callable[[Any], Any]:
    """The same for elements of arrays, which come as JSON."""
    if base in _NUMBERS:
        return read
    if base == "bool":
        return bool
    if base in ("json", "jsonb"):
        return compact_json
    return lambda value: read(value if isinstance(value, str) else compact_json(value))


def _parquet_type(column: StreamedColumn) -> tuple[pa.DataType, Callable[[str], Any]]:
    base = column.base
    if base == "numeric":
        precision, scale = _precision_and_scale(column.modifier)
        return pa.decimal128(precision, scale), _decimal(scale)
    if base in _PARQUET_TYPES:
        return _PARQUET_TYPES[base]
    return pa.string(), str


def _precision_and_scale(modifier: int) -> tuple[int, int]:
    """Of a numeric; one without or beyond what readers of Parquet know is held in 38 digits."""
    if modifier >= 4:
        precision, scale = (modifier - 4) >> 16 & 0xFFFF, (modifier - 4) & 0x7FF
        if scale <= precision <= _NUMERIC[0]:
            return precision, scale
    return _NUMERIC


def _decimal(scale: int) -> Callable[[str], Decimal]:
    exact = Context(prec=_NUMERIC[0], traps=[Inexact, InvalidOperation])
    unit = Decimal(1).scaleb(-scale)

    def read(text: str) -> Decimal:
        value = Decimal(text)
        if not value.is_finite():
            raise ValueError("not a finite number")
        return value.quantize(unit, context=exact)

    return read


def _instant(text: str) -> datetime:
    return datetime.fromisoformat(text)


_NUMBERS = frozenset({"int2", "int4", "int8", "oid", "float4", "float8", "numeric"})
_PARQUET_TYPES: dict[str, tuple[pa.DataType, Callable[[str], Any]]] = {
    "bool": (pa.bool_(), lambda text: text == "t"),
    "int2": (pa.int16(), int),
    "int4": (pa.int32(), int),
    "int8": (pa.int64(), int),
    "oid": (pa.uint32(), int),
    "float4": (pa.float32(), float),
    "float8": (pa.float64(), float),
    "date": (pa.date32(), date.fromisoformat),
    "time": (pa.time64("us"), time.fromisoformat),
    "timestamp": (pa.timestamp("us"), _instant),
    "timestamptz": (pa.timestamp("us", tz="UTC"), _instant),
    "bytea": (pa.binary(), lambda text: bytes.fromhex(text.removeprefix("\\x"))),
}
