"""How are the columns of a table split over several tables, where a row might not fit a database page?

A table is continued in others with the same key. A column stays in its part; limits apply only to new columns.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import count as count_from

from msgspec.structs import replace

from explorer.tables.identifiers import short_hash
from explorer.tables.memory import ColumnMemory, TableMemory
from explorer.tables.naming import DERIVED, TABLE_MAX_BYTES, column_names
from explorer.tables.select import unfit_column
from explorer.tables.sql_text import quoted
from explorer.tables.values import UNFIT, ColumnSpec

# Postgres allows 1600 columns, and 1664 expressions in a select list, where each column may occur twice.
MAX_COLUMNS = 800
# A row must fit a page of 8 kB. If it would not, texts are stored outside, down to 24 bytes each.
MAX_ROW_BYTES = 7_500
_TEXT_BYTES = 24
_USUAL_BYTES = {"numeric": 12}
# Other types take up to as much as a text, including numbers of the greatest length.
_BYTES = {"bigint": 12, "double precision": 12, "timestamptz": 12, "time": 12, "date": 6, "boolean": 1}


@dataclass(frozen=True)
class Field:
    """The columns of one question or property, by key, with their wanted names."""

    key: str
    columns: tuple[tuple[str, str, ColumnSpec], ...]

    @property
    def wishes(self) -> list[tuple[str, str]]:
        """Column key and wanted name."""
        return [(key, wish) for key, wish, _ in self.columns]

    @property
    def width(self) -> int:
        return sum(_width(column) for _, _, column in self.columns)

    @property
    def usual_width(self) -> int:
        """The width with numbers of usual length."""
        return sum(_USUAL_BYTES.get(column.type) or _width(column) for _, _, column in self.columns)


def in_parts(
    table: str,
    keys: Sequence[ColumnSpec],
    joined_by: int,
    fields: Iterable[Field],
    memory: TableMemory,
    used: set[str],
    document: str,
) -> Iterator[tuple[int, str, list[ColumnSpec]]]:
    """The table and those that continue it: part, name and columns. `joined_by`: number of key columns that the others repeat;
    `document`: the JSON column with the original values."""
    fields, placed = _place(list(fields), memory, sum(map(_width, keys)))
    names = column_names(
        [wish for each in fields for wish in each.wishes], memory, {UNFIT, *(key.name for key in keys)}
    )
    for part in sorted({1, *placed.values()}):
        columns = [
            _named(column, names[key], names.get(field.key, ""))
            for field in fields
            if placed[field.key] == part
            for key, _, column in field.columns
        ]
        if part in memory.watched or any(column.unfit for column in columns):
            memory.watched.add(part)
            columns.append(unfit_column(document))
        name = table if part == 1 else _part_name(table, part, memory, used)
        yield part, name, [*(keys if part == 1 else keys[:joined_by]), *columns]


def _part_name(table: str, part: int, memory: TableMemory, used: set[str]) -> str:
    name = memory.parts.get(part) or f"{table[: TABLE_MAX_BYTES - 4].rstrip('_')}__{part}"
    if name in used:
        name = f"{table[: TABLE_MAX_BYTES - 9].rstrip('_')}_{short_hash(f'{table}/{part}')}"
    used.add(name)
    memory.parts[part] = name
    return name


def _place(fields: Sequence[Field], memory: TableMemory, key_bytes: int) -> tuple[list[Field], dict[str, int]]:
    """The part of the table for each field: its old part, else the first one with room. A field's new columns are left out if
    its part has no room and they can be derived from existing ones."""
    placed: dict[str, int] = {}
    filled: dict[int, tuple[int, int, int]] = {}

    def put(field: Field, part: int, room: float, *, usual: bool = False) -> bool:
        width, usually, count = filled.get(part, (key_bytes, key_bytes, 24))
        width, usually, count = width + field.width, usually + field.usual_width, count + len(field.columns)
        if (usually if usual else width) > MAX_ROW_BYTES * room or count > MAX_COLUMNS * room:
            return False
        filled[part], placed[field.key] = (width, usually, count), part
        return True

    fitting: dict[str, Field] = {}
    for each in fields:
        part = memory.columns.setdefault(each.key, ColumnMemory()).part
        had = Field(each.key, tuple(column for column in each.columns if column[0] in memory.names))
        # A column that became wider stays in its part if at all possible: then numbers count with their usual length.
        if part and had.columns and put(had, part, 1.04, usual=True):
            fitting[each.key] = had
    for each in fields:
        if (known := fitting.get(each.key)) is None or len(known.columns) == len(each.columns):
            continue
        more = Field(each.key, tuple(column for column in each.columns if column not in known.columns))
        if put(more, placed[each.key], 1.04, usual=True):
            fitting[each.key] = each
        elif not all(DERIVED in key for key, *_ in more.columns):
            del fitting[each.key]
    for each in fields:
        if each.key not in fitting:
            fitting[each.key] = each
            memory.columns[each.key].part = next(part for part in count_from(1) if put(each, part, 1))
    return [fitting[each.key] for each in fields], placed


def _width(column: ColumnSpec) -> int:
    """The largest size of a value within the row, in bytes."""
    if column.options and column.question_type == "Select" and column.type == "text":
        return min(_TEXT_BYTES, 1 + max(len(option.value.encode()) for option in column.options))
    return _BYTES.get(column.type, _TEXT_BYTES)


def _named(column: ColumnSpec, name: str, of: str) -> ColumnSpec:
    """`of`: name of the column that this one is derived from, or its own name."""
    source = quoted(of) if of else ""
    return replace(
        column,
        name=name,
        value=column.value.replace("{of}", source),
        unfit=column.unfit.replace("{column}", quoted(name)),
    )


def continues(table: str, key: str) -> str:
    return (
        f"Continues {table}, whose columns are too many for one table; one row for each of its rows, joined by {key}."
    )
