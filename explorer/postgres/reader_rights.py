"""Which columns may the login of a tenant's agents read? All of them, or all but some that are withheld.

The functions run as the login that owns the tables: the tenant's rw login, or that of its saved models. A table
that is made while columns are withheld can be read by nobody until `withhold` was called again; a table that is swapped keeps
the rights of the one before, column by column (`keep_rights`), so that readers see no gap.
"""

from collections.abc import Mapping, Sequence, Set

from psycopg import sql

from explorer.contract.schemas import TenantSchemas
from explorer.postgres.connections import Connection

_Readable = tuple[str, str, bool, list[str], list[str] | None]
"""Schema, name, whether the whole relation may be read, its columns, and those that may be read."""

_WITHHELD = "NOT has_table_privilege(%(reader)s, c.oid, 'SELECT')"
_RELATIONS = """
SELECT n.nspname::text, c.relname::text, has_table_privilege(%(reader)s, c.oid, 'SELECT'),
       array_agg(a.attname::text ORDER BY a.attnum),
       array_agg(a.attname::text) FILTER (WHERE has_column_privilege(%(reader)s, c.oid, a.attnum, 'SELECT'))
  FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
  JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
 WHERE n.nspname = ANY(%(schemas)s) AND c.relkind IN ('r', 'p', 'v', 'm') {only}
 GROUP BY n.nspname, c.relname, c.oid ORDER BY 1, 2
"""


def open_all(connection: Connection, schemas: TenantSchemas, places: Sequence[str]) -> bool:
    """Let agents read all columns in the schemas `places`, also of later tables. Returns whether anything changed."""
    with connection.transaction():
        closed = _relations(connection, schemas, places, sql.SQL("AND " + _WITHHELD))
        if not closed and _is_open_for_new(connection, schemas):
            return False
        _for_new_tables(connection, schemas, "GRANT SELECT ON TABLES TO")
        for schema, name, *_ in closed:
            _change(connection, "GRANT SELECT ON {} TO {}", sql.Identifier(schema, name), schemas)
    return True


def withhold(
    connection: Connection, schemas: TenantSchemas, places: Sequence[str], hidden: Mapping[str, Set[str]]
) -> bool:
    """Let agents read all columns in the schemas `places` but those `hidden`, by relation. Returns whether anything changed."""
    changed = False
    with connection.transaction():
        if _is_open_for_new(connection, schemas):
            _for_new_tables(connection, schemas, "REVOKE SELECT ON TABLES FROM")
            changed = True
        for schema, name, is_whole, columns, readable in _relations(connection, schemas, places, sql.SQL("")):
            allowed = [column for column in columns if column not in hidden.get(name, ())]
            if not is_whole and set(readable or ()) == set(allowed):
                continue
            place = sql.Identifier(schema, name)
            # Revoked for the table, a right is revoked for its columns too.
            _change(connection, "REVOKE SELECT ON {} FROM {}", place, schemas)
            if allowed:
                these = sql.SQL(", ").join(map(sql.Identifier, allowed))
                grant = sql.SQL("GRANT SELECT ({}) ON {{}} TO {{}}").format(these).as_string(connection)
                _change(connection, grant, place, schemas)
            changed = True
    return changed


# The changes that give a new table the rights to read that the old one has.
_DIFFERING = """
WITH held AS (
    SELECT c.oid, NULL AS attname, acl.grantee FROM pg_class c CROSS JOIN aclexplode(c.relacl) acl
     WHERE c.oid IN (%(old)s::regclass, %(new)s::regclass) AND acl.privilege_type = 'SELECT'
       AND acl.grantee NOT IN (0, c.relowner)
     UNION ALL
    SELECT a.attrelid, a.attname, acl.grantee FROM pg_attribute a CROSS JOIN aclexplode(a.attacl) acl
     WHERE a.attrelid IN (%(old)s::regclass, %(new)s::regclass) AND acl.privilege_type = 'SELECT' AND NOT a.attisdropped
), lost AS (
    SELECT attname, grantee FROM held WHERE oid = %(new)s::regclass
    EXCEPT SELECT attname, grantee FROM held WHERE oid = %(old)s::regclass
), missing AS (
    SELECT attname, grantee FROM held WHERE oid = %(old)s::regclass
    EXCEPT SELECT attname, grantee FROM held WHERE oid = %(new)s::regclass
)
SELECT format('REVOKE SELECT ON %%s FROM %%s', %(new)s::regclass, grantee::regrole) FROM lost WHERE attname IS NULL
UNION ALL
SELECT format('GRANT SELECT %%s ON %%s TO %%s', '(' || quote_ident(attname) || ')', %(new)s::regclass, grantee::regrole)
  FROM missing
 WHERE attname IS NULL OR EXISTS (
    SELECT FROM pg_attribute a WHERE a.attrelid = %(new)s::regclass AND a.attname = missing.attname AND NOT a.attisdropped)
"""


def keep_rights(connection: Connection, old: str, new: str) -> None:
    """Before a swap: whoever may read `old`, or some of its columns, may read as much of `new`, and nobody else may. Names as SQL
    has them, quoted. The dbt project's `swapped_table` does the same."""
    for (statement,) in connection.execute(_DIFFERING, {"old": old, "new": new}).fetchall():
        connection.execute(statement.encode())


def _relations(connection: Connection, schemas: TenantSchemas, places: Sequence[str], only: sql.SQL) -> list[_Readable]:
    values = {"reader": schemas.ro, "schemas": list(places)}
    return connection.execute(sql.SQL(_RELATIONS).format(only=only), values).fetchall()


def _is_open_for_new(connection: Connection, schemas: TenantSchemas) -> bool:
    """Whether a table that is made now can be read by agents."""
    row = connection.execute(
        "SELECT EXISTS (SELECT FROM pg_default_acl d CROSS JOIN aclexplode(d.defaclacl) a WHERE d.defaclobjtype = 'r'"
        " AND d.defaclnamespace = 0 AND d.defaclrole = current_user::regrole AND a.grantee = %s::regrole)",
        [schemas.ro],
    ).fetchone()
    return row == (True,)


def _for_new_tables(connection: Connection, schemas: TenantSchemas, change: str) -> None:
    statement = sql.SQL("ALTER DEFAULT PRIVILEGES {} {}").format(sql.SQL(change), sql.Identifier(schemas.ro))
    connection.execute(statement)


def _change(connection: Connection, statement: str, place: sql.Identifier, schemas: TenantSchemas) -> None:
    connection.execute(sql.SQL(statement).format(place, sql.Identifier(schemas.ro)))
