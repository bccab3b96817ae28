"""How do a tenant's bookkeeping tables get this version? The next writer makes them or upgrades them in place.

An upgrade deletes nothing but what the next run makes again. Readers change nothing and read older tables as they are.
"""

from psycopg import sql

from explorer.contract.bookkeeping.definitions import Connection, TableSet
from explorer.core.errors import ExplorerError


class BookkeepingTooNew(ExplorerError):
    """A later version of the platform wrote the tables."""

    code = "bookkeeping_too_new"


def upgrade(connection: Connection, schema: str, tables: TableSet) -> None:
    """Make missing tables in `schema` and upgrade the others, in one transaction.

    Raises:
        BookkeepingTooNew: a later version of the platform wrote them.
    """
    there = _there(connection, schema, tables)
    if {tables.version_table, *tables.columns} <= there and _version(connection, schema, tables) == tables.version:
        return
    with connection.transaction():
        connection.execute(
            "select pg_advisory_xact_lock(hashtextextended(%s, 0))", [f"{schema}.{tables.version_table}"]
        )
        there = _there(connection, schema, tables)
        version = _version(connection, schema, tables) if tables.version_table in there else 0
        if version > tables.version:
            raise BookkeepingTooNew(
                f"The bookkeeping tables of {schema} are of version {version}; this version of the platform knows"
                f" {tables.version}.",
                next_step="Run the version of the platform that wrote them, or a later one.",
            )
        for migrate in tables.migrations[version:]:
            migrate(connection, schema, there)
        for table, columns in tables.columns.items():
            make = sql.SQL("create table if not exists {} (" + columns + ")")
            connection.execute(make.format(sql.Identifier(schema, table)))
        _set_version(connection, schema, tables)


def is_there(connection: Connection, place: sql.Identifier) -> bool:
    """Whether such a table exists, which readers cannot make."""
    found = connection.execute("select to_regclass(%s) is not null", [place.as_string(connection)]).fetchone()
    return found == (True,)


def _set_version(connection: Connection, schema: str, tables: TableSet) -> None:
    place = sql.Identifier(schema, tables.version_table)
    make = "create table if not exists {} (version integer not null, upgraded_at timestamptz not null default now())"
    connection.execute(sql.SQL(make).format(place))
    connection.execute(sql.SQL("delete from {}").format(place))
    connection.execute(sql.SQL("insert into {} (version) values (%s)").format(place), [tables.version])


def _there(connection: Connection, schema: str, tables: TableSet) -> set[str]:
    """Names of existing tables of the schema that are, or once were, bookkeeping."""
    query = (
        "select relname::text from pg_class where relnamespace = to_regnamespace(%s) and relkind = 'r'"
        " and (relname like 'explorer\\_%%' or relname like '\\_explorer\\_%%')"
    )
    return {name for (name,) in connection.execute(query, [schema])}


def _version(connection: Connection, schema: str, tables: TableSet) -> int:
    query = sql.SQL("select coalesce(max(version), 0) from {}").format(sql.Identifier(schema, tables.version_table))
    row = connection.execute(query).fetchone()
    return row[0] if row else 0
