"""How is an empty table filled? The rows are staged as a finished table, which then replaces the empty one."""

import psycopg
from psycopg import sql

from explorer.contract.bookkeeping.loads import LoadState
from explorer.load.raw import finish as ending
from explorer.load.raw import statements as sending
from explorer.load.raw.cells import TextArray
from explorer.load.raw.contents import RawSchema
from explorer.load.raw.load_input import LoadInput, RowCounts
from explorer.load.raw.statements import TableStatements, columns
from explorer.load.raw.table import RECORD_COLUMN

_SORT_MEMORY_MB = 64
_INDEX_MEMORY_MB = 128
# Longer than a catalog lookup, too short to be noticed by waiting sessions.
_MOVE_TIMEOUT_MS = 50


class FirstLoad:
    """The first rows of one table."""

    def __init__(
        self, schema: RawSchema, statements: TableStatements, load_input: LoadInput, before: LoadState | None
    ) -> None:
        self._schema, self.statements = schema, statements
        self._input, self._before = load_input, before

    def run(self) -> RowCounts:
        """Write the rows; see `writer.write_table`."""
        statements, connection = self.statements, self.statements.connection
        table = statements.table
        keys = columns(column for column in table.columns if column != RECORD_COLUMN)
        with connection.transaction():
            rows = self.stage()
            statements.execute("ANALYZE {staged} ({keys})", keys=keys)
        changed_at = self._input.moment if rows else self._before.changed_at if self._before else None
        state = LoadState(self._input.end().cursor, rows, 0, changed_at)
        # Committed before the swap, which is then short: the wait for the disk is over.
        try:
            with connection.transaction():
                statements.execute(f"SET LOCAL lock_timeout = '{_MOVE_TIMEOUT_MS}ms'")
                statements.execute("DROP TABLE {table}")
                statements.execute("ALTER TABLE {staged} SET SCHEMA {schema}")
                statements.execute("ALTER TABLE {moved} RENAME TO {own_name}")
                ending.finish(self._schema, statements, self._input, state)
        except (psycopg.errors.LockNotAvailable, psycopg.errors.DependentObjectsStillExist):
            # A session is reading the empty table, or has just built a view on it.
            with connection.transaction():
                statements.execute("ALTER TABLE {table} SET ({stored})")
                loaded = columns(table.loaded)
                statements.execute("INSERT INTO {table} ({columns}) SELECT {columns} FROM {staged}", columns=loaded)
                statements.execute("DROP TABLE {staged}")
                ending.finish(self._schema, statements, self._input, state)
        return RowCounts(new=rows, live=rows)

    def stage(self) -> int:
        """Stage the rows, one per id, with their indexes. Returns their number."""
        statements = self.statements
        statements.execute(f"SET LOCAL work_mem = '{_SORT_MEMORY_MB}MB'")
        statements.execute(f"SET LOCAL maintenance_work_mem = '{_INDEX_MEMORY_MB}MB'")
        statements.execute("DROP TABLE IF EXISTS {staged}")
        statements.execute("CREATE TABLE {staged} (LIKE {table}) WITH ({stored})")
        # Made on the empty table: no row of a first load is deleted, and a later CREATE INDEX would scan all rows.
        statements.index_deleted(statements.staged)
        chunks = (b"".join([row.data for row in rows]) for rows in self._input.chunks)
        rows = sending.copy_rows(statements.connection, statements.staged, statements.table, chunks, ", FREEZE")
        repeated = self._input.end().repeated
        if repeated:
            rows -= self._drop_repeats(list(repeated))
        name = sql.Identifier(f"{statements.table.name}_pkey")
        statements.execute("ALTER TABLE {staged} ADD CONSTRAINT {name} PRIMARY KEY ({key})", name=name)
        statements.index_loads(statements.staged)
        return rows

    def _drop_repeats(self, repeated: list[str]) -> int:
        """Keep only the newest row of each of these ids. Returns the number of deleted rows."""
        cursor = self.statements.table.cursor
        return self.statements.execute(
            "DELETE FROM {staged} WHERE ctid = ANY (ARRAY(SELECT place FROM (SELECT ctid AS place, row_number() OVER"
            " (PARTITION BY {key} ORDER BY {newest}_page DESC, ctid DESC) AS version FROM {staged}"
            " WHERE {key} IN (SELECT id::{type} FROM unnest(%s::text[]) AS c (id))) v WHERE version > 1))",
            [TextArray(repeated)],
            newest=sql.SQL("{} DESC NULLS LAST, ").format(sql.Identifier(cursor)) if cursor else sql.SQL(""),
        ).rowcount
