"""How do a source's rows become the content of its raw table? Compared, and what differs written by COPY; each table in one go.

A table that is still empty is not written twice: its rows are staged as what they will be, with their indexes, and the finished
table takes the empty one's place (`first_load`). Into a table with rows goes what differs, and nothing else, chunk by chunk while
the extract goes on (`merge`); what is gone at the source is marked (`gone`). Either way it is one transaction: readers wait for
nothing and see the table as before or as after. What the next load must know changes in the very same transaction (`finish`).
"""

from psycopg import sql

from explorer.contract.bookkeeping.loads import LoadState
from explorer.load.raw.contents import RawSchema
from explorer.load.raw.first_load import FirstLoad
from explorer.load.raw.load_input import LoadInput, RowCounts
from explorer.load.raw.merge import Merge
from explorer.load.raw.statements import Connection, TableStatements
from explorer.load.raw.table import RawTable


def write_table(
    schema: RawSchema, connection: Connection, table: RawTable, load_input: LoadInput, before: LoadState | None
) -> RowCounts:
    """Bring `table` to what `load_input` says. `before`: the state that the last load left.

    Raises:
        ExplorerError: the extract broke off; the table is as it was.
        psycopg.Error: so did the database.
    """
    statements = schema.statements(connection, table)
    if _can_be_replaced(statements):
        return FirstLoad(schema, statements, load_input, before).run()
    with connection.transaction():
        return Merge(schema, statements, load_input, before).run()


def _can_be_replaced(statements: TableStatements) -> bool:
    """Whether the table is empty and no view is built on it."""
    return statements.row(
        "SELECT NOT EXISTS (SELECT FROM {table}) AND NOT EXISTS (SELECT FROM pg_depend"
        " WHERE refclassid = 'pg_class'::regclass AND refobjid = {literal}::regclass AND classid = 'pg_rewrite'::regclass)",
        literal=sql.Literal(statements.place.as_string(statements.connection)),
    ) == (True,)
