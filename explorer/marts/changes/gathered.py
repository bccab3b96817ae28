"""Which records changed since tables were built, and how many? Collected once, into tables of the staging schema."""

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass

from psycopg import sql

from explorer.contract.schemas import TenantSchemas
from explorer.postgres.connections import Connection
from explorer.tables.plan import ChangeKey

Relation = tuple[str, str]

_CHANGED = "explorer_changed_"
# Beyond this part of the table a full build costs less and leaves no dead rows behind.
_SHARE, FEW = 5, 200
_SMALL = 50_000


@dataclass(frozen=True)
class Change:
    """What to do with one table. `key`: of the changed rows, None to rewrite the table; `group`: the group of
    records whose rows it holds; `rows`: its number of rows."""

    relation: Relation
    key: str | None
    group: str | None
    rows: int


class Changes:
    """The changed records, collected once into tables of the staging schema."""

    def __init__(
        self,
        connection: Connection,
        schemas: TenantSchemas,
        change_keys: Mapping[str, ChangeKey],
        marts: Collection[str],
    ) -> None:
        """`marts`: existing tables."""
        self._connection, self._schemas, self._marts = connection, schemas, marts
        self._change_keys = change_keys
        self._groups: dict[str, dict[str | None, int]] = {}

    def gather(self, key: str, since: Iterable[str]) -> None:
        """Collect the records that changed since the earliest of these times, by the loader's clock."""
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
        """Whether rows of this group changed. If their former groups are unknown, they may be of any group."""
        return key not in self._groups or self._change_keys[key].mart not in self._marts or group in self._groups[key]

    def are_few(self, key: str, group: str | None, rows: int) -> bool:
        """Whether it is worth while to update a table of so many rows for these changes."""
        counts = self._groups.get(key)
        if counts is None:
            return False
        count = sum(counts.values()) if group is None else counts.get(group, 0)
        return count <= max(FEW, rows // _SHARE)


def changed(schemas: TenantSchemas, key: str) -> sql.Identifier:
    """The table of the changed records."""
    return sql.Identifier(schemas.staging, _CHANGED + key)


def is_small(rows: int) -> bool:
    """Whether a table of so many rows may be rewritten in place, which leaves as many dead rows."""
    return rows <= _SMALL


def drop_gathered(connection: Connection, schemas: TenantSchemas, change_keys: Iterable[str]) -> None:
    """Drop the tables of changed records."""
    for key in change_keys:
        connection.execute(sql.SQL("drop table if exists {}").format(changed(schemas, key)))
