"""What does a tenant's raw schema hold, and how do rows in memory differ from it?"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime

from psycopg import sql

from explorer.contract.bookkeeping import loads
from explorer.contract.bookkeeping.loads import LoadState
from explorer.contract.schemas import TenantSchemas
from explorer.load.raw.cells import TextArray
from explorer.load.raw.load_input import ExtractEnd
from explorer.load.raw.statements import TableStatements
from explorer.load.raw.table import DELETED_COLUMN, REJECTED, RawTable
from explorer.postgres.connections import Connection

# Tables of dlt's own history, which grow with every load.
_MAX_LOADS = 100
_MAX_VERSIONS = 5


@dataclass(frozen=True)
class Contents:
    """What the schema holds: columns by table, and the state of each source whose table exists.

    `moment`: the time that a load which begins now writes. Later than that of every load that changed a row, even if a clock
    went back: "what changed since that load" is then a comparison of times.
    """

    columns: Mapping[str, frozenset[str]]
    states: Mapping[str, LoadState]
    moment: datetime

    def lacks(self, tables: Iterable[RawTable]) -> bool:
        """Whether one of `tables`, or a column of it, is missing."""
        return any(not {*table.loaded, DELETED_COLUMN} <= self.columns.get(table.name, set()) for table in tables)


@dataclass(frozen=True)
class Difference:
    """How rows in memory differ from their table: ids that are new or have other content, and how many of the table's rows are
    gone.

    `state`: the state that holds if nothing is written.
    """

    ids: list[str]
    gone: int
    state: LoadState


class RawSchema:
    """A tenant's raw tables. Connections are in autocommit mode."""

    def __init__(self, schemas: TenantSchemas) -> None:
        self.schemas = schemas

    def statements(self, connection: Connection, table: RawTable) -> TableStatements:
        """Statements about one table."""
        return TableStatements(connection, self.schemas, table)

    def contents(self, connection: Connection) -> Contents:
        """The current contents."""
        query = (
            "SELECT c.relname::text, array_agg(a.attname::text) FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid"
            " WHERE c.relnamespace = to_regnamespace(%s) AND c.relkind IN ('r', 'p') AND a.attnum > 0"
            " AND NOT a.attisdropped GROUP BY 1"
        )
        raw = self.schemas.raw
        columns = {name: frozenset(names) for name, names in connection.execute(query, [raw])}
        return Contents(columns, loads.read(connection, raw), loads.next_moment(connection, raw))

    def compare(
        self,
        connection: Connection,
        table: RawTable,
        hashes: Mapping[str, str],
        before: LoadState | None,
        end: ExtractEnd,
    ) -> Difference:
        """How rows, given by id and content hash, differ from the table, which exists."""
        statements = self.statements(connection, table)
        changed = statements.execute(
            "SELECT c.id FROM unnest(%s::text[], %s::text[]) AS c (id, hash) LEFT JOIN {table} t ON t.{key} = c.id::{type}"
            " WHERE t.{key} IS NULL OR t._content_hash IS DISTINCT FROM c.hash OR t.{deleted} IS NOT NULL",
            [TextArray(hashes), TextArray(hashes.values())],
        ).fetchall()
        ids = [identity for (identity,) in changed]
        if before and not end.whole:
            return Difference(ids, 0, replace(before, cursor=end.cursor))
        live, marked, gone = statements.row(
            "WITH came AS MATERIALIZED (SELECT id::{type} AS id FROM unnest(%s::text[]) AS c (id))"
            " SELECT count(*) FILTER (WHERE t.{deleted} IS NULL), count(*) FILTER (WHERE t.{deleted} IS NOT NULL),"
            " count(*) FILTER (WHERE t.{deleted} IS NULL AND c.id IS NULL)"
            " FROM {table} t LEFT JOIN came c ON c.id = t.{key}",
            [TextArray(hashes)],
        )
        changed_at = before.changed_at if before else None
        return Difference(ids, gone if end.whole else 0, LoadState(end.cursor, live, marked, changed_at))

    def knows_rejects(self, connection: Connection, ids: list[str]) -> bool:
        """Whether all these records were rejected by earlier loads too."""
        query = "SELECT count(*) FROM unnest(%s::text[]) AS c (id) WHERE NOT EXISTS (SELECT FROM {table} t WHERE t.{key} = c.id)"
        return self.statements(connection, REJECTED).row(query, [ids]) == (0,)

    def count(self, connection: Connection, table: RawTable) -> LoadState:
        """Counts the table's rows, in two queries: both counts come from indexes and not from the rows."""
        query = "SELECT count(*), (SELECT count(*) FROM {table} WHERE {deleted} IS NOT NULL) FROM {table}"
        rows, marked = self.statements(connection, table).row(query)
        return LoadState(None, rows - marked, marked, None)

    def values(self, connection: Connection, table: RawTable, column: str) -> set[str]:
        """The distinct values of a column, without rows marked as deleted."""
        query = "SELECT DISTINCT {column}::text FROM {table} WHERE {deleted} IS NULL AND {column} IS NOT NULL"
        found = self.statements(connection, table).execute(query, column=sql.Identifier(column))
        return {value for (value,) in found}

    def save(self, connection: Connection, table: RawTable, state: LoadState, run_id: str) -> None:
        """Store `state` for the next load."""
        loads.write(connection, self.schemas.raw, table.source, table.name, state, run_id)

    def prune(self, connection: Connection) -> None:
        """Delete dlt's history, except its latest part."""
        raw = self.schemas.raw
        for name, kept in (("_dlt_loads", _MAX_LOADS), ("_dlt_version", _MAX_VERSIONS)):
            connection.execute(
                sql.SQL(
                    "DELETE FROM {table} WHERE inserted_at < (SELECT min(inserted_at) FROM"
                    " (SELECT inserted_at FROM {table} ORDER BY 1 DESC LIMIT {kept}) newest)"
                ).format(table=sql.Identifier(raw, name), kept=sql.Literal(kept))
            )
        # Where older versions stored cursors.
        connection.execute(sql.SQL("DROP TABLE IF EXISTS {}").format(sql.Identifier(raw, "_dlt_pipeline_state")))
