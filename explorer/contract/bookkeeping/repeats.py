"""Which repeat groups do a tenant's forms have? The dbt models read this table by its name (macro `bookkeeping`)."""

from collections.abc import Iterable

from psycopg import sql

from explorer.contract.bookkeeping.definitions import IN_STAGING, REPEATS, Connection, Schemas
from explorer.contract.bookkeeping.versions import upgrade

RepeatGroup = tuple[str, tuple[str, ...]]
"""xmlns of the form, and path of the group within it."""


def write(connection: Connection, schemas: Schemas, groups: Iterable[RepeatGroup]) -> None:
    """Replace the stored groups. Nothing is written when they did not change."""
    upgrade(connection, schemas.staging, IN_STAGING)
    place, wanted = sql.Identifier(schemas.staging, REPEATS), sorted(groups)
    kept = connection.execute(sql.SQL("select xmlns, path from {}").format(place)).fetchall()
    if sorted((xmlns, tuple(path)) for xmlns, path in kept) == wanted:
        return
    with connection.transaction(), connection.cursor() as cursor:
        cursor.execute(sql.SQL("delete from {}").format(place))
        cursor.executemany(
            sql.SQL("insert into {} values (%s, %s)").format(place), [(xmlns, list(path)) for xmlns, path in wanted]
        )
