"""How do a source's rows become the content of its raw table? They are compared, and the differences written by COPY.

An empty table is not written twice: its rows are staged as a finished table with indexes, which replaces the empty one
(`first_load`). A table with rows gets only the differences, chunk by chunk during the extract (`merge`); records that are gone
upstream are marked (`gone`). Both are one transaction: readers do not wait and see the table before or after. The state for the
next load changes in the same transaction (`finish`).
"""

from psycopg import sql

from explorer.contract.bookkeeping.loads import LoadState
from explorer.load.copy.first_load import FirstLoad
from explorer.load.copy.merge import Merge
from explorer.load.raw.contents import RawSchema
from explorer.load.raw.load_input import LoadInput, RowCounts
from explorer.load.raw.statements import TableStatements
from explorer.load.raw.table import RawTable
from explorer.postgres.connections import Connection


def write_table(
    schema: RawSchema, connection: Connection, table: RawTable, load_input: LoadInput, before: LoadState | None
) -> RowCounts:
    """Bring `table` up to date with `load_input`. `before`: the state that the last load left.

    Raises:
        ExplorerError: the extract failed; the table is unchanged.
        psycopg.Error: the database failed; the table is unchanged.
    """
    statements = schema.statements(connection, table)
    if _can_be_replaced(statements):
        return FirstLoad(schema, statements, load_input, before).run()
    with connection.transaction():
        return Merge(schema, statements, load_input, before).run()


def _can_be_replaced(statements: TableStatements) -> bool:
    """Whether the table is empty and has no dependent view."""
    return statements.row(
        "SELECT NOT EXISTS (SELECT FROM {table}) AND NOT EXISTS (SELECT FROM pg_depend"
        " WHERE refclassid = 'pg_class'::regclass AND refobjid = {literal}::regclass AND classid = 'pg_rewrite'::regclass)",
        literal=sql.Literal(statements.place.as_string(statements.connection)),
    ) == (True,)
