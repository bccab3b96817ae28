"""Which tables does a tenant have right now, and what do they look like? Read live from the database's catalogs.

The reader's login cannot see the catalogs, so these fixed statements run as the tenant's loader login in a read-only transaction;
nothing that a caller wrote is ever part of them. What filled the tables and when is Dagster's knowledge (`tables`).
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from psycopg.rows import class_row

from explorer_dagster.catalog import Tenant, TenantSchema
from mcp_bridge.bridge import Bridge


@dataclass(frozen=True)
class Relation:
    """A table or view. `estimate`: PostgreSQL's own guess of its rows, None when it has not looked yet."""

    schema: str
    name: str
    is_view: bool
    comment: str | None
    estimate: int | None


@dataclass(frozen=True)
class Column:
    """A live column. `null_share` (0..1) and `distinct` are the server's statistics, None before it gathered any."""

    table: str
    name: str
    type: str
    nullable: bool
    comment: str | None
    in_primary_key: bool
    null_share: float | None
    distinct: int | None


@dataclass(frozen=True)
class LiveTables:
    """The relations that the tenant's agents may read, by name, and the schemas they lie in."""

    schema: TenantSchema
    schemas: tuple[str, ...]
    relations: dict[str, Relation]

    def names_by_schema(self) -> dict[str, frozenset[str]]:
        """What the SQL validator accepts."""
        return {
            schema: frozenset(relation.name for relation in self.relations.values() if relation.schema == schema)
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


_RELATIONS = """
SELECT n.nspname AS schema, c.relname AS name, c.relkind IN ('v', 'm') AS is_view, obj_description(c.oid, 'pg_class') AS comment,
       CASE WHEN c.reltuples >= 0 THEN c.reltuples::bigint END AS estimate
  FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
 WHERE n.nspname = ANY(%s) AND c.relkind IN ('r', 'p', 'v', 'm') AND has_table_privilege(%s, c.oid, 'SELECT')
 ORDER BY c.relname
"""
_COLUMNS = """
SELECT c.relname AS table, a.attname AS name, format_type(a.atttypid, a.atttypmod) AS type, NOT a.attnotnull AS nullable,
       col_description(c.oid, a.attnum) AS comment,
       EXISTS (SELECT FROM pg_index i WHERE i.indrelid = c.oid AND i.indisprimary AND a.attnum = ANY(i.indkey)) AS in_primary_key,
       s.null_frac AS null_share,
       CASE WHEN s.n_distinct >= 0 THEN s.n_distinct ELSE -s.n_distinct * greatest(c.reltuples, 0) END::bigint AS distinct
  FROM pg_class c
  JOIN pg_namespace n ON n.oid = c.relnamespace
  JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
  LEFT JOIN pg_stats s ON s.schemaname = n.nspname AND s.tablename = c.relname AND s.attname = a.attname
 WHERE n.nspname = ANY(%s) AND c.relname = ANY(%s)
 ORDER BY c.relname, a.attnum
"""


_TYPES = """
SELECT n.nspname, c.relname, a.attname, format_type(a.atttypid, a.atttypmod)
  FROM pg_class c
  JOIN pg_namespace n ON n.oid = c.relnamespace
  JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
 WHERE n.nspname = ANY(%s) AND c.relkind IN ('r', 'p', 'v', 'm')
 ORDER BY 1, 2, a.attnum
"""


def live_tables(bridge: Bridge, tenant: Tenant) -> LiveTables:
    """The tenant's readable relations. Blocks.

    Raises:
        SchemaAbsent: the tenant has no schemas at present.
        DatabaseUnreachable, CatalogUnavailable.
    """
    catalog = bridge.catalog
    login = catalog.schemas.rw_login(tenant)
    schema = catalog.schemas.get(tenant)
    schemas = (schema.marts, schema.raw) if bridge.settings.expose_raw else (schema.marts,)
    with bridge.connections.tenant(login.user, login.password).connect() as connection:
        connection.read_only = True
        with connection.cursor(row_factory=class_row(Relation)) as cursor:
            rows = cursor.execute(_RELATIONS, [list(schemas), f"{schema.prefix}_ro"]).fetchall()
    # The loader's own bookkeeping is nobody's table; in a clash of names the mart is what an unqualified name means.
    kept = [row for row in rows if row.schema == schema.marts or row.name.startswith("raw_")]
    by_name = {row.name: row for row in sorted(kept, key=lambda row: row.schema == schema.marts)}
    return LiveTables(schema, schemas, dict(sorted(by_name.items())))


def live_columns(bridge: Bridge, tenant: Tenant, live: LiveTables, names: Sequence[str]) -> dict[str, list[Column]]:
    """Columns of the named relations, in their order. Blocks; raises as `live_tables`."""
    login = bridge.catalog.schemas.rw_login(tenant)
    found: dict[str, list[Column]] = {name: [] for name in names}
    schemas = sorted({live.relations[name].schema for name in names})
    with bridge.connections.tenant(login.user, login.password).connect() as connection:
        connection.read_only = True
        with connection.cursor(row_factory=class_row(Column)) as cursor:
            for column in cursor.execute(_COLUMNS, [schemas, list(names)]):
                found[column.table].append(replace(column, type=sql_type(column.type)))
    return found


def column_types(bridge: Bridge, tenant: Tenant) -> dict[str, dict[str, dict[str, str]]]:
    """Every relation of the tenant's raw, staging and mart schemas: `{schema: {relation: {column: type}}}`. Blocks.

    For reading lineage out of SQL only; agents may not see all of it.
    """
    schema = bridge.catalog.schemas.get(tenant)
    login = bridge.catalog.schemas.rw_login(tenant)
    found: dict[str, dict[str, dict[str, str]]] = {}
    with bridge.connections.tenant(login.user, login.password).connect() as connection:
        connection.read_only = True
        for place, relation, column, type_ in connection.execute(_TYPES, [[schema.raw, schema.staging, schema.marts]]):
            found.setdefault(place, {}).setdefault(relation, {})[column] = type_
    return found
