"""How is a statement about one raw table formatted and sent?"""

from collections.abc import Iterable, Sequence
from typing import Any

import psycopg
from psycopg import sql

from explorer.contract.schemas import TenantSchemas
from explorer.load.raw.cells import COPY_HEADER, COPY_TRAILER
from explorer.load.raw.table import DELETED_COLUMN, RawTable
from explorer.postgres.connections import Connection
from explorer.telemetry.traces import span

# Records that fit into a page are stored uncompressed in the row. By default PostgreSQL compresses beyond 2 kB, which takes
# nearly as long as the rest of COPY, and decompresses for each value that a query reads.
_STORED = "toast_tuple_target = 8160"
_TYPES = {"text": "text", "boolean": "boolean", "timestamp": "timestamptz", "bigint": "bigint", "json": "jsonb"}


class TableStatements:
    """Statements about `table` over one connection. Every text may contain `{schema}`, `{table}`, `{staged}` (its copy in the
    loader's own schema, where dlt has a table of the same name), `{key}`, `{type}` (the key's), `{deleted}`, `{stored}` (storage
    options) and the names given with the call."""

    def __init__(self, connection: Connection, schemas: TenantSchemas, table: RawTable) -> None:
        self.connection = connection
        self.schemas = schemas
        self.table = table
        self.place = sql.Identifier(schemas.raw, table.name)
        staged = f"{table.name}_staged"
        self.staged = sql.Identifier(schemas.raw_staging, staged)
        # `moved`: the staged table, once it is in the raw schema; then it takes the table's name.
        self._names: dict[str, sql.Composable] = {
            "schema": sql.Identifier(schemas.raw),
            "table": self.place,
            "staged": self.staged,
            "moved": sql.Identifier(schemas.raw, staged),
            "own_name": sql.Identifier(table.name),
            "key": sql.Identifier(table.key),
            "type": sql.SQL(_TYPES[table.columns[table.key]]),
            "deleted": sql.Identifier(DELETED_COLUMN),
            "stored": sql.SQL(_STORED),
        }

    @property
    def cursor(self) -> sql.Composable:
        """The cursor of the table's row `t`; NULL for a source without cursor."""
        return sql.Identifier("t", self.table.cursor) if self.table.cursor else sql.SQL("NULL::timestamptz")

    def over(self, connection: Connection) -> "TableStatements":
        """The same statements over another connection."""
        return TableStatements(connection, self.schemas, self.table)

    def formatted(self, text: str, **names: sql.Composable) -> sql.Composed:
        """The formatted statement, or a part of one."""
        return sql.SQL(text).format(**self._names, **names)

    def execute(
        self, text: str, parameters: Sequence[Any] = (), **names: sql.Composable
    ) -> psycopg.Cursor[tuple[Any, ...]]:
        """Send the statement."""
        with span("statement", table=self.table.name, operation=text.split(maxsplit=1)[0].upper()):
            return self.connection.execute(self.formatted(text, **names), parameters or None)

    def row(self, text: str, parameters: Sequence[Any] = (), **names: sql.Composable) -> tuple[Any, ...]:
        """The only row of a query."""
        found = self.execute(text, parameters, **names).fetchone()
        if found is None:
            raise psycopg.DataError("the query gave no row")
        return found

    def make(self, missing: Iterable[str]) -> None:
        """Make the table, or its `missing` columns."""
        self.execute(
            "CREATE TABLE IF NOT EXISTS {table} ({columns}, PRIMARY KEY ({key})) WITH ({stored})",
            columns=sql.SQL(", ").join(map(self._definition, self.table.kinds)),
        )
        for column in missing:
            self.execute("ALTER TABLE {table} ADD COLUMN IF NOT EXISTS {column}", column=self._definition(column))

    def _definition(self, column: str) -> sql.Composed:
        return sql.SQL("{} {}").format(sql.Identifier(column), sql.SQL(_TYPES[self.table.kinds[column]]))

    def index(self, place: sql.Composable, column: str, condition: str = "") -> None:
        """Make an index of the table or its staged copy, unless it exists."""
        self.execute(
            "CREATE INDEX IF NOT EXISTS {name} ON {place} ({column}) " + condition,
            name=sql.Identifier(f"{self.table.name}_{column}"),
            place=place,
            column=sql.Identifier(column),
        )

    def index_loads(self, place: sql.Composable) -> None:
        """Index the load time, to find the rows of the latest loads."""
        self.index(place, "_loaded_at")

    def index_deleted(self, place: sql.Composable) -> None:
        """Index the deletion mark, to count deleted rows."""
        self.index(place, DELETED_COLUMN, "WHERE {column} IS NOT NULL")


def copy_rows(
    connection: Connection, place: sql.Composable, table: RawTable, chunks: Iterable[bytes], option: str = ""
) -> int:
    """COPY packed rows into a table of this shape. Returns their number."""
    statement = sql.SQL("COPY {} ({}) FROM STDIN (FORMAT binary{})")
    with span("statement", table=table.name, operation="COPY"), connection.cursor() as cursor:
        with cursor.copy(statement.format(place, columns(table.loaded), sql.SQL(option))) as copy:
            copy.write(COPY_HEADER)
            for chunk in chunks:
                copy.write(chunk)
            copy.write(COPY_TRAILER)
        return cursor.rowcount


def columns(names: Iterable[str]) -> sql.Composed:
    """Column names, separated by commas."""
    return sql.SQL(", ").join(map(sql.Identifier, names))
