"""From which columns is each column of a tenant's tables computed?

Lineage leads from dbt models over tables to the raw tables, one step at a time. Within JSON it names the path.
"""

from collections.abc import Callable, Mapping
from typing import Literal, get_args

import msgspec
from psycopg import sql

from explorer.contract.bookkeeping.definitions import IN_STAGING, LINEAGE, Connection, Schemas
from explorer.contract.bookkeeping.versions import is_there, upgrade
from explorer.core.jsonb import storable

Part = Literal["tables", "models"]
# Stored under a name that no relation has: the version of the definitions that the lineage was computed from.
_VERSION_OF = "/ "


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


def version_of(connection: Connection, schemas: Schemas, *, part: Part) -> str | None:
    """The version in which the lineage of this part is stored; None where none is."""
    upgrade(connection, schemas.staging, IN_STAGING)
    query = sql.SQL("select columns from {} where relation = %s").format(_place(schemas))
    row = connection.execute(query, [_VERSION_OF + part]).fetchone()
    return row[0] if row else None


def write(
    connection: Connection, schemas: Schemas, lineage: Callable[[], Lineage], *, part: Part, version: str
) -> None:
    """Store `lineage()` of all tables or of all models, unless the same `version` of that part is stored already. Other relations
    that still exist keep their lineage."""
    if version_of(connection, schemas, part=part) == version:
        return
    place = _place(schemas)
    rows = [(name, _json(columns)) for name, columns in lineage().items()]
    with connection.transaction(), connection.cursor() as cursor:
        cursor.execute(
            sql.SQL(
                "delete from {} where relation not like %s and relation not in (select c.relname from pg_class c"
                " join pg_namespace n on n.oid = c.relnamespace where n.nspname = any(%s))"
            ).format(place),
            [_VERSION_OF + "%", [schemas.marts, schemas.staging]],
        )
        cursor.executemany(
            sql.SQL(
                "insert into {} values (%s, %s::jsonb) on conflict (relation) do update set columns = excluded.columns"
            ).format(place),
            [*rows, (_VERSION_OF + part, msgspec.json.encode(version).decode())],
        )


def read(connection: Connection, schemas: Schemas) -> Lineage:
    """All stored lineage; empty before the tenant's first run. The connection needs no right to write."""
    place = _place(schemas)
    if not is_there(connection, place):
        return {}
    query = sql.SQL("select relation, columns::text from {} where relation not in ('', %s, %s)").format(place)
    return {
        relation: msgspec.json.decode(columns, type=dict[str, ColumnLineage])
        for relation, columns in connection.execute(query, [_VERSION_OF + part for part in get_args(Part)])
    }


def _json(columns: Mapping[str, ColumnLineage]) -> str:
    return msgspec.json.encode(storable(msgspec.to_builtins(columns))).decode()


def _place(schemas: Schemas) -> sql.Identifier:
    return sql.Identifier(schemas.staging, LINEAGE)
