"""Making and limiting database roles: steps that setup, hardening and tenants share. All need an administrator's connection."""

from psycopg import sql

from explorer.postgres.connections import Connection

# Since then roles have `scram_iterations`, memberships can be without the right to become the group, and CREATEROLE reaches only
# roles that one is an administrator of; before, every role that is no superuser.
_SINCE_16 = 160000


def has_role(conn: Connection, role: str) -> bool:
    """Whether the server has a role with this name."""
    return conn.execute("SELECT FROM pg_roles WHERE rolname = %s", [role]).fetchone() is not None


def is_superuser(conn: Connection) -> bool:
    """Whether the connection's own role is one."""
    return conn.execute("SELECT rolsuper FROM pg_roles WHERE rolname = current_user").fetchone() == (True,)


def ensure_role(conn: Connection, name: str) -> None:
    """Make a NOLOGIN role unless it exists."""
    if not has_role(conn, name):
        conn.execute(sql.SQL("CREATE ROLE {} NOLOGIN").format(sql.Identifier(name)))


def set_password(conn: Connection, role: str, password: str) -> None:
    """Make `role` a plain login with `password`; only its SCRAM verifier is sent, so that no log can contain the password.

    One iteration: more would slow down guessing, which 128 random bits do not need, and every login by 10 ms.
    """
    if conn.info.server_version >= _SINCE_16:
        conn.execute("SET scram_iterations = 1")
    verifier = conn.pgconn.encrypt_password(password.encode(), role.encode(), b"scram-sha-256").decode()
    conn.execute(sql.SQL("ALTER ROLE {} LOGIN PASSWORD {}").format(sql.Identifier(role), sql.Literal(verifier)))


def grant_membership(conn: Connection, group: str, role: str) -> None:
    """Put `role` into `group`: it gets the group's rights but, on servers that distinguish the two (16+), cannot become it."""
    options = " WITH INHERIT TRUE, SET FALSE" if conn.info.server_version >= _SINCE_16 else ""
    conn.execute(sql.SQL("GRANT {} TO {}" + options).format(sql.Identifier(group), sql.Identifier(role)))


def own_role(conn: Connection, role: str) -> None:
    """Let an administrator who is no superuser make and drop objects of `role`."""
    if not is_superuser(conn):
        options = " WITH INHERIT TRUE, SET TRUE" if conn.info.server_version >= _SINCE_16 else ""
        conn.execute(sql.SQL("GRANT {} TO CURRENT_USER" + options).format(sql.Identifier(role)))


def may_grant(conn: Connection, group: str) -> bool:
    """Whether the connection's role may put other roles into `group`."""
    row = conn.execute(
        "SELECT pg_has_role(me.oid, g.oid, 'USAGE WITH ADMIN OPTION') OR (%s AND me.rolcreaterole)"
        " FROM pg_roles me, pg_roles g WHERE me.rolname = current_user AND g.rolname = %s",
        [conn.info.server_version < _SINCE_16, group],
    ).fetchone()
    return row == (True,)
