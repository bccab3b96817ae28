"""What does a provider say about its generated tables: which ones a tenant has, and how changes are applied to them?"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, LiteralString, Protocol

from explorer.contract.bookkeeping.lineage import ColumnLineage
from explorer.contract.joins import Join, Joinable
from explorer.contract.materializations import TypeChange
from explorer.contract.schemas import TenantSchemas
from explorer.postgres.connections import Connection
from explorer.tables.values import TableSpec


@dataclass(frozen=True)
class TableFamily:
    """Tables that differ between tenants and form one asset. `kinds`: of its tables; `prefix`: of their names; `mart`: the table
    that they select from; `description`: a sentence for people."""

    name: str
    kinds: frozenset[str]
    prefix: str
    mart: str
    description: str


@dataclass(frozen=True)
class ChangeKey:
    """A column by which tables are updated for single records. `raw_table`: the records' raw table; `mart`: the table with their
    state before.

    `gather`: SQL that returns the changed records as (the column, `kind`, `previous_kind`): their group now and before. {raw}
    and {mart} stand for the tables as r and m; `no_mart`: in place of a mart that does not exist yet. `in_table`: the column's
    expression in a table, if it is not its name; `is_indexed`: whether tables have an index on it.
    """

    raw_table: str
    mart: str
    gather: LiteralString
    no_mart: LiteralString
    in_table: LiteralString | None = None
    is_indexed: bool = True


@dataclass(frozen=True)
class TablePlan:
    """The generated tables of one tenant. `type_changes`: columns whose type changed and that no run has reported yet, oldest
    first; `digests`: by model name, of inputs other than raw tables (`config.meta.made_from`)."""

    tables: tuple[TableSpec, ...] = ()
    type_changes: tuple[TypeChange, ...] = ()
    digests: Mapping[str, bytes] = field(default_factory=dict)


class TablePlanner(Protocol):
    """Plans the tables of a provider's tenants."""

    @property
    def families(self) -> tuple[TableFamily, ...]:
        """The families in display order."""

    @property
    def change_keys(self) -> Mapping[str, ChangeKey]:
        """Change keys by column."""

    def plan_tables(
        self, document: Mapping[str, Any], connection: Connection, schemas: TenantSchemas, *, taken: Collection[str]
    ) -> TablePlan:
        """The tables for the discovered `document` and the raw rows; the tenant's bookkeeping stores what is learnt. `document`:
        `{}` where nothing was discovered; `taken`: names that are not free."""

    def example(self, taken: Collection[str]) -> TablePlan:
        """A sample plan of no tenant, made without a database."""

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

    families: tuple[TableFamily, ...] = ()
    change_keys: Mapping[str, ChangeKey] = {}
    key_by_kind: Mapping[str, str] = {}
    join_patterns: Sequence[tuple[str, str, str]] = ()

    def plan_tables(
        self, document: Mapping[str, Any], connection: Connection, schemas: TenantSchemas, *, taken: Collection[str]
    ) -> TablePlan:
        """No tables."""
        return TablePlan()

    def example(self, taken: Collection[str]) -> TablePlan:
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
