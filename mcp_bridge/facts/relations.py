"""Which tables does a tenant have right now, and what do they look like? Read live from the database's catalogs.

The reader's login cannot see the catalogs, so these fixed statements run as the tenant's loader login in a read-only transaction;
nothing that a caller wrote is ever part of them, and each is held to the tenant's own schemas. What filled the tables and when is
Dagster's knowledge (`tables`), what PostgreSQL knows of their values is `columns.statistics`.
"""

import sys
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from psycopg.rows import class_row

from explorer.catalog import Tenant, TenantSchema
from explorer.contract.bookkeeping import columns as column_records
from explorer.contract.bookkeeping import rejected
from explorer.contract.bookkeeping.rejected import Rejected
from mcp_bridge.clients.loader_connections import Connection
from mcp_bridge.clients.tenant_databases import TenantDatabases


@dataclass(frozen=True)
class Relation:
    """A table or view. `estimate`: PostgreSQL's own guess of its rows, None before it has looked; `columns`: their names."""

    schema: str
    name: str
    is_view: bool
    comment: str | None
    estimate: int | None
    columns: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Column:
    """A live column. `facts`: what the applications say of it, `{path, question_type?, label?, translations?, options?}`;
    empty for columns that stand for no question and no property."""

    table: str
    name: str
    type: str
    nullable: bool
    comment: str | None
    in_primary_key: bool
    facts: dict[str, Any] = field(default_factory=dict)

    @property
    def labels(self) -> list[str]:
        """The question's label and its translations."""
        label = self.facts.get("label")
        return [*([label] if label else []), *self.facts.get("translations", {}).values()]


@dataclass(frozen=True)
class LiveTables:
    """The relations that the tenant's agents may read, by name, and the schemas they lie in.

    `rejected`: by source of the pipeline, how many of its records could not be loaded, and the most frequent reason.
    """

    schema: TenantSchema
    schemas: tuple[str, ...]
    relations: dict[str, Relation]
    rejected: dict[str, Rejected] = field(default_factory=dict)

    def columns_by_schema(self) -> dict[str, dict[str, tuple[str, ...]]]:
        """What the SQL validator accepts: names of relations and of their columns, by schema."""
        return {
            schema: {
                relation.name: relation.columns for relation in self.relations.values() if relation.schema == schema
            }
            for schema in self.schemas
        }


# One spelling for a type wherever it is shown: the standard's word, except for the two that nobody writes out.
_SQL_TYPES = {
    "bool": "boolean",
    "bpchar": "character",
    "float4": "real",
    "float8": "double precision",
    "int2": "smallint",
    "int4": "integer",
    "int8": "bigint",
    "timestamp with time zone": "timestamptz",
    "timestamp without time zone": "timestamp",
    "varchar": "character varying",
}


def sql_type(name: str) -> str:
    """The type's name as all answers write it; arrays and lengths keep their brackets."""
    base, bracket, rest = name.partition("[") if name.endswith("[]") else name.partition("(")
    return _SQL_TYPES.get(base, base) + bracket + rest


# From the schema to its relations by pg_depend: pg_class has no index by schema, and an instance may hold tables by the
# hundred thousand.
_RELATIONS = """
SELECT n.nspname AS schema, c.relname AS name, c.relkind IN ('v', 'm') AS is_view, obj_description(c.oid, 'pg_class') AS comment,
       CASE WHEN c.reltuples >= 0 THEN c.reltuples::bigint END AS estimate,
       ARRAY(SELECT a.attname::text FROM pg_attribute a
              WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped ORDER BY a.attnum) AS columns
  FROM pg_namespace n
  JOIN pg_depend d ON d.refclassid = 'pg_namespace'::regclass AND d.refobjid = n.oid AND d.classid = 'pg_class'::regclass
  JOIN pg_class c ON c.oid = d.objid AND c.relnamespace = n.oid
 WHERE n.nspname = ANY(%s) AND c.relkind IN ('r', 'p', 'v', 'm') AND has_table_privilege(%s, c.oid, 'SELECT')
"""
_COLUMNS = """
SELECT c.relname::text, a.attname::text, format_type(a.atttypid, a.atttypmod), NOT a.attnotnull, d.description,
       EXISTS (SELECT FROM pg_index i WHERE i.indrelid = c.oid AND i.indisprimary AND a.attnum = ANY(i.indkey))
  FROM unnest(%s::text[], %s::text[]) AS wanted (schema, name)
  JOIN pg_namespace n ON n.nspname = wanted.schema
  JOIN pg_class c ON c.relname = wanted.name AND c.relnamespace = n.oid
  JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
  LEFT JOIN pg_description d ON d.objoid = c.oid AND d.classoid = 'pg_class'::regclass AND d.objsubid = a.attnum
 ORDER BY c.relname, a.attnum
"""


def live_tables(databases: TenantDatabases, tenant: Tenant, schema: TenantSchema, *, with_raw: bool) -> LiveTables:
    """The tenant's readable relations, of the raw schema only `with_raw`. Blocks; raises as `TenantDatabases.connection`."""
    schemas = (schema.marts, schema.raw) if with_raw else (schema.marts,)
    with databases.connection(tenant, schema) as connection:
        with connection.cursor(row_factory=class_row(Relation)) as cursor:
            rows = cursor.execute(_RELATIONS, [list(schemas), schema.ro]).fetchall()
        set_aside = rejected.read(connection, schema)
    # The loader's own bookkeeping is nobody's table; in a clash of names the mart is what an unqualified name means.
    readable = [row for row in rows if row.schema == schema.marts or row.name.startswith("raw_")]
    by_name = {row.name: _interned(row) for row in sorted(readable, key=lambda row: row.schema == schema.marts)}
    return LiveTables(schema, schemas, dict(sorted(by_name.items())), set_aside)


def columns_of(connection: Connection, live: LiveTables, names: Sequence[str]) -> dict[str, list[Column]]:
    """Columns of the named relations, in their order, over a connection of `TenantDatabases`. Blocks."""
    found: dict[str, list[Column]] = {name: [] for name in names}
    known = column_records.read(connection, live.schema, names)
    places = [live.relations[name].schema for name in names]
    for table, name, type_, nullable, comment, is_key in connection.execute(_COLUMNS, [places, list(names)]):
        facts = dict(known.get(table, {}).get(name, {}))
        found[table].append(Column(table, sys.intern(name), sql_type(type_), nullable, comment, is_key, facts))
    return found


def _interned(relation: Relation) -> Relation:
    """Column names are the same in many tables and tenants, and are stored once for all of them."""
    return replace(relation, columns=tuple(sys.intern(name) for name in relation.columns))
