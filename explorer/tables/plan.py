"""What does a provider say about its tables: which ones a tenant has, and which rows a change concerns?"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from explorer.contract.bookkeeping.lineage import ColumnLineage
from explorer.contract.joins import Join, Joinable
from explorer.contract.materializations import TypeChange
from explorer.contract.schemas import TenantSchemas
from explorer.postgres.connections import Connection
from explorer.tables.values import TableSpec


@dataclass(frozen=True)
class TableFamily:
    """Tables that differ between tenants and form one asset. `kinds`: of its tables; `prefix`: of their names; `reads`: the table
    that they are made from; `description`: a sentence for people."""

    name: str
    kinds: frozenset[str]
    prefix: str
    reads: str
    description: str


@dataclass(frozen=True)
class ChangedRecords:
    """Which rows of tables does a change in a raw table concern? SQL that is run once per update, for all tables.

    `key`: the column that names the rows (`Rows.key` of the tables); `raw_table`: where the change is. `sql` returns `key`, and
    the groups (`TableSpec.group`) that the row is in now and was in before, as `kind` and `previous_kind`; it reads the changed
    rows of the raw table as `changed`, and tables by their names, with the state before the update. It is made of the provider's
    own words only, or of texts that `sql_text` made into SQL.
    """

    key: str
    raw_table: str
    sql: str


@dataclass(frozen=True)
class TablePlan:
    """All tables of one tenant, in any order. `type_changes`: columns whose type changed and that no run has reported yet, oldest
    first."""

    tables: tuple[TableSpec, ...] = ()
    type_changes: tuple[TypeChange, ...] = ()


class TablePlanner(Protocol):
    """Plans the tables of a provider's tenants."""

    @property
    def fixed(self) -> tuple[TableSpec, ...]:
        """The tables that every tenant has, parents first. Made without a database."""

    @property
    def families(self) -> tuple[TableFamily, ...]:
        """The families of the other tables, in display order."""

    @property
    def changed_records(self) -> tuple[ChangedRecords, ...]:
        """How changes are found. A table whose inputs changed in another way is built as a whole."""

    def plan_tables(
        self, document: Mapping[str, Any], connection: Connection, schemas: TenantSchemas, *, taken: Collection[str]
    ) -> TablePlan:
        """The tables for the discovered `document` and the raw rows, fixed ones included; the tenant's bookkeeping stores what is
        learnt. `document`: `{}` where nothing was discovered; `taken`: names that are not free, such as those of dbt models."""

    def mark_reported(self, connection: Connection, schemas: TenantSchemas) -> None:
        """Record that the type changes so far were reported."""

    @property
    def key_by_kind(self) -> Mapping[str, str]:
        """Kind of a table to the column that names its rows; where several are in a table, the last one does."""

    @property
    def join_patterns(self) -> Sequence[tuple[str, str, str]]:
        """How all tables of a kind join, for agents: the kind, `table.column` of the other side, and the join in short."""

    def joins_of(
        self, table: str, tables: Mapping[str, Joinable], common: Mapping[str, Sequence[str]]
    ) -> Iterable[Join]:
        """How a table joins others, those that it is made of first; also along columns that are not there. `common`: frequent
        values of its columns."""

    def origin_of(self, kind: str, source: str | None, document: Mapping[str, Any] | None) -> dict[str, Any] | str:
        """What a table of this kind and source stands for in the discovered document; `unknown` when it does not say."""

    def origin_of_column(
        self,
        lineage: ColumnLineage | None,
        source: str | None,
        facts: Mapping[str, Any],
        document: Mapping[str, Any] | None,
    ) -> dict[str, Any]:
        """What stands behind a column of a table of this source, for agents; `{}` for nothing. `facts`: as the plan gave them
        (`contract.bookkeeping.columns`)."""


class NoTables:
    """The planner of a provider without generated tables."""

    fixed: tuple[TableSpec, ...] = ()
    families: tuple[TableFamily, ...] = ()
    changed_records: tuple[ChangedRecords, ...] = ()
    key_by_kind: Mapping[str, str] = {}
    join_patterns: Sequence[tuple[str, str, str]] = ()

    def plan_tables(
        self, document: Mapping[str, Any], connection: Connection, schemas: TenantSchemas, *, taken: Collection[str]
    ) -> TablePlan:
        """No tables."""
        return TablePlan()

    def mark_reported(self, connection: Connection, schemas: TenantSchemas) -> None:
        """Nothing to report."""

    def origin_of(self, kind: str, source: str | None, document: Mapping[str, Any] | None) -> dict[str, Any] | str:
        """It is unknown."""
        return "unknown"

    def origin_of_column(
        self,
        lineage: ColumnLineage | None,
        source: str | None,
        facts: Mapping[str, Any],
        document: Mapping[str, Any] | None,
    ) -> dict[str, Any]:
        """Nothing."""
        return {}

    def joins_of(
        self, table: str, tables: Mapping[str, Joinable], common: Mapping[str, Sequence[str]]
    ) -> Iterable[Join]:
        """None."""
        return ()
