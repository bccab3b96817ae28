"""How does a table take up changed records? Their rows go out and come in again, in one transaction: readers see the rows before
or after, and never wait."""

from explorer.contract.schemas import TenantSchemas
from explorer.postgres.connections import Connection
from explorer.tables.engine.changed import Changed
from explorer.tables.select import select_sql
from explorer.tables.sql_text import quoted
from explorer.tables.values import TableSpec

# Statistics are renewed at once when a tenth of the rows is new; otherwise by autovacuum.
_ANALYZED = 10


def apply(
    connection: Connection, schemas: TenantSchemas, table: TableSpec, changed: Changed, rows: int
) -> tuple[int, bool]:
    """Update the table, which has so many rows, in the caller's transaction. Returns its new number of rows, and whether any row
    went or came.

    Raises:
        psycopg.Error: it cannot take them up.
    """
    place = f"{quoted(schemas.marts)}.{quoted(table.name)}"
    deleted = connection.execute(f"delete from {place} where {changed.rows()}".encode()).rowcount
    insert = f"insert into {place}\n{select_sql(table, changed.records())}"
    inserted = connection.execute(insert.encode()).rowcount
    if max(deleted, inserted) * _ANALYZED > rows:
        connection.execute(f"analyze {place}".encode())
    return rows - deleted + inserted, bool(deleted or inserted)
