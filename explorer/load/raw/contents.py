"""What does a tenant's raw schema hold, and how do rows in memory differ from it?"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime

from psycopg import sql

from explorer.contract.bookkeeping import loads
from explorer.contract.bookkeeping.loads import LoadState
from explorer.contract.schemas import TenantSchemas
from explorer.load.raw.cells import TextArray, TimestampArray
from explorer.load.raw.load_input import ExtractEnd
from explorer.load.raw.rows import RowVersion
from explorer.load.raw.statements import TableStatements
from explorer.load.raw.table import REJECTED, RawTable
from explorer.postgres.connections import Connection

# Tables of dlt's own history, which grow with every load.
_MAX_LOADS = 100
_MAX_VERSIONS = 5


@dataclass(frozen=True)
class Contents:
    """What the schema holds: the state of each source whose table existed when the load began.

    `moment`: the time that a load which begins now writes. Later than that of every load that changed a row, even if a clock
    went back: "what changed since that load" is then a comparison of times.
    """

    states: Mapping[str, LoadState]
    moment: datetime


@dataclass(frozen=True)
class Difference:
    """How rows in memory differ from their table: ids that are new (`new`: their number) or have other content, and how many of
    the table's rows are gone.

    `state`: the state that holds if nothing is written.
    """

    ids: list[str]
    new: int
    gone: int
    state: LoadState


class RawSchema:
    """A tenant's raw tables. Connections are in autocommit mode."""

    def __init__(self, schemas: TenantSchemas) -> None:
        self.schemas = schemas

    def statements(self, connection: Connection, table: RawTable) -> TableStatements:
        """Statements about one table."""
        return TableStatements(connection, self.schemas, table)

    def open(self, connection: Connection, tables: Sequence[RawTable], run_id: str) -> Contents:
        """Make what is missing of `tables`, and return the contents."""
        there, raw = self._columns(connection), self.schemas.raw
        for table in tables:
            missing = table.kinds.keys() - there.get(table.name, frozenset())
            if missing:
                self.statements(connection, table).make(sorted(missing))
        existing = [table for table in tables if table.name in there]
        states = loads.read(connection, raw)
        for table in existing:
            if table.by_dlt:
                states |= self._healed(connection, table, states.get(table.source), run_id)
        known = {table.source: states[table.source] for table in existing if table.source in states}
        return Contents(known, loads.next_moment(connection, raw))

    def _columns(self, connection: Connection) -> dict[str, frozenset[str]]:
        query = (
            "SELECT c.relname::text, array_agg(a.attname::text) FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid"
            " WHERE c.relnamespace = to_regnamespace(%s) AND c.relkind IN ('r', 'p') AND a.attnum > 0"
            " AND NOT a.attisdropped GROUP BY 1"
        )
        return {name: frozenset(names) for name, names in connection.execute(query, [self.schemas.raw])}

    def _healed(
        self, connection: Connection, table: RawTable, state: LoadState | None, run_id: str
    ) -> dict[str, LoadState]:
        """The state of a table whose last load was killed after dlt had written and before the state was: what stands behind
        the table must learn of the change."""
        (newest,) = self.statements(connection, table).row(
            "SELECT greatest((SELECT max(_loaded_at) FROM {table}), (SELECT max({deleted}) FROM {table}))"
        )
        if newest is None or (state and state.changed_at and newest <= state.changed_at):
            return {}
        counted = self.count(connection, table)
        healed = replace(counted, cursor=state.cursor if state else None, changed_at=newest)
        self.save(connection, table, healed, run_id)
        return {table.source: healed}

    def compare(
        self,
        connection: Connection,
        table: RawTable,
        rows: Mapping[str, RowVersion],
        before: LoadState | None,
        end: ExtractEnd,
    ) -> Difference:
        """How rows, given by id, differ from the table. A row of a part that is older than the table's is an answer from the
        past, and does not differ."""
        statements = self.statements(connection, table)
        hashes = [row.content_hash for row in rows.values()]
        changed = statements.execute(
            "SELECT c.id, t.{key} IS NULL FROM unnest(%s::text[], %s::text[], %s::timestamptz[]) AS c (id, hash, version)"
            " LEFT JOIN {table} t ON t.{key} = c.id::{type}"
            " WHERE t.{key} IS NULL OR t.{deleted} IS NOT NULL OR (t._content_hash IS DISTINCT FROM c.hash AND ({whole}"
            " OR coalesce({cursor}, '-infinity') <= coalesce(c.version, '-infinity')))",
            [TextArray(rows), TextArray(hashes), TimestampArray([row.cursor for row in rows.values()])],
            whole=sql.Literal(end.whole),
            cursor=statements.cursor,
        ).fetchall()
        ids, new = [identity for identity, _ in changed], sum(is_new for _, is_new in changed)
        if before and not end.whole:
            return Difference(ids, new, 0, replace(before, cursor=end.cursor))
        live, marked, gone = statements.row(
            "WITH came AS MATERIALIZED (SELECT id::{type} AS id FROM unnest(%s::text[]) AS c (id))"
            " SELECT count(*) FILTER (WHERE t.{deleted} IS NULL), count(*) FILTER (WHERE t.{deleted} IS NOT NULL),"
            " count(*) FILTER (WHERE t.{deleted} IS NULL AND c.id IS NULL)"
            " FROM {table} t LEFT JOIN came c ON c.id = t.{key}",
            [TextArray(rows)],
        )
        changed_at = before.changed_at if before else None
        return Difference(ids, new, gone if end.whole else 0, LoadState(end.cursor, live, marked, changed_at))

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

    def read_again(self, connection: Connection, table: RawTable, at: datetime) -> None:
        """Record that at that time the source was as its table is."""
        loads.looked(connection, self.schemas.raw, [table.source], at)

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
