"""Which tables does a tenant have right now, and which columns? Read live from the database's catalogs.

The reader's login cannot see the catalogs, so these fixed statements run as the tenant's loader login in a read-only
transaction. They contain no text of a caller, and each is limited to the tenant's own schemas. `builds` tells which run made the
rows, `tables` adds what Dagster knows, and `columns.statistics` what PostgreSQL knows of the values.
"""

import sys
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

from psycopg.rows import class_row

from explorer.catalog import Tenant, TenantSchema
from explorer.contract.bookkeeping import columns as column_records
from explorer.contract.bookkeeping import kinds, rejected
from explorer.contract.bookkeeping.kinds import TableKind
from explorer.contract.bookkeeping.rejected import Rejected
from mcp_bridge.clients.loader_connections import Connection
from mcp_bridge.clients.tenant_databases import TenantDatabases
from mcp_bridge.facts.builds import TableBuild, builds_of


@dataclass(frozen=True)
class Relation:
    """A table or view. `estimate`: PostgreSQL's estimate of its rows, None before ANALYZE; `columns`: their names; `view_of`: the
    tables that a view reads, also through other views."""

    schema: str
    name: str
    comment: str | None
    estimate: int | None
    columns: tuple[str, ...] = ()
    view_of: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Column:
    """A live column. `facts`: the applications' description of it, `{path, question_type?, label?, translations?, options?}`;
    empty for columns that are neither a question nor a property."""

    table: str
    name: str
    type: str
    nullable: bool
    comment: str | None
    in_primary_key: bool
    facts: dict[str, Any] = field(default_factory=dict)

    @property
    def labels(self) -> list[str]:
        """The label of the question and its translations."""
        label = self.facts.get("label")
        return [*([label] if label else []), *self.facts.get("translations", {}).values()]


@dataclass(frozen=True)
class LiveTables:
    """The relations that the tenant's agents may read, by name, and their schemas.

    `rejected`: by source of the pipeline, the number of records that could not be loaded, and the most frequent reason. `builds`:
    how the tables came to their rows; `kinds`: of the tables that runs make, as far as they are recorded.
    """

    schema: TenantSchema
    schemas: tuple[str, ...]
    relations: dict[str, Relation]
    rejected: dict[str, Rejected] = field(default_factory=dict)
    builds: dict[str, TableBuild] = field(default_factory=dict)
    kinds: dict[str, TableKind] = field(default_factory=dict)

    @cached_property
    def columns_by_schema(self) -> dict[str, dict[str, tuple[str, ...]]]:
        """The names of relations and their columns by schema, as the SQL validator takes them."""
        return {
            schema: {
                relation.name: relation.columns for relation in self.relations.values() if relation.schema == schema
            }
            for schema in self.schemas
        }


# One spelling per type in all answers: the standard's name, except for those that everybody abbreviates; text is text, however it
# was made, unless its length is limited.
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
}
_VARYING = ("varchar", "character varying")


def sql_type(name: str) -> str:
    """The type's name as it is written in all answers. Arrays and lengths keep their brackets."""
    base, bracket, rest = name.partition("[") if name.endswith("[]") else name.partition("(")
    if base in _VARYING:
        base = "character varying" if bracket == "(" else "text"
    return _SQL_TYPES.get(base, base) + bracket + rest


# pg_depend leads from the schema to its relations. pg_class has no index by schema, and an instance may hold hundreds of
# thousands of tables.
_RELATIONS = """
SELECT n.nspname AS schema, c.relname AS name, obj_description(c.oid, 'pg_class') AS comment,
       CASE WHEN c.reltuples >= 0 THEN c.reltuples::bigint END AS estimate,
       ARRAY(SELECT a.attname::text FROM pg_attribute a
              WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped ORDER BY a.attnum) AS columns,
       CASE WHEN c.relkind <> 'v' THEN '{}' ELSE ARRAY(
         WITH RECURSIVE below (oid) AS (
           SELECT c.oid
            UNION
           SELECT read.refobjid FROM below JOIN pg_rewrite w ON w.ev_class = below.oid
             JOIN pg_depend read ON read.classid = 'pg_rewrite'::regclass AND read.objid = w.oid
              AND read.refclassid = 'pg_class'::regclass)
         SELECT t.relname::text FROM below JOIN pg_class t ON t.oid = below.oid WHERE t.relkind <> 'v' ORDER BY 1) END AS view_of
  FROM pg_namespace n
  JOIN pg_depend d ON d.refclassid = 'pg_namespace'::regclass AND d.refobjid = n.oid AND d.classid = 'pg_class'::regclass
  JOIN pg_class c ON c.oid = d.objid AND c.relnamespace = n.oid
 WHERE n.nspname = ANY(%s) AND c.relkind IN ('r', 'p', 'v', 'm') AND has_any_column_privilege(%s, c.oid, 'SELECT')
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
    """The tenant's readable relations; the raw schema's only `with_raw`. Blocks; raises as `TenantDatabases.connection`."""
    places = [schema.marts, schema.saved, *([schema.raw] if with_raw else [])]
    with databases.connection(tenant, schema) as connection:
        with connection.cursor(row_factory=class_row(Relation)) as cursor:
            rows = cursor.execute(_RELATIONS, [places, schema.ro]).fetchall()
        set_aside, builds = rejected.read(connection, schema), builds_of(connection, schema)
        known_kinds = kinds.read(connection, schema)
    # The loader's bookkeeping tables are left out. If relations have the same name, an unqualified name means the mart, then the
    # saved model.
    readable = [row for row in rows if row.schema != schema.raw or row.name.startswith("raw_")]
    by_name = {row.name: _interned(row) for row in sorted(readable, key=lambda row: -places.index(row.schema))}
    saved = any(row.schema == schema.saved for row in readable)
    schemas = tuple(place for place in places if place != schema.saved or saved)
    return LiveTables(schema, schemas, dict(sorted(by_name.items())), set_aside, builds, known_kinds)


def columns_of(connection: Connection, live: LiveTables, names: Sequence[str]) -> dict[str, list[Column]]:
    """The columns of the named relations, in table order, over a connection of `TenantDatabases`. Blocks."""
    found: dict[str, list[Column]] = {name: [] for name in names}
    known = column_records.read(connection, live.schema, names)
    places = [live.relations[name].schema for name in names]
    for table, name, type_, nullable, comment, is_key in connection.execute(_COLUMNS, [places, list(names)]):
        facts = dict(known.get(table, {}).get(name, {}))
        found[table].append(Column(table, sys.intern(name), sql_type(type_), nullable, comment, is_key, facts))
    return found


def _interned(relation: Relation) -> Relation:
    """The relation with interned column names: many tables and tenants share the same names."""
    return replace(relation, columns=tuple(sys.intern(name) for name in relation.columns))
