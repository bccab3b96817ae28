"""Which repeat groups do a tenant's forms have? Kept in the tenant's staging schema, where the model form_cases reads it.

The positions that a case block has in arrays are those of repetitions, or only of blocks in a list: the data alone do not tell,
since one repetition arrives as an object.
"""

import hashlib
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import psycopg
from psycopg import sql

from explorer.core.jsonb import storable
from explorer.tables.profile import Path, path_of

if TYPE_CHECKING:
    from explorer.tables.generate import GeneratedTable

Connection = psycopg.Connection[tuple[Any, ...]]
# As the model has it.
_TABLE = "explorer_repeats"


def write(connection: Connection, staging_schema: str, tables: "Iterable[GeneratedTable]") -> None:
    """Keep the repeat groups that have one of `tables`."""
    place = sql.Identifier(staging_schema, _TABLE)
    connection.execute(
        sql.SQL("create table if not exists {} (xmlns text not null, path text[] not null)").format(place)
    )
    groups = _groups(tables)
    kept = connection.execute(sql.SQL("select xmlns, path from {}").format(place)).fetchall()
    if sorted((xmlns, tuple(path)) for xmlns, path in kept) != groups:
        with connection.cursor() as cursor:
            cursor.execute(sql.SQL("delete from {}").format(place))
            cursor.executemany(
                sql.SQL("insert into {} values (%s, %s)").format(place), [(xmlns, list(path)) for xmlns, path in groups]
            )


def digest(tables: "Iterable[GeneratedTable]") -> bytes:
    """Another one for other repeat groups: what is made from them must then be made anew."""
    return hashlib.sha256(repr(_groups(tables)).encode()).digest()


def _groups(tables: "Iterable[GeneratedTable]") -> list[tuple[str, Path]]:
    """xmlns and path, as PostgreSQL can hold them: the loader repairs records in the same way."""
    sources = (table.source.rpartition(" ") for table in tables if table.kind == "repeat" and table.part == 1)
    return sorted((storable(xmlns), tuple(storable(path_of(key)))) for xmlns, _, key in sources)
