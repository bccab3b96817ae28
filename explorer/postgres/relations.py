"""Which relations do schemas hold, and with which columns?"""

from collections.abc import Mapping, Sequence
from typing import Literal, NamedTuple

from explorer.postgres.connections import Connection

Columns = Mapping[str, Mapping[str, Sequence[tuple[str, str]]]]
"""Schema to relation to its columns in order: name and type; text without a limit of length is `text`, however it was made."""


class Relation(NamedTuple):
    """A table or view with its comment, empty where it has none."""

    schema: str
    name: str
    kind: Literal["table", "view", "materialized view"]
    oid: int
    comment: str


def relations(connection: Connection, schemas: Sequence[str]) -> list[Relation]:
    """Those of these schemas, views first."""
    rows = connection.execute(
        "select n.nspname::text, c.relname::text,"
        " case c.relkind when 'v' then 'view' when 'm' then 'materialized view' else 'table' end,"
        " c.oid::bigint, coalesce(obj_description(c.oid, 'pg_class'), '')"
        " from pg_class c join pg_namespace n on n.oid = c.relnamespace where n.nspname = any(%s)"
        " and c.relkind in ('r', 'v', 'm', 'p') order by c.relkind in ('r', 'p'), 2",
        [list(schemas)],
    )
    return [Relation(*row) for row in rows]


def columns(connection: Connection, schemas: Sequence[str]) -> Columns:
    """Of all relations of these schemas."""
    found: dict[str, dict[str, list[tuple[str, str]]]] = {}
    for schema, relation, column, type_name in connection.execute(
        "select n.nspname, c.relname, a.attname,"
        " regexp_replace(format_type(a.atttypid, a.atttypmod), '^character varying(?![(])', 'text') from pg_attribute a"
        " join pg_class c on c.oid = a.attrelid join pg_namespace n on n.oid = c.relnamespace where n.nspname = any(%s)"
        " and c.relkind in ('r', 'v', 'm', 'p') and a.attnum > 0 and not a.attisdropped order by c.oid, a.attnum",
        [list(schemas)],
    ):
        found.setdefault(schema, {}).setdefault(relation, []).append((column, type_name))
    return found
