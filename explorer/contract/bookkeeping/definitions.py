"""How is each bookkeeping table made, and which migrations upgrade an older version?

The loader's tables lie in the tenant's raw schema, those of tables and marts in its staging schema. Each schema stores its
version in a table of one row; a schema without that table has version 0.
"""

import contextlib
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import Any, LiteralString, Protocol

import psycopg
from psycopg import sql

Connection = psycopg.Connection[tuple[Any, ...]]

LOADS = "_explorer_cursors"
BUILDS = "explorer_tables"
VERSIONS = "explorer_table_versions"
"""The sequence of the versions in it."""
CHANGES = "explorer_changes"
TESTS = "explorer_tests"
COLUMNS = "explorer_columns"
KINDS = "explorer_kinds"
LINEAGE = "explorer_lineage"
PROFILE = "explorer_profile"
STEPS = "explorer_steps"
RUN_CHANGES = "explorer_run_changes"
REJECTED = "raw_rejected"
"""Made by the loader, with the shape of a raw table."""


class Schemas(Protocol):
    """Names of a tenant's schemas."""

    @property
    def raw(self) -> str: ...
    @property
    def staging(self) -> str: ...
    @property
    def marts(self) -> str: ...
    @property
    def saved(self) -> str: ...


Migration = Callable[[Connection, str, Collection[str]], None]
"""Changes the tables of a schema. The last argument names the tables that exist."""


@dataclass(frozen=True)
class TableSet:
    """Tables of one schema. `columns`: the columns of each table; `migrations`: the first one upgrades version 0 to 1."""

    version_table: str
    columns: Mapping[str, LiteralString]
    migrations: tuple[Migration, ...]

    @property
    def version(self) -> int:
        """The version that this code writes."""
        return len(self.migrations)


def _nothing(_connection: Connection, _schema: str, _there: Collection[str]) -> None:
    """The first versions have the same tables."""


# Of earlier versions: what dbt built, and the views between raw tables and marts.
_OF_DBT = ("builds", "statements", "repeats", "unfit_values", "misfits")
_VIEWS = (
    "cases", "forms", "groups", "location_types", "locations", "lookup_table_items", "lookup_tables",
    "ucr_data_sources", "ucr_rows", "users", "web_users",
)  # fmt: skip


def _one_record_per_table(connection: Connection, schema: str, _there: Collection[str]) -> None:
    """What was known of builds by dbt is dropped, so that each table is built once more, while readers read."""
    connection.execute(sql.SQL("create sequence if not exists {}").format(sql.Identifier(schema, VERSIONS)))
    for table in _OF_DBT:
        connection.execute(sql.SQL("drop table if exists {}").format(sql.Identifier(schema, f"explorer_{table}")))
    for name in _VIEWS:
        view = sql.Identifier(schema, f"stg_{name}")
        # A view that somebody's own view reads stays.
        with contextlib.suppress(psycopg.errors.DependentObjectsStillExist), connection.transaction():
            connection.execute(sql.SQL("drop view if exists {}").format(view))


def _builds_as_a_whole(connection: Connection, schema: str, there: Collection[str]) -> None:
    """Of what is there it is not known when it was last built as a whole: when it last changed is surely not before."""
    if BUILDS in there:
        statement = "alter table {} add column whole_version bigint"
        connection.execute(sql.SQL(statement).format(sql.Identifier(schema, BUILDS)))


def _columns_of_each_table(connection: Connection, schema: str, there: Collection[str]) -> None:
    """What columns the tables have now is the first thing that later changes of columns are compared with."""
    if BUILDS not in there:
        return
    place = sql.Identifier(schema, BUILDS)
    connection.execute(sql.SQL("alter table {} add column if not exists columns jsonb").format(place))
    connection.execute(
        sql.SQL(
            "update {} set columns = (select jsonb_object_agg(attname, format_type(atttypid, atttypmod)) from pg_attribute"
            " where attrelid = relation and attnum > 0 and not attisdropped)"
        ).format(place)
    )


IN_RAW = TableSet(
    "_explorer_bookkeeping",
    {
        LOADS: "source text primary key, table_name text not null, cursor timestamptz, live_rows bigint not null,"
        " deleted_rows bigint not null, changed_at timestamptz, run_id text not null,"
        " updated_at timestamptz not null default now()",
    },
    (_nothing,),
)
IN_STAGING = TableSet(
    "explorer_bookkeeping",
    {
        BUILDS: "name text primary key, kind text not null, definition text not null, relation oid not null,"
        " built_from jsonb not null default '{{}}', version bigint not null, run_id text not null,"
        " changed_at timestamptz not null, rows bigint, findings jsonb not null default '[]', checked jsonb,"
        " whole_version bigint, columns jsonb",
        CHANGES: "name text, value text, version bigint, primary key (version, name, value)",
        TESTS: "name text primary key, status text not null, rows bigint, message text, saw jsonb not null",
        COLUMNS: "relation text primary key, columns jsonb not null",
        KINDS: "relation text primary key, kind text not null, source text",
        LINEAGE: "relation text primary key, columns jsonb not null",
        PROFILE: "profile text not null",
        STEPS: "run_id text not null, step text not null, began_at timestamptz not null, seconds float8 not null,"
        " outcome text not null, facts jsonb not null, primary key (run_id, step)",
        RUN_CHANGES: "run_id text not null, name text not null, at timestamptz not null, rows_before bigint, rows_after bigint,"
        " rows_new bigint, rows_changed bigint, rows_gone bigint, columns_before jsonb, columns_after jsonb,"
        " checks jsonb not null default '{{}}', primary key (run_id, name)",
    },
    (_nothing, _one_record_per_table, _builds_as_a_whole, _columns_of_each_table),
)
