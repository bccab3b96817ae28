"""Which records changed since tables were built, and how many? Collected once per update, for all tables, into tables of the
staging schema."""

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

import psycopg
from psycopg import sql

from explorer.contract.schemas import TenantSchemas
from explorer.postgres.connections import Connection
from explorer.tables.plan import ChangedRecords
from explorer.tables.sql_text import literal, quoted
from explorer.tables.values import TableSpec

Way = tuple[str, str]
"""A key, and the raw table whose changes concern the rows that it names."""

_COLLECTED = "explorer_changed_"
# Beyond this part of the table a whole build costs less and leaves no dead rows behind.
_SHARE, FEW = 5, 200


@dataclass(frozen=True)
class Changed:
    """The changed records of one table. `collected`: the tables that hold them; `count`: how many."""

    key: str
    group: str | None
    collected: tuple[str, ...]
    count: int

    def are_few(self, rows: int) -> bool:
        """Whether it is worth while to update a table of so many rows for them."""
        return self.count <= max(FEW, rows // _SHARE)

    def records(self) -> str:
        """Condition on records: they changed and are in the table's group."""
        return self.among(quoted(self.key), "" if self.group is None else f" where kind = {literal(self.group)}")

    def rows(self) -> str:
        """Condition on rows of the table: their record changed, and is or was in the table's group."""
        of_group = "" if self.group is None else f" where {literal(self.group)} in (kind, previous_kind)"
        return self.among(quoted(self.key), of_group)

    def among(self, column: str, condition: str = "") -> str:
        """Condition: the column names a changed record. An array and not a join, so that an index is used."""
        each = (f"select {quoted(self.key)} from {table}{condition}" for table in self.collected)
        return f"{column} = any(array({' union all '.join(each)}))"


class Changes:
    """Finds the changed records. `ways`: those of the provider; where a table has all rows of a raw table, its own changed
    records are found without one."""

    def __init__(self, connection: Connection, schemas: TenantSchemas, ways: Sequence[ChangedRecords]) -> None:
        self._connection, self._schemas = connection, schemas
        self._ways = {(way.key, way.raw_table): way.sql for way in ways}
        self._collected: dict[Way, tuple[str, Counter[tuple[str | None, str | None]]]] = {}

    def collect(self, since: Mapping[Way, Collection[str]]) -> None:
        """Collect the changes of these ways since the earliest of these times, by the loader's clock."""
        for number, (way, moments) in enumerate(sorted(since.items())):
            name = f"{_COLLECTED}{number}"
            place = self._place(name)
            earliest = f"least({', '.join(f'{literal(moment)}::timestamptz' for moment in moments)})"
            # A way may read a table that was never built, or was dropped: then what it finds is built as a whole.
            try:
                self._connection.execute(self._statement(place, way, earliest).encode())
            except psycopg.errors.UndefinedTable:
                continue
            query = f"select kind, previous_kind, count(*) from {place} group by 1, 2"
            pairs = {(kind, before): count for kind, before, count in self._connection.execute(query.encode())}
            self._collected[way] = (name, Counter(pairs))

    def of(self, table: TableSpec, raw_tables: Collection[str]) -> Changed | None:
        """The records of the table that changed with these raw tables; None where they could not be found."""
        ways = [(table.rows.key, raw_table) for raw_table in sorted(raw_tables)]
        if not all(way in self._collected for way in ways):
            return None
        found = [self._collected[way] for way in ways]
        count = sum(
            number for _, pairs in found for pair, number in pairs.items() if table.group is None or table.group in pair
        )
        return Changed(table.rows.key, table.group, tuple(self._place(name) for name, _ in found), count)

    def knows(self, table: TableSpec, raw_table: str) -> bool:
        """Whether there is a way from changes of the raw table to rows of the table."""
        return (table.rows.key, raw_table) in self._ways or _is_own(table, raw_table)

    def collected(self) -> list[tuple[str, str]]:
        """Names of the tables that hold what was collected, each with the key that it holds."""
        return [(name, key) for (key, _), (name, _) in self._collected.items()]

    def drop(self) -> None:
        """Drop what was collected, also by a killed update."""
        query = "select tablename from pg_tables where schemaname = %s and tablename like %s"
        pattern = _COLLECTED.replace("_", r"\_") + "%"
        for (name,) in self._connection.execute(query, [self._schemas.staging, pattern]).fetchall():
            self._connection.execute(sql.SQL("drop table {}").format(sql.Identifier(self._schemas.staging, name)))

    def _place(self, name: str) -> str:
        return f"{quoted(self._schemas.staging)}.{quoted(name)}"

    def _statement(self, place: str, way: Way, earliest: str) -> str:
        key, raw_table = way
        query = self._ways.get(way, f"select {quoted(key)}, null as kind, null as previous_kind from changed")
        since = f"_loaded_at > {earliest} or _deleted_at > {earliest}"
        changed = f"select * from {quoted(raw_table)} where {since}"
        return (
            f"create unlogged table {place} as select {quoted(key)}, kind::text, previous_kind::text"
            f" from (with changed as ({changed}) {query}) as found; create index on {place} (kind);"
            f" create index on {place} (previous_kind); analyze {place}"
        )


def _is_own(table: TableSpec, raw_table: str) -> bool:
    return table.rows.relation == raw_table and table.group is None
