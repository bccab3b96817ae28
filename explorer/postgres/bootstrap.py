"""Makes a PostgreSQL server, embedded or external, ready for the platform: databases, service logins, rights, hardening.

| made | what for |
| database `explorer` | tenants' schemas and schema `catalog`; hardened |
| schema `casts` there | functions that convert texts to typed values (casts.sql), for everybody |
| database `dagster` | Dagster's own storage, apart because tenants must not reach it |
| login `explorer_catalog` | owns schema `catalog`, runs its migrations |
| login `explorer_service` | bridge and workers; may use what the migrations grant it, sees no tenant's tables |
| login `dagster` | owns database `dagster` |
| role `explorer_audit` | owns schema `audit`; nobody logs in as it |
| group `dp_catalog` | reads the system catalogs; services, loaders and dbt are in it, agents' logins are not |

The migrations make tables, `provisioning` makes tenants.
"""

import hashlib
import logging
import secrets
from contextlib import closing
from functools import partial
from importlib.resources import files

import psycopg
from psycopg import sql

from explorer.core.errors import SettingsInvalid
from explorer.core.home import make_home
from explorer.core.settings import Settings
from explorer.postgres.audit_schema import AUDIT_SQL, make_audit_schema
from explorer.postgres.connections import (
    CATALOG_ROLE,
    DAGSTER_DB,
    DAGSTER_ROLE,
    EXPLORER_DB,
    SERVICE_LOGINS,
    SERVICE_ROLE,
    Connection,
    Connections,
    Login,
    admin_login,
    connections_from,
    given_passwords,
    load_connections,
    parse_admin_url,
)
from explorer.postgres.embedded import EmbeddedPostgres, embedded_from
from explorer.postgres.errors import DatabaseSetupFailed
from explorer.postgres.hardening import CATALOG_GROUP, HardeningReport, check_hardening, harden
from explorer.postgres.ownership import password_mark, refuse_strangers, refuse_without_passwords
from explorer.postgres.roles import ensure_role, grant_membership, may_grant, own_role, set_password
from explorer.postgres.state import ConnectionRecord, update_record

CATALOG_SCHEMA = "catalog"
_CASTS = "casts.sql"
OLDEST_SERVER = 150000
# Raise this when the module makes something new, so that existing servers are set up again.
VERSION = 3

log = logging.getLogger(__name__)


def ensure_database(
    settings: Settings, *, server: EmbeddedPostgres | None = None, take_over: bool = False
) -> Connections:
    """Start the embedded server unless an external one is configured or it runs already. Set the server up unless that was done.

    `server` replaces the one of the settings. An external server that another HOME set up is refused unless `take_over`; the
    embedded one belongs to its HOME. Safe to call from several processes.

    Raises:
        DatabaseOwnedElsewhere, PostgresNotStartable, DatabaseNotReady, DatabaseUnreachable, DatabaseSetupFailed, SettingsInvalid.
    """
    make_home(settings.home)
    if (given := given_passwords(settings)) is not None:
        return _with_given(settings, given, take_over=take_over)
    if settings.database_url is None:
        (server or embedded_from(settings)).start()
        take_over = True
    elif not take_over:
        refuse_without_passwords(settings, settings.database_url.get_secret_value())

    def add_passwords(record: ConnectionRecord) -> None:
        for role in SERVICE_LOGINS:
            record.roles.setdefault(role, secrets.token_urlsafe(24))

    # Written before the server has them, so that the next call repairs a crash in between.
    record = update_record(settings.home, add_passwords)
    admin = admin_login(settings, record)
    report = bootstrap(admin, record.roles, take_over=take_over)
    if report is not None and not report.complete:
        log.warning(report.summary())
    if settings.database_url is not None:
        # Not sooner: a refused HOME keeps its server.
        record = update_record(settings.home, partial(_note_external, admin))
    return connections_from(admin, record)


def _with_given(settings: Settings, passwords: dict[str, str], *, take_over: bool) -> Connections:
    """Set the server up with passwords of the settings; HOME keeps nothing."""
    if settings.database_url is None:
        raise SettingsInvalid(
            "EXPLORER_CATALOG_URL is set, but not EXPLORER_DATABASE_URL, with which alone a server is set up.",
            next_step="Set it in this process, or set the server up where it is set.",
        )
    report = bootstrap(parse_admin_url(settings.database_url.get_secret_value()), passwords, take_over=take_over)
    if report is not None and not report.complete:
        log.warning(report.summary())
    return load_connections(settings)


def _note_external(admin: Login, record: ConnectionRecord) -> None:
    """For processes without the administrator's login."""
    record.mode = "external"
    record.host, record.port, record.options = admin.host, admin.port, dict(admin.options)


def bootstrap(admin: Login, passwords: dict[str, str], *, take_over: bool = False) -> HardeningReport | None:
    """Set up the server of `admin`; None when it was set up already (one connection, a few milliseconds).

    `passwords` holds one per name in SERVICE_LOGINS. Existing logins with other passwords stay, unless `take_over` gives them
    these. `admin` is a superuser, or a login with CREATEROLE and CREATEDB: then the returned report says what stays exposed.

    Raises:
        DatabaseOwnedElsewhere, DatabaseUnreachable, DatabaseSetupFailed.
    """
    stamp = _stamp(passwords)
    with closing(admin.connect(autocommit=True)) as conn:
        if _is_stamped(conn, stamp):
            return None
        _check_server(conn)
        try:
            # A session lock in the maintenance database, since CREATE DATABASE cannot run in a transaction.
            conn.execute("SELECT pg_advisory_lock(hashtext('explorer.bootstrap'))")
            if _is_stamped(conn, stamp):
                return None
            if not take_over:
                refuse_strangers(conn, admin, passwords)
            with conn.transaction():
                _make_roles(conn, passwords)
            _make_databases(conn)
            with closing(admin.to(user=admin.user, password=admin.password, dbname=EXPLORER_DB).connect()) as explorer:
                report = _set_up_explorer(explorer)
            conn.execute(sql.SQL("COMMENT ON DATABASE {} IS {}").format(
                sql.Identifier(EXPLORER_DB), sql.Literal(f"{stamp} on {conn.info.server_version // 10000}")))  # fmt: skip
            return report
        except psycopg.Error as error:
            raise DatabaseSetupFailed(
                f"The database could not be set up as {admin.user}: {error.diag.message_primary or type(error).__name__}.",
                next_step="Use a superuser's login, or one with CREATEROLE and CREATEDB.",
                details={"sqlstate": error.sqlstate},
            ) from error


