"""What is written last in a table's transaction? The state for the next load, and the rejected records."""

from dataclasses import replace

from explorer.contract.bookkeeping.loads import LoadState
from explorer.load.raw import statements as sending
from explorer.load.raw.contents import RawSchema
from explorer.load.raw.load_input import LoadInput
from explorer.load.raw.statements import TableStatements, columns
from explorer.load.raw.table import REJECTED


def finish(schema: RawSchema, statements: TableStatements, load_input: LoadInput, state: LoadState) -> None:
    """Save `state` and add the rejects to their table."""
    schema.save(statements.connection, statements.table, state, load_input.run_id)
    if load_input.rejects.rows:
        _add_rejects(schema, statements, load_input)


def _add_rejects(schema: RawSchema, statements: TableStatements, load_input: LoadInput) -> None:
    connection = statements.connection
    # Tables are written in parallel: each has its own staged rejects.
    staged = schema.statements(connection, replace(REJECTED, name=f"{REJECTED.name}_{statements.table.source}")).staged
    rejected = schema.statements(connection, REJECTED)
    rejected.execute("DROP TABLE IF EXISTS {new}", new=staged)
    rejected.execute("CREATE UNLOGGED TABLE {new} (LIKE {table})", new=staged)
    sending.copy_rows(connection, staged, REJECTED, load_input.rejects.chunks())
    rejected.execute(
        "INSERT INTO {table} ({columns}) SELECT {columns} FROM {new} ON CONFLICT DO NOTHING",
        columns=columns(REJECTED.loaded),
        new=staged,
    )
    rejected.execute("DROP TABLE {new}", new=staged)
