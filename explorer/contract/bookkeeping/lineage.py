"""From which columns is each column of a tenant's tables computed?

Lineage leads from marts and tables over staging views to the raw tables, one step at a time. Within JSON it names the path.
"""

from collections.abc import Callable, Mapping

import msgspec
from psycopg import sql

from explorer.contract.bookkeeping.definitions import IN_STAGING, LINEAGE, Connection, Schemas
from explorer.contract.bookkeeping.versions import upgrade
from explorer.core.jsonb import storable

# Stored under an empty relation name: the version of the definitions that the lineage was computed from.
_VERSION = ""


class Origin(msgspec.Struct, frozen=True, order=True, array_like=True, omit_defaults=True):
    """A column of a relation; `path`: keys to the value within it, where it holds JSON."""

    table: str
    column: str
    path: tuple[str, ...] = ()


class ColumnLineage(msgspec.Struct, frozen=True, omit_defaults=True):
    """`origins`: the nearest columns that the value is computed from, none for a constant or a count; `expression`: the SQL,
    None when the value is passed on or only cast."""

    origins: tuple[Origin, ...] = ()
    expression: str | None = None


# Relation to column to lineage. The lineage of a missing column is unknown.
Lineage = dict[str, dict[str, ColumnLineage]]


def write(connection: Connection, schemas: Schemas, lineage: Callable[[], Lineage], *, version: str) -> None:
    """Store `lineage()` unless the same `version` is stored already. Other tables that still exist keep their lineage."""
    upgrade(connection, schemas.staging, IN_STAGING)
    place = _place(schemas)
    kept = connection.execute(
        sql.SQL("select columns from {} where relation = %s").format(place), [_VERSION]
    ).fetchone()
    if kept == (version,):
        return
    rows = [(name, _json(columns)) for name, columns in lineage().items()]
    with connection.transaction(), connection.cursor() as cursor:
        cursor.execute(
            sql.SQL(
                "delete from {} where relation not in (select tablename from pg_tables where schemaname = %s)"
            ).format(place),
            [schemas.marts],
        )
        cursor.executemany(
            sql.SQL(
                "insert into {} values (%s, %s::jsonb) on conflict (relation) do update set columns = excluded.columns"
            ).format(place),
            [*rows, (_VERSION, msgspec.json.encode(version).decode())],
        )


def read(connection: Connection, schemas: Schemas) -> Lineage:
    """All stored lineage; empty before the tenant's first run. The connection needs no right to write."""
    place = _place(schemas)
    there = connection.execute("select to_regclass(%s) is not null", [place.as_string(connection)]).fetchone()
    if there != (True,):
        return {}
    query = sql.SQL("select relation, columns::text from {} where relation <> %s").format(place)
    return {
        relation: msgspec.json.decode(columns, type=dict[str, ColumnLineage])
        for relation, columns in connection.execute(query, [_VERSION])
    }


def _json(columns: Mapping[str, ColumnLineage]) -> str:
    return msgspec.json.encode(storable(msgspec.to_builtins(columns))).decode()


def _place(schemas: Schemas) -> sql.Identifier:
    return sql.Identifier(schemas.staging, LINEAGE)