def _stamp(passwords: dict[str, str]) -> str:
    """A hash of everything that a set-up server must have: this module, the hardening, the casts, the audit trail, the passwords.

    The passwords have 192 random bits each, so that their hash reveals nothing.
    """
    made_of = b"".join(files(__package__).joinpath(name).read_bytes() for name in ("exposed.sql", _CASTS, AUDIT_SQL))
    content = made_of + repr(sorted(passwords.items())).encode()
    return f"explorer setup {VERSION} {hashlib.sha256(content).hexdigest()[:32]}"


def _is_stamped(conn: Connection, stamp: str) -> bool:
    row = conn.execute(
        "SELECT shobj_description(oid, 'pg_database') = %s || ' on ' || current_setting('server_version_num')::int / 10000"
        " FROM pg_database WHERE datname = %s",
        [stamp, EXPLORER_DB],
    ).fetchone()
    return row == (True,)


def _check_server(conn: Connection) -> None:
    version = conn.info.server_version
    if version < OLDEST_SERVER:
        raise DatabaseSetupFailed(
            f"The server is PostgreSQL {version // 10000}; 15 or newer is needed.",
            next_step="Upgrade it, or use the embedded server by leaving EXPLORER_DATABASE_URL empty.",
        )
    row = conn.execute(
        "SELECT rolsuper, rolcreaterole AND rolcreatedb FROM pg_roles WHERE rolname = current_user"
    ).fetchone()
    superuser, can_create = row or (False, False)
    if not superuser and not can_create:
        raise DatabaseSetupFailed(
            f"The login {conn.info.user} may not create roles and databases on this server.",
            next_step="Use a superuser, or a login with CREATEROLE and CREATEDB.",
        )


def _make_roles(conn: Connection, passwords: dict[str, str]) -> None:
    ensure_role(conn, CATALOG_GROUP)
    for role in SERVICE_LOGINS:
        ensure_role(conn, role)
        set_password(conn, role, passwords[role])
        grant_membership(conn, CATALOG_GROUP, role)
        own_role(conn, role)
        conn.execute(sql.SQL("COMMENT ON ROLE {} IS {}").format(
            sql.Identifier(role), sql.Literal(password_mark(role, passwords[role]))))  # fmt: skip
    if may_grant(conn, "pg_use_reserved_connections"):
        for role in SERVICE_LOGINS:
            grant_membership(conn, "pg_use_reserved_connections", role)
    # The query path ends agents' sessions that outlive their time limit.
    if may_grant(conn, "pg_signal_backend"):
        grant_membership(conn, "pg_signal_backend", SERVICE_ROLE)


def _make_databases(conn: Connection) -> None:
    for name, owner in ((EXPLORER_DB, None), (DAGSTER_DB, DAGSTER_ROLE)):
        if conn.execute("SELECT FROM pg_database WHERE datname = %s", [name]).fetchone() is None:
            statement = sql.SQL("CREATE DATABASE {} TEMPLATE template0 ENCODING 'UTF8'").format(sql.Identifier(name))
            if owner:
                statement += sql.SQL(" OWNER {}").format(sql.Identifier(owner))
            conn.execute(statement)
    # On a managed server we may not close postgres and template1; the report then names them.
    closable = conn.execute(
        "SELECT datname FROM pg_database WHERE datname = ANY(%s) AND pg_has_role(datdba, 'USAGE')",
        [["postgres", "template1", DAGSTER_DB]],
    ).fetchall()
    for (name,) in closable:
        conn.execute(sql.SQL("REVOKE ALL ON DATABASE {} FROM PUBLIC").format(sql.Identifier(name)))


def _set_up_explorer(conn: Connection) -> HardeningReport:
    with conn.transaction():
        report = harden(conn)
        conn.execute(sql.SQL("GRANT CONNECT, TEMPORARY ON DATABASE {} TO {}").format(
            sql.Identifier(EXPLORER_DB), sql.Identifier(CATALOG_GROUP)))  # fmt: skip
        conn.execute("SET LOCAL client_min_messages = warning")
        conn.execute(files(__package__).joinpath(_CASTS).read_bytes())
        schema, owner, service = (sql.Identifier(name) for name in (CATALOG_SCHEMA, CATALOG_ROLE, SERVICE_ROLE))
        conn.execute(sql.SQL("CREATE SCHEMA IF NOT EXISTS {} AUTHORIZATION {}").format(schema, owner))
        conn.execute(sql.SQL("GRANT USAGE ON SCHEMA {} TO {}").format(schema, service))
        for role in (owner, service):
            conn.execute(sql.SQL("ALTER ROLE {} IN DATABASE {} SET search_path = {}").format(
                role, sql.Identifier(EXPLORER_DB), schema))  # fmt: skip
        make_audit_schema(conn)
    # Again: the report's first look came before the rights on the other databases were taken away.
    return report if report.complete else check_hardening(conn)
