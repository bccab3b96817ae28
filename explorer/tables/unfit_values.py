"""How many values of each generated column did not fit: no such number, date or time, or none of the choices?

Rows name their unfit columns themselves, in `unfit_columns`. Counts are stored per table, so that only tables built since are
counted.
"""

from collections.abc import Iterable, Sequence

from psycopg import sql

from explorer.contract.bookkeeping import unfit_values
from explorer.contract.bookkeeping.unfit_values import UnfitValues
from explorer.contract.schemas import TenantSchemas
from explorer.postgres.connections import Connection
from explorer.tables.values import UNFIT, TableSpec

_AT_ONCE = 100


def count_unfit_values(
    connection: Connection, schemas: TenantSchemas, tables: Iterable[TableSpec]
) -> dict[str, dict[str, int]]:
    """Table to column to number of values, without zeros. Tables that were never built are missing.

    A text column keeps values that are none of its question's choices; other columns have NULL.
    """
    there: dict[str, int] = dict(
        connection.execute(
            "select c.relname, c.oid::bigint from pg_class c join pg_namespace n on n.oid = c.relnamespace"
            " join pg_attribute a on a.attrelid = c.oid where n.nspname = %s and c.relkind = 'r' and a.attname = %s",
            [schemas.marts, UNFIT],
        ).fetchall()
    )
    wanted = {table.name: there[table.name] for table in tables if table.counts_unfit_values and table.name in there}
    known = unfit_values.read(connection, schemas)
    counts = {name: dict(each.counts) for name, each in known.items() if wanted.get(name) == each.relation}
    new = _count(connection, schemas.marts, [name for name in wanted if name not in counts])
    counted = {name: UnfitValues(wanted[name], columns) for name, columns in new.items()}
    unfit_values.write(connection, schemas, counted, current=counts)
    return {name: columns for name, columns in sorted((counts | new).items()) if columns}


def _count(connection: Connection, schema: str, tables: Sequence[str]) -> dict[str, dict[str, int]]:
    found: dict[str, dict[str, int]] = {table: {} for table in tables}
    for start in range(0, len(tables), _AT_ONCE):
        each = sql.SQL("select {}, unnest(unfit_columns), count(*) from {} where unfit_columns is not null group by 2")
        parts = (each.format(table, sql.Identifier(schema, table)) for table in tables[start : start + _AT_ONCE])
        for table, column, count in connection.execute(sql.SQL(" union all ").join(parts) + sql.SQL(" order by 1, 2")):
            found[table][column] = count
    return found
