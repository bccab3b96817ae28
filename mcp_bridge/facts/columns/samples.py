"""Sample rows of a table. The database cuts long cells and masks personal data, so neither leaves the server."""

from collections.abc import Mapping, Sequence
from typing import Any

from psycopg import errors, sql

from mcp_bridge.answers.envelope import fit, weight
from mcp_bridge.clients.loader_connections import Connection
from mcp_bridge.facts.relations import Column, Relation
from mcp_bridge.sql.values import JsonValue, document, reader

MASK = "***"
_MASKED = "Columns marked pii are masked here; query shows them."
# Limits of a cell's length. The first with which a row fits into the room is used.
_CELL_CHARS = (120, 40, 12)
# PostgreSQL's internal names of the types that JSON can express.
_INTERNAL = {
    "boolean": "bool",
    "smallint": "int2",
    "integer": "int4",
    "bigint": "int8",
    "real": "float4",
    "double precision": "float8",
}


def sample_of(
    connection: Connection,
    relation: Relation,
    columns: Sequence[Column],
    pii: Mapping[str, str],
    count: int,
    room: int,
) -> dict[str, Any] | None:
    """`{columns, rows, note?}` with at most `count` rows of these columns within `room` tokens; None when `count` is 0.

    Blocks. Names come from the live database and are quoted.
    """
    if count == 0 or not columns:
        return None
    query = sql.SQL("SELECT {} FROM (SELECT * FROM {} LIMIT {}) AS t").format(
        sql.SQL(", ").join(_cell(column, column.name in pii) for column in columns),
        sql.Identifier(relation.schema, relation.name),
        count,
    )
    try:
        found = connection.execute(query).fetchall()
    except errors.QueryCanceled:
        return {"columns": [], "rows": [], "note": "The table was too slow to give a row in time."}
    return _within(columns, found, pii, room)


def _within(
    columns: Sequence[Column], found: Sequence[tuple[str | None, ...]], pii: Mapping[str, str], room: int
) -> dict[str, Any]:
    """Cut the sample to `room`: first the cells, then the rows, then the columns."""
    shown = list(columns)
    while True:
        head = _head(shown, len(columns), pii)
        left = room - weight(head)
        for cap in _CELL_CHARS:
            rows = [[_value(c, cell, cap) for c, cell in zip(shown, row, strict=False)] for row in found]
            if not rows or weight(rows[0]) < left or len(shown) == 1:
                return head | {"rows": fit(rows, left)}
        shown = shown[: len(shown) // 2]


def _head(shown: Sequence[Column], columns: int, pii: Mapping[str, str]) -> dict[str, Any]:
    notes = [_MASKED] if any(column.name in pii for column in shown) else []
    if len(shown) < columns:
        notes.append(f"The first {len(shown)} of the columns here; query shows others.")
    return {"columns": [column.name for column in shown]} | ({"note": " ".join(notes)} if notes else {})


def _cell(column: Column, masked: bool) -> sql.Composable:
    """The cell as text. A cell that is too long keeps one character more than allowed, to show that it is."""
    name = sql.Identifier("t", column.name)
    if masked:
        return sql.SQL("CASE WHEN {} IS NOT NULL THEN {} END").format(name, MASK)
    # `concat` gives a value's own output form; a cast to text does not always.
    text = sql.SQL("to_json({})::text" if _is_nested(column) else "concat({})").format(name)
    return sql.SQL("CASE WHEN {} IS DISTINCT FROM NULL THEN left({}, {}) END").format(name, text, _CELL_CHARS[0] + 1)


def _is_nested(column: Column) -> bool:
    return column.type.endswith("[]") or column.type in ("json", "jsonb")


def _value(column: Column, cell: str | None, cap: int) -> JsonValue:
    if cell is None or cell == MASK:
        return cell
    if len(cell) > cap:
        return f"{cell[: cap // 2]}..."
    if _is_nested(column):
        return document(cell)
    base = column.type.partition("(")[0]
    return reader(_INTERNAL.get(base, base))(cell)
