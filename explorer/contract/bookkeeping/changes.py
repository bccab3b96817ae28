"""Which values of a key went or came in the tenant's tables? What a model needs to replace the rows that a change concerns.

Each update of the tables writes the keys of the records that changed, before it changes a row, and a mark of its own; models that
are brought up to date by such keys write those of their rows in the same way (`dbt_project/macros/swapped_incremental.sql`). An
entry's version is of the sequence that builds have theirs from: a model has seen what has a smaller one.
"""

from collections.abc import Iterable

from psycopg import sql

from explorer.contract.bookkeeping.definitions import CHANGES, IN_STAGING, VERSIONS, Connection, Schemas
from explorer.contract.bookkeeping.versions import upgrade

# Models that missed more updates are built as a whole.
_KEPT = 10
# The column of the mark of an update.
_MARK = ""


def write(connection: Connection, schemas: Schemas, changed: Iterable[tuple[str, str]]) -> None:
    """Write the keys of an update, and forget those of old ones. `changed`: tables of the staging schema, each with the column
    that holds the keys."""
    upgrade(connection, schemas.staging, IN_STAGING)
    place = sql.Identifier(schemas.staging, CHANGES)
    sequence = sql.Literal(sql.Identifier(schemas.staging, VERSIONS).as_string(connection))
    with connection.transaction():
        connection.execute(
            sql.SQL(
                "delete from {0} where version < (select min(version) from (select version from {0} where name = {1}"
                " order by version desc limit {2}) as kept)"
            ).format(place, sql.Literal(_MARK), sql.Literal(_KEPT - 1))
        )
        connection.execute(
            sql.SQL("insert into {} values ({}, '', nextval({}))").format(place, sql.Literal(_MARK), sequence)
        )
        for table, column in changed:
            connection.execute(
                sql.SQL(
                    "insert into {0} select distinct {1}, {2}::text, currval({3}) from {4} where {2} is not null"
                    " on conflict do nothing"
                ).format(
                    place,
                    sql.Literal(column),
                    sql.Identifier(column),
                    sequence,
                    sql.Identifier(schemas.staging, table),
                )
            )
        connection.execute(sql.SQL("analyze {}").format(place))


def known_since(connection: Connection, schemas: Schemas) -> int | None:
    """The version from which on all changes are known; None where none are."""
    upgrade(connection, schemas.staging, IN_STAGING)
    query = sql.SQL("select min(version) from {} where name = {}").format(
        sql.Identifier(schemas.staging, CHANGES), sql.Literal(_MARK)
    )
    row = connection.execute(query).fetchone()
    return row[0] if row else None
