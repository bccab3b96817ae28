"""How does a table take up changed records? Their rows go out and come in again, in one transaction: readers see the rows before
or after, and never wait."""

import psycopg

from explorer.contract.bookkeeping.run_changes import RowCounts
from explorer.contract.schemas import TenantSchemas
from explorer.postgres.connections import Connection
from explorer.tables.counting import counts_sql
from explorer.tables.engine.changed import Changed
from explorer.tables.select import select_sql
from explorer.tables.sql_text import quoted
from explorer.tables.values import TableSpec

# Statistics are renewed at once when a tenth of the rows is new; otherwise by autovacuum.
_ANALYZED = 10


def apply(
    connection: Connection, schemas: TenantSchemas, table: TableSpec, changed: Changed, rows: int
) -> tuple[int, RowCounts | None]:
    """Update the table, which has so many rows, in the caller's transaction. Returns its new number of rows, and which of them
    are others now; None where no row went or came.

    Raises:
        psycopg.Error: it cannot take them up.
    """
    place = f"{quoted(schemas.marts)}.{quoted(table.name)}"
    # One statement, so that the rows that go are at hand to be compared with those that come.
    statement = (
        f"with went as (delete from {place} where {changed.rows()} returning *),"
        f" came as (insert into {place}\n{select_sql(table, changed.records())}\nreturning *)"
        f" select (select count(*) from went), (select count(*) from came), counted.* from"
        f" ({counts_sql('went', 'came', table.key, [column.name for column in table.columns])}) as counted"
    )
    row = connection.execute(statement.encode()).fetchone()
    if row is None:
        raise psycopg.DataError("an aggregate gave no row")
    deleted, inserted, *counted = row
    if max(deleted, inserted) * _ANALYZED > rows:
        connection.execute(f"analyze {place}".encode())
    return rows - deleted + inserted, RowCounts(*counted) if deleted or inserted else None
