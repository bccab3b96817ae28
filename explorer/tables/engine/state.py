"""Which tables does a tenant have now, and when did its raw tables last change?"""

from collections.abc import Collection, Mapping, Sequence

from psycopg import sql

from explorer.contract.bookkeeping import builds as build_records
from explorer.contract.bookkeeping import loads
from explorer.contract.bookkeeping.builds import Build
from explorer.contract.schemas import TenantSchemas
from explorer.postgres.connections import Connection
from explorer.postgres.relations import columns

ColumnTypes = Mapping[str, Sequence[tuple[str, str]]]


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


def builds(connection: Connection, schemas: TenantSchemas) -> dict[str, Build]:
    """The last build of each existing table of the marts schema."""
    rows = connection.execute(
        "select c.relname, c.oid::bigint from pg_class c where c.relnamespace = to_regnamespace(%s) and c.relkind = 'r'",
        [schemas.marts],
    )
    oids: dict[str, int] = dict(rows.fetchall())
    recorded = build_records.read(connection, schemas)
    return {name: build for name, build in recorded.items() if build.relation == oids.get(name)}


def column_types(connection: Connection, schemas: TenantSchemas) -> ColumnTypes:
    """The columns of each relation of the marts schema in order: name and type."""
    return columns(connection, [schemas.marts]).get(schemas.marts, {})
