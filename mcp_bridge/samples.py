"""What do a few rows of a table look like? Cells are cut short and personal data masked by the server: they never leave it."""

from collections.abc import Mapping, Sequence
from typing import Any

from psycopg import errors, sql

from mcp_bridge.envelope import fit
from mcp_bridge.loaders import Connection
from mcp_bridge.query_path import UNTRUSTED
from mcp_bridge.relations import Column, Relation
from mcp_bridge.sql.values import JsonValue, document, reader

MASK = "***"
_MASKED = "Columns marked pii are masked here; query shows them."
_MAX_CHARS = 4_000
_MAX_CELL_CHARS, _MIN_CELL_CHARS = 120, 20
# PostgreSQL's own names of the types that JSON has a form for.
_INTERNAL = {
    "boolean": "bool",
    "smallint": "int2",
    "integer": "int4",
    "bigint": "int8",
    "real": "float4",
    "double precision": "float8",
}


def sample_of(
    connection: Connection, relation: Relation, columns: Sequence[Column], pii: Mapping[str, str], count: int
) -> dict[str, Any] | None:
    """`{columns, rows, note}` with at most `count` rows, None when none are wanted. Blocks; the names are live ones, quoted."""
    if count == 0:
        return None
    note = f"{_MASKED} {UNTRUSTED}" if any(column.name in pii for column in columns) else UNTRUSTED
    cap = max(_MIN_CELL_CHARS, min(_MAX_CELL_CHARS, _MAX_CHARS // max(1, len(columns))))
    query = sql.SQL("SELECT {} FROM (SELECT * FROM {} LIMIT {}) AS t").format(
        sql.SQL(", ").join(_cell(column, column.name in pii, cap) for column in columns),
        sql.Identifier(relation.schema, relation.name),
        count,
    )
    try:
        found = connection.execute(query).fetchall()
    except errors.QueryCanceled:
        return {"columns": [], "rows": [], "note": "The table was too slow to give a row in time."}
    rows = fit(([_value(c, cell, cap) for c, cell in zip(columns, row, strict=True)] for row in found), _MAX_CHARS)
    return {"columns": [column.name for column in columns], "rows": rows, "note": note}


def _cell(column: Column, masked: bool, cap: int) -> sql.Composable:
    """The cell as text, one character longer than it may be when it is too long."""
    name = sql.Identifier("t", column.name)
    if masked:
        return sql.SQL("CASE WHEN {} IS NOT NULL THEN {} END").format(name, MASK)
    # `concat` gives a value's own output form, where a cast to text would not.
    text = sql.SQL("to_json({})::text" if _is_nested(column) else "concat({})").format(name)
    return sql.SQL("CASE WHEN {} IS DISTINCT FROM NULL THEN left({}, {}) END").format(name, text, cap + 1)


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
