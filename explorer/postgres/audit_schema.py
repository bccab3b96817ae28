"""Where does the audit trail lie? In schema `audit`, which belongs to a role that nobody logs in as (`audit.sql`)."""

from collections.abc import Iterator
from contextlib import contextmanager
from importlib.resources import files

from psycopg import sql

from explorer.postgres.connections import Connection
from explorer.postgres.hardening import CATALOG_GROUP
from explorer.postgres.roles import ensure_role, grant_membership, is_superuser, own_role

AUDIT_SQL = "audit.sql"
AUDIT_SCHEMA = "audit"
AUDIT_ROLE = "explorer_audit"


def make_audit_schema(conn: Connection) -> None:
    """Make the role, the schema and what is in it, or bring it to this version's state; entries stay. Within the caller's
    transaction, with an administrator's connection to the database that has the catalog."""
    schema, role = sql.Identifier(AUDIT_SCHEMA), sql.Identifier(AUDIT_ROLE)
    ensure_role(conn, AUDIT_ROLE)
    conn.execute(sql.SQL("ALTER ROLE {} NOLOGIN PASSWORD NULL").format(role))
    grant_membership(conn, CATALOG_GROUP, AUDIT_ROLE)
    conn.execute("SET LOCAL client_min_messages = warning")
    with _as_owner(conn):
        conn.execute(sql.SQL("CREATE SCHEMA IF NOT EXISTS {} AUTHORIZATION {}").format(schema, role))
        conn.execute(sql.SQL("SET LOCAL ROLE {}").format(role))
        conn.execute(files(__package__).joinpath(AUDIT_SQL).read_bytes())
        conn.execute("RESET ROLE")


@contextmanager
def _as_owner(conn: Connection) -> Iterator[None]:
    """An administrator who is no superuser is a member of the role in this block only."""
    own_role(conn, AUDIT_ROLE)
    yield
    if not is_superuser(conn):
        conn.execute(sql.SQL("REVOKE {} FROM CURRENT_USER").format(sql.Identifier(AUDIT_ROLE)))
