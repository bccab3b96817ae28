"""How is each bookkeeping table made, and which migrations upgrade an older version?

The loader's tables lie in the tenant's raw schema, those of tables and marts in its staging schema. Each schema stores its
version in a table of one row; a schema without that table has version 0.
"""

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import Any, LiteralString, Protocol

import psycopg
from psycopg import sql

Connection = psycopg.Connection[tuple[Any, ...]]

LOADS = "_explorer_cursors"
BUILDS = "explorer_builds"
COLUMNS = "explorer_columns"
LINEAGE = "explorer_lineage"
PROFILE = "explorer_profile"
REPEATS = "explorer_repeats"
STATEMENTS = "explorer_statements"
UNFIT_VALUES = "explorer_unfit_values"
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
    """Versions 0 and 1 have the same tables."""


def _misfits_are_unfit_values(connection: Connection, schema: str, there: Collection[str]) -> None:
    if "explorer_misfits" in there:
        table = sql.Identifier(schema, "explorer_misfits")
        connection.execute(sql.SQL("alter table {} rename column misfits to counts").format(table))
        connection.execute(sql.SQL("alter table {} rename to {}").format(table, sql.Identifier(UNFIT_VALUES)))


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
        BUILDS: "model text primary key, definition text not null, versions jsonb not null, relation oid not null,"
        " row_count bigint, findings jsonb not null, built_at timestamptz not null default now()",
        COLUMNS: "relation text primary key, columns jsonb not null",
        LINEAGE: "relation text primary key, columns jsonb not null",
        PROFILE: "profile text not null",
        REPEATS: "xmlns text not null, path text[] not null",
        STATEMENTS: "node text primary key, model text not null, definition text not null, raw_tables text[] not null,"
        " parents text[] not null, key text, statement text not null",
        UNFIT_VALUES: "model text primary key, relation oid not null, counts jsonb not null",
    },
    (_misfits_are_unfit_values,),
)
