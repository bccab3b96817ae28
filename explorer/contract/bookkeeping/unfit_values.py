"""How many values of each column did not fit when the table was last counted?"""

from collections.abc import Collection, Mapping

import msgspec
from psycopg import sql

from explorer.contract.bookkeeping.definitions import IN_STAGING, UNFIT_VALUES, Connection, Schemas
from explorer.contract.bookkeeping.versions import upgrade


class UnfitValues(msgspec.Struct, frozen=True):
    """`relation`: oid of the counted table; `counts`: unfit values by column, without zeros."""

    relation: int
    counts: Mapping[str, int]


def read(connection: Connection, schemas: Schemas) -> dict[str, UnfitValues]:
    """Table to its counts."""
    upgrade(connection, schemas.staging, IN_STAGING)
    rows = connection.execute(sql.SQL("select model, relation::bigint, counts from {}").format(_place(schemas)))
    return {table: UnfitValues(relation, counts) for table, relation, counts in rows}


def write(
    connection: Connection, schemas: Schemas, counted: Mapping[str, UnfitValues], *, current: Collection[str]
) -> None:
    """Store new counts; delete those of tables that are not `current`."""
    with connection.transaction(), connection.cursor() as cursor:
        cursor.execute(sql.SQL("delete from {} where model <> all(%s)").format(_place(schemas)), [list(current)])
        cursor.executemany(
            sql.SQL("insert into {} values (%s, %s, %s)").format(_place(schemas)),
            [(table, each.relation, msgspec.json.encode(each.counts).decode()) for table, each in counted.items()],
        )


def forget(connection: Connection, schemas: Schemas, tables: Collection[str]) -> None:
    """Delete the counts of these tables: their rows are about to change."""
    upgrade(connection, schemas.staging, IN_STAGING)
    query = sql.SQL("delete from {} where model = any(%s)").format(_place(schemas))
    connection.execute(query, [list(tables)])


def _place(schemas: Schemas) -> sql.Identifier:
    return sql.Identifier(schemas.staging, UNFIT_VALUES)
