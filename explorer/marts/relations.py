"""Which tables and views does a tenant have now, and when did its raw tables last change?"""

from collections.abc import Collection

from psycopg import sql

from explorer.contract.bookkeeping import loads
from explorer.contract.schemas import TenantSchemas
from explorer.postgres.connections import Connection


def raw_versions(connection: Connection, schemas: TenantSchemas, tables: Collection[str]) -> dict[str, str]:
    """The time of the latest load that changed each existing raw table: from the loader's records, else from the rows."""
    there = connection.execute(
        "select tablename from pg_tables where schemaname = %s and tablename = any(%s)", [schemas.raw, list(tables)]
    ).fetchall()
    names = {name for (name,) in there}
    versions = {table: moment for table, moment in loads.changes(connection, schemas.raw).items() if table in names}
    for table in names - versions.keys():
        query = sql.SQL("select coalesce(greatest(max(_loaded_at), max(_deleted_at)), 'epoch')::text from {}").format(
            sql.Identifier(schemas.raw, table)
        )
        row = connection.execute(query).fetchone()
        versions[table] = str(row[0]) if row else ""
    return versions


def raw_relations(connection: Connection, schemas: TenantSchemas) -> frozenset[str]:
    """The raw tables, each as `<name> <oid>`."""
    query = (
        "select c.relname || ' ' || c.oid from pg_class c where c.relnamespace = to_regnamespace(%s)"
        " and c.relkind in ('r', 'p') and c.relname like 'raw\\_%%'"
    )
    return frozenset(name for (name,) in connection.execute(query, [schemas.raw]))


def oids(connection: Connection, schemas: TenantSchemas) -> dict[tuple[str, str], int]:
    """Of the tables and views of staging and marts, by schema and name."""
    rows = connection.execute(
        "select n.nspname, c.relname, c.oid::bigint from pg_class c join pg_namespace n on n.oid = c.relnamespace"
        " where n.nspname = any(%s) and c.relkind in ('r', 'v')",
        [[schemas.staging, schemas.marts]],
    )
    return {(schema, name): oid for schema, name, oid in rows}
