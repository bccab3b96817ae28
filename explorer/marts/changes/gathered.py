"""Which records changed since tables were built, and how many: gathered once, into tables of the staging schema."""

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import psycopg
from psycopg import sql

from explorer.contract.schemas import TenantSchemas
from explorer.tables.plan import ChangeKey

Connection = psycopg.Connection[tuple[Any, ...]]
Relation = tuple[str, str]

_CHANGED = "explorer_changed_"
# Where more has changed, the table is built as a whole: it costs less, and leaves no dead rows behind.
_SHARE, FEW = 5, 200
_SMALL = 50_000


@dataclass(frozen=True)
class Change:
    """What is to be done to one table. `key`: of the changes, None to write it anew; `group`: what it is cut
    by; `rows`: how many it has."""

    relation: Relation
    key: str | None
    group: str | None
    rows: int


class Changes:
    """The records that came, changed or went, gathered once into tables of the staging schema."""

    def __init__(
        self,
        connection: Connection,
        schemas: TenantSchemas,
        change_keys: Mapping[str, ChangeKey],
        marts: Collection[str],
    ) -> None:
        """`marts`: tables that are there."""
        self._connection, self._schemas, self._marts = connection, schemas, marts
        self._change_keys = change_keys
        self._groups: dict[str, dict[str | None, int]] = {}

    def gather(self, key: str, since: Iterable[str]) -> None:
        """Those since the earliest of these moments, by the loader's clock."""
        source = self._change_keys[key]
        is_there = source.mart in self._marts
        names = {
            "table": changed(self._schemas, key),
            "raw": sql.Identifier(self._schemas.raw, source.raw_table),
            "mart": sql.Identifier(self._schemas.marts, source.mart) if is_there else sql.SQL(source.no_mart),
            "since": sql.SQL("least({})").format(
                sql.SQL(", ").join(sql.SQL("{}::timestamptz").format(sql.Literal(moment)) for moment in since)
            ),
        }
        for statement in (
            "drop table if exists {table}",
            "create unlogged table {table} as "
            + source.gather
            + " where r._loaded_at > {since} or r._deleted_at > {since}",
            "create index on {table} (kind)",
            "create index on {table} (previous_kind)",
            "analyze {table}",
        ):
            self._connection.execute(sql.SQL(statement).format(**names))
        counts: dict[str | None, int] = {}
        query = sql.SQL("select kind, previous_kind, count(*) from {table} group by 1, 2").format(**names)
        for kind, before, count in self._connection.execute(query):
            for each in {kind, before}:
                counts[each] = counts.get(each, 0) + count
        self._groups[key] = counts

    def touches(self, key: str, group: str | None) -> bool:
        """Whether rows of this group are among them, now or before; with unknown pasts all may be."""
        return key not in self._groups or self._change_keys[key].mart not in self._marts or group in self._groups[key]

    def are_few(self, key: str, group: str | None, rows: int) -> bool:
        """Whether it is worth while to change a table of so many rows where these changed."""
        counts = self._groups.get(key)
        if counts is None:
            return False
        count = sum(counts.values()) if group is None else counts.get(group, 0)
        return count <= max(FEW, rows // _SHARE)


def changed(schemas: TenantSchemas, key: str) -> sql.Identifier:
    """The table of what changed."""
    return sql.Identifier(schemas.staging, _CHANGED + key)


def is_small(rows: int) -> bool:
    """Whether a table of so many rows may be written anew in place, which leaves as many dead rows behind."""
    return rows <= _SMALL


def drop_gathered(connection: Connection, schemas: TenantSchemas, change_keys: Iterable[str]) -> None:
    """Drop the tables of what changed."""
    for key in change_keys:
        connection.execute(sql.SQL("drop table if exists {}").format(changed(schemas, key)))
