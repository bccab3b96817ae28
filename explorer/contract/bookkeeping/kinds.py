"""Of which kind is each of a tenant's tables, and which part of the source is it made from? In the provider's words."""

from collections.abc import Mapping
from typing import NamedTuple

from psycopg import sql

from explorer.contract.bookkeeping.definitions import IN_STAGING, KINDS, Connection, Schemas
from explorer.contract.bookkeeping.versions import is_there, upgrade


class TableKind(NamedTuple):
    """`source`: None where the table has its source's name."""

    kind: str
    source: str | None


Kinds = Mapping[str, TableKind]
"""By table."""


def write(connection: Connection, schemas: Schemas, kinds: Kinds) -> None:
    """Store the kinds of these tables. Other tables that still exist keep theirs: a retired table keeps its rows."""
    if are_written(connection, schemas, kinds):
        return
    with connection.transaction(), connection.cursor() as cursor:
        cursor.execute(
            sql.SQL(
                "delete from {} where relation not in (select tablename from pg_tables where schemaname = any(%s))"
            ).format(_place(schemas)),
            [[schemas.marts, schemas.saved]],
        )
        cursor.executemany(
            sql.SQL(
                "insert into {} values (%s, %s, %s) on conflict (relation) do update"
                " set kind = excluded.kind, source = excluded.source"
            ).format(_place(schemas)),
            [(table, *of) for table, of in kinds.items()],
        )


def are_written(connection: Connection, schemas: Schemas, kinds: Kinds) -> bool:
    """Whether exactly these kinds of these tables are stored."""
    upgrade(connection, schemas.staging, IN_STAGING)
    return kinds.items() <= _read(connection, schemas).items()


def read(connection: Connection, schemas: Schemas) -> dict[str, TableKind]:
    """By table; empty where nothing was built yet, or only by an earlier version of the platform. The connection needs no right
    to write."""
    return _read(connection, schemas) if is_there(connection, _place(schemas)) else {}


def _read(connection: Connection, schemas: Schemas) -> dict[str, TableKind]:
    query = sql.SQL("select relation, kind, source from {}").format(_place(schemas))
    return {table: TableKind(kind, source) for table, kind, source in connection.execute(query)}


def _place(schemas: Schemas) -> sql.Identifier:
    return sql.Identifier(schemas.staging, KINDS)
