"""What a provider says of its generated tables: which there are for a tenant, and how they are cut down to what changed."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Any, LiteralString, Protocol

import psycopg

from explorer.contract.bookkeeping.lineage import ColumnLineage
from explorer.contract.materializations import TypeChange
from explorer.contract.schemas import TenantSchemas
from explorer.tables.values import TableSpec

Connection = psycopg.Connection[tuple[Any, ...]]


@dataclass(frozen=True)
class TableFamily:
    """Tables that differ from tenant to tenant and are one asset. `kinds`: of its tables; `prefix`: how their names begin;
    `mart`: the table that they are cut from; `description`: a sentence for people."""

    name: str
    kinds: frozenset[str]
    prefix: str
    mart: str
    description: str


@dataclass(frozen=True)
class ChangeKey:
    """A column by which tables are brought up to date for single records. `raw_table`: where they come; `mart`: the table that
    tells what they were before.

    `gather`: SQL that gives the changed ones as (the column, `kind`, `previous_kind`): the group that a record is of, and was.
    {raw} and {mart} stand for the tables as r and m; `no_mart` for a mart that is not there yet. `in_table`: how a table has the
    column, where not by its name; `is_indexed`: whether tables have an index of it.
    """

    raw_table: str
    mart: str
    gather: LiteralString
    no_mart: LiteralString
    in_table: LiteralString | None = None
    is_indexed: bool = True


@dataclass(frozen=True)
class TablePlan:
    """The generated tables of one tenant. `type_changes`: columns whose type changed, as far as no run has reported it, oldest
    first; `digests`: by name, of what models of the dbt project are made from beside raw tables (`config.meta.made_from`)."""

    tables: tuple[TableSpec, ...] = ()
    type_changes: tuple[TypeChange, ...] = ()
    digests: Mapping[str, bytes] = field(default_factory=dict)


class TablePlanner(Protocol):
    """Plans the tables of a provider's tenants."""

    @property
    def families(self) -> tuple[TableFamily, ...]:
        """In the order in which they are shown."""

    @property
    def change_keys(self) -> Mapping[str, ChangeKey]:
        """By column."""

    def plan_tables(
        self, document: Mapping[str, Any], connection: Connection, schemas: TenantSchemas, *, taken: Collection[str]
    ) -> TablePlan:
        """The tables that the discovered `document` and the raw rows call for; what is learnt is kept in the tenant's
        bookkeeping. `document`: `{}` where nothing was discovered; `taken`: names that are free no more."""

    def example(self, taken: Collection[str]) -> TablePlan:
        """A small plan of no tenant, made without a database."""

    def mark_reported(self, connection: Connection, schemas: TenantSchemas) -> None:
        """The changes of types so far were reported."""

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
    """The planner of a provider whose raw rows call for no tables of their own."""

    families: tuple[TableFamily, ...] = ()
    change_keys: Mapping[str, ChangeKey] = {}

    def plan_tables(
        self, document: Mapping[str, Any], connection: Connection, schemas: TenantSchemas, *, taken: Collection[str]
    ) -> TablePlan:
        """None."""
        return TablePlan()

    def example(self, taken: Collection[str]) -> TablePlan:
        """None."""
        return TablePlan()

    def mark_reported(self, connection: Connection, schemas: TenantSchemas) -> None:
        """There are none to report."""

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
