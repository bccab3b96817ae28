"""Who owns a server that has our logins already? A HOME changes nothing on a server that another HOME set up.

Each login's comment holds a mark of its password, so that a HOME recognizes its own logins without logging in.
"""

import hashlib
from collections.abc import Iterable
from contextlib import closing

from explorer.core.settings import Settings
from explorer.postgres.connections import (
    EXPLORER_DB,
    SERVICE_LOGINS,
    SERVICE_ROLE,
    Connection,
    Login,
    parse_admin_url,
)
from explorer.postgres.errors import DatabaseOwnedElsewhere, DatabaseUnreachable
from explorer.postgres.state import ConnectionRecord, read_record


def refuse_without_passwords(settings: Settings, database_url: str) -> None:
    """Refuse a server that has the logins when this HOME has no passwords. Raises DatabaseOwnedElsewhere."""
    admin = parse_admin_url(database_url)
    with closing(admin.connect(autocommit=True)) as conn:
        logins = _logins(conn)
    # Read after the server was asked: the passwords are always written before the logins are made.
    record = read_record(settings.home) or ConnectionRecord()
    if logins and not all(record.roles.get(role) for role in SERVICE_LOGINS):
        raise _owned_elsewhere(admin, logins)


def refuse_strangers(conn: Connection, admin: Login, passwords: dict[str, str]) -> None:
    """Refuse a server whose logins have other passwords: they belong to another HOME or another program."""
    logins = _logins(conn)
    if all(mark == password_mark(role, passwords[role]) for role, mark in logins.items()):
        return
    # Logins of versions without marks: if one can log in, the passwords are ours.
    service = admin.to(user=SERVICE_ROLE, password=passwords[SERVICE_ROLE], dbname=EXPLORER_DB)
    try:
        service.connect().close()
    except DatabaseUnreachable:
        raise _owned_elsewhere(admin, logins) from None


def _logins(conn: Connection) -> dict[str, str | None]:
    """The existing service logins, each with the mark of its password."""
    rows = conn.execute(
        "SELECT rolname, shobj_description(oid, 'pg_authid') FROM pg_roles WHERE rolname = ANY(%s)",
        [list(SERVICE_LOGINS)],
    ).fetchall()
    return dict(rows)


def password_mark(role: str, password: str) -> str:
    """A mark that is equal for equal passwords. They have 192 random bits, so that a hash reveals nothing."""
    return f"explorer {hashlib.sha256(f'{role} {password}'.encode()).hexdigest()[:32]}"


def _owned_elsewhere(admin: Login, logins: Iterable[str]) -> DatabaseOwnedElsewhere:
    return DatabaseOwnedElsewhere(
        f"The server {admin.host}:{admin.port} has the logins {', '.join(sorted(logins))} already, and this HOME does not know "
        "their passwords: another HOME set it up. Nothing was changed.",
        next_step="Bring connection.json and secret.keys (or EXPLORER_SECRET_KEYS) from that HOME. Only if it is gone for good, "
        "`explorer db upgrade --take-over` gives the logins new passwords; whoever holds the old ones is locked out then.",
    )
