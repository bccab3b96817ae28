"""How does a tenant get, and lose, its place in the database?

A tenant is a random prefix (`t_<8 hex>`, never the customer's name, which error messages and casts would reveal). It owns

| `<prefix>_rw` | login of loader and dbt; owns the schemas; no CREATE on the database |
| `<prefix>_ro` | login of agents' queries; in no group, so that SET ROLE leads nowhere; reads the schemas with USAGE |
| `<prefix>_raw`, `<prefix>_raw_staging` | the loader's dataset and its staging dataset |
| `<prefix>_staging`, `<prefix>_marts` | dbt's models; only the marts are open to `_ro` |
| `<prefix>_saved` | from the first saved model on: login that builds them, and its schema. It reads what `_ro` may |

A workspace is a login `w_<8 hex>` that is a member of its tenants' `_ro` logins and has no other right. So it sees what they see:
a swapped table, no withheld column, nothing of a tenant that is gone.

All functions need an administrator's connection to database `explorer` in autocommit mode
(`Connections.admin.connect(autocommit=True)`), and each is all or nothing. The catalog knows which customer a prefix belongs to,
and stores the passwords.
"""

import re
import secrets
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager

import psycopg
from psycopg import sql

from explorer.contract.schemas import TenantSchemas
from explorer.postgres.connections import EXPLORER_DB, Connection
from explorer.postgres.errors import ProvisioningRefused
from explorer.postgres.hardening import CATALOG_GROUP
from explorer.postgres.roles import ensure_role, grant_membership, has_role, is_superuser, own_role, set_password

_PREFIX = re.compile(r"t_[0-9a-f]{8}")
_WORKSPACE = re.compile(r"w_[0-9a-f]{8}")
RW_CONNECTIONS = 12
SAVED_CONNECTIONS = 6
RO_CONNECTIONS = 4
# The query path lowers these per query. A reader cannot raise temp_file_limit, and has no function to lift the others.
READER_SETTINGS = {
    "default_transaction_read_only": "on",
    "statement_timeout": "15s",
    "lock_timeout": "2s",
    "idle_in_transaction_session_timeout": "30s",
    "work_mem": "16MB",
    "max_parallel_workers_per_gather": "0",
    "jit": "off",
}
READER_SETTINGS_SINCE_17 = {"transaction_timeout": "30s"}
READER_TEMP_FILE_LIMIT = "256MB"
# Of the login that builds saved models, whose SQL nobody has reviewed. A run lowers the statement's time.
BUILDER_SETTINGS = {
    "statement_timeout": "300s",
    "idle_in_transaction_session_timeout": "60s",
    "work_mem": "32MB",
    "max_parallel_workers_per_gather": "0",
    "jit": "off",
}
BUILDER_TEMP_FILE_LIMIT = "1GB"


def _names(prefix: str) -> TenantSchemas:
    """Raises: ProvisioningRefused: the prefix is not one of ours."""
    if not _PREFIX.fullmatch(prefix):
        raise ProvisioningRefused(
            f"{prefix!r} is no tenant prefix.",
            next_step="Use one made by new_prefix(): t_ and eight hex digits.",
        )
    return TenantSchemas(prefix)


def new_prefix() -> str:
    """A prefix that says nothing about the customer: `t_` and eight random hex digits."""
    return f"t_{secrets.token_hex(4)}"


def provision(
    conn: Connection,
    prefix: str,
    *,
    rw_password: str,
    ro_password: str,
    expose_raw: bool = False,
    reader_sees_new: bool = True,
) -> None:
    """Make the tenant's logins, schemas and rights, or bring existing ones (and passwords) to exactly this state.

    `reader_sees_new`: agents may read every table that will be made; otherwise `reader_rights` opens their columns.

    Raises:
        ProvisioningRefused: the prefix is malformed, or another role owns one of its schemas.
    """
    names = _names(prefix)
    with _change(conn):
        for role, password in ((names.rw, rw_password), (names.ro, ro_password)):
            ensure_role(conn, role)
            set_password(conn, role, password)
        _limit_roles(conn, names)
        own_role(conn, names.rw)
        own_role(conn, names.ro)
        grant_membership(conn, CATALOG_GROUP, names.rw)
        _execute(conn, "GRANT CONNECT ON DATABASE {} TO {}", EXPLORER_DB, names.ro)
        _make_schemas(conn, names)
        _set_default_rights(conn, names, reader_sees_new)
        _set_raw_exposure(conn, names, expose_raw)


def provision_saved(conn: Connection, prefix: str, password: str) -> None:
    """Make the login that builds the tenant's saved models and its schema, or bring existing ones (and the password) to exactly
    this state. The tenant is provisioned already.

    Raises:
        ProvisioningRefused: the prefix is malformed, or another role owns the schema.
    """
    names = _names(prefix)
    with _change(conn):
        ensure_role(conn, names.saved)
        set_password(conn, names.saved, password)
        plain = "" if not is_superuser(conn) else " NOSUPERUSER NOREPLICATION NOBYPASSRLS"
        _execute(
            conn,
            f"ALTER ROLE {{}} NOCREATEDB NOCREATEROLE INHERIT CONNECTION LIMIT {SAVED_CONNECTIONS}{plain}",
            names.saved,
        )
        _set(conn, names.saved, BUILDER_SETTINGS, BUILDER_TEMP_FILE_LIMIT)
        _execute(conn, "ALTER ROLE {} SET search_path = {}", names.saved, names.saved)
        own_role(conn, names.saved)
        # What agents may not read, neither may what they save: also single columns.
        grant_membership(conn, names.ro, names.saved)
        # dbt looks at the catalogs.
        grant_membership(conn, CATALOG_GROUP, names.saved)
        _make_schema(conn, names.saved, names.saved)
        for reader in (names.ro, names.rw):
            _execute(conn, "GRANT USAGE ON SCHEMA {} TO {}", names.saved, reader)
        _execute(conn, "ALTER DEFAULT PRIVILEGES FOR ROLE {} GRANT SELECT ON TABLES TO {}", names.saved, names.rw)
        for change in ("REVOKE EXECUTE ON ROUTINES", "REVOKE USAGE ON TYPES"):
            _execute(conn, f"ALTER DEFAULT PRIVILEGES FOR ROLE {{}} {change} FROM PUBLIC", names.saved)


def exists(conn: Connection, prefix: str) -> bool:
    """Whether both logins and all four schemas exist."""
    names = _names(prefix)
    row = conn.execute(
        "SELECT (SELECT count(*) FROM pg_roles WHERE rolname = ANY(%s)),"
        " (SELECT count(*) FROM pg_namespace WHERE nspname = ANY(%s))",
        [[names.rw, names.ro], list(names.schemas)],
    ).fetchone()
    return row == (2, len(names.schemas))


def set_raw_exposure(conn: Connection, prefix: str, expose: bool) -> None:
    """Open the raw schema to the tenant's agents, or close it."""
    with _change(conn):
        _set_raw_exposure(conn, _names(prefix), expose)


def align_raw_exposure(conn: Connection, expose: bool) -> list[str]:
    """Open or close the raw schemas of all tenants where needed. Returns the prefixes of the changed ones."""
    differing = conn.execute(
        "SELECT left(n.nspname, -4) FROM pg_namespace n JOIN pg_roles r ON r.rolname = left(n.nspname, -4) || '_ro'"
        " WHERE n.nspname ~ '^t_[0-9a-f]{8}_raw$' AND has_schema_privilege(r.oid, n.oid, 'USAGE') <> %s ORDER BY 1",
        [expose],
    ).fetchall()
    prefixes = [prefix for (prefix,) in differing]
    for prefix in prefixes:
        set_raw_exposure(conn, prefix, expose)
    return prefixes


def deprovision(conn: Connection, prefix: str) -> None:
    """Remove the tenant's logins, schemas and everything that they own, and end their sessions. No error when nothing is there.

    Raises:
        ProvisioningRefused: another role's object depends on the tenant's objects or is in its schemas; nothing was removed.
    """
    names = _names(prefix)
    # What the first one owns may be read by the others.
    roles = [role for role in (names.saved, names.rw, names.ro) if has_role(conn, role)]
    try:
        # Committed first, so that no new session begins between ending the old ones and dropping the role.
        with _change(conn):
            for role in roles:
                _execute(conn, "ALTER ROLE {} NOLOGIN", role)
        _end_sessions(conn, roles)
        with _change(conn):
            _refuse_dependents(conn, [*names.schemas, names.saved])
            for role in roles:
                # RESTRICT: the whole statement fails on dependent objects and on objects of others in the schemas.
                _execute(conn, "DROP OWNED BY {} RESTRICT", role)
                _execute(conn, "DROP ROLE {}", role)
    except psycopg.errors.DependentObjectsStillExist as error:
        _reopen(conn, roles)
        raise ProvisioningRefused(
            f"Objects of another owner depend on tenant {prefix}.",
            next_step="Remove them first; the database's detail names them.",
            details={"depending": (error.diag.message_detail or "").splitlines()},
        ) from error
    except (ProvisioningRefused, psycopg.DatabaseError):
        _reopen(conn, roles)
        raise


def provision_workspace(conn: Connection, role: str, *, password: str, readers: Collection[str]) -> bool:
    """Make a workspace's login, or bring it to this state: the rights of these tenants' readers and no others. Readers that the
    server does not have are left out. Returns whether its readers have changed; open sessions have the new rights at once.

    Raises:
        ProvisioningRefused: the name of the login or of a reader is malformed.
    """
    _check_workspace(role)
    for reader in readers:
        _names(reader.removesuffix("_ro"))
    with _change(conn):
        ensure_role(conn, role)
        set_password(conn, role, password)
        _limit_reader(conn, role, inherits=True)
        _execute(conn, "ALTER ROLE {} SET search_path = ''", role)
        _execute(conn, "GRANT CONNECT ON DATABASE {} TO {}", EXPLORER_DB, role)
        held = _readers_of(conn, role)
        wanted = {reader for reader in readers if has_role(conn, reader)}
        for reader in held - wanted:
            _execute(conn, "REVOKE {} FROM {}", reader, role)
        for reader in wanted - held:
            grant_membership(conn, reader, role)
    return held != wanted


def deprovision_workspace(conn: Connection, role: str) -> None:
    """Remove a workspace's login and end its sessions. No error when it is not there.

    Raises:
        ProvisioningRefused: the name is malformed.
    """
    _check_workspace(role)
    if not has_role(conn, role):
        return
    with _change(conn):
        _execute(conn, "ALTER ROLE {} NOLOGIN", role)
        for reader in _readers_of(conn, role):
            _execute(conn, "REVOKE {} FROM {}", reader, role)
    _end_sessions(conn, [role])
    with _change(conn):
        _execute(conn, "REVOKE CONNECT ON DATABASE {} FROM {}", EXPLORER_DB, role)
        _execute(conn, "DROP ROLE {}", role)


def _check_workspace(role: str) -> None:
    if not _WORKSPACE.fullmatch(role):
        raise ProvisioningRefused(
            f"{role!r} is no login of a workspace.", next_step="Use one made by the catalog: w_ and eight hex digits."
        )


def _readers_of(conn: Connection, role: str) -> set[str]:
    """The roles that this one is a member of."""
    rows = conn.execute(
        "SELECT g.rolname FROM pg_auth_members m JOIN pg_roles g ON g.oid = m.roleid JOIN pg_roles r ON r.oid = m.member"
        " WHERE r.rolname = %s",
        [role],
    ).fetchall()
    return {name for (name,) in rows}


def _reopen(conn: Connection, roles: list[str]) -> None:
    if not conn.closed:
        with _change(conn):
            for role in roles:
                _execute(conn, "ALTER ROLE {} LOGIN", role)


def _limit_roles(conn: Connection, names: TenantSchemas) -> None:
    _make_plain(conn, names.rw, inherits=True, connections=RW_CONNECTIONS)
    _limit_reader(conn, names.ro, inherits=False)
    for role in (names.rw, names.ro):
        _execute(conn, "ALTER ROLE {} SET search_path = {}", role, names.schema("marts"))


def _make_plain(conn: Connection, role: str, *, inherits: bool, connections: int) -> None:
    plain = " NOSUPERUSER NOREPLICATION NOBYPASSRLS" if is_superuser(conn) else ""
    inherit = "INHERIT" if inherits else "NOINHERIT"
    _execute(conn, f"ALTER ROLE {{}} NOCREATEDB NOCREATEROLE {inherit} CONNECTION LIMIT {connections}{plain}", role)


def _limit_reader(conn: Connection, role: str, *, inherits: bool) -> None:
    """A login that agents' SQL runs with: read-only, with limits."""
    _make_plain(conn, role, inherits=inherits, connections=RO_CONNECTIONS)
    settings = dict(READER_SETTINGS)
    if conn.info.server_version >= 170000:
        settings |= READER_SETTINGS_SINCE_17
    _set(conn, role, settings, READER_TEMP_FILE_LIMIT)


def _set(conn: Connection, role: str, settings: Mapping[str, str], temp_file_limit: str) -> None:
    """Set the role's defaults, and the limit where the administrator may."""
    if conn.execute("SELECT has_parameter_privilege('temp_file_limit', 'SET')").fetchone() == (True,):
        settings = {**settings, "temp_file_limit": temp_file_limit}
    for name, value in settings.items():
        statement = sql.SQL("ALTER ROLE {} SET {} = {}")
        conn.execute(statement.format(sql.Identifier(role), sql.Identifier(name), sql.Literal(value)))


def _make_schema(conn: Connection, schema: str, role: str) -> None:
    owner = conn.execute("SELECT pg_get_userbyid(nspowner) FROM pg_namespace WHERE nspname = %s", [schema]).fetchone()
    if owner is None:
        _execute(conn, "CREATE SCHEMA {} AUTHORIZATION {}", schema, role)
    elif owner != (role,):
        raise ProvisioningRefused(
            f"Schema {schema} belongs to {owner[0]}, not to {role}.",
            next_step="Use a new prefix, or remove that schema.",
        )


def _make_schemas(conn: Connection, names: TenantSchemas) -> None:
    for schema in names.schemas:
        _make_schema(conn, schema, names.rw)
    _execute(conn, "GRANT USAGE ON SCHEMA {} TO {}", names.schema("marts"), names.ro)


def _set_default_rights(conn: Connection, names: TenantSchemas, reader_sees_new: bool) -> None:
    # For the role, not IN SCHEMA: the loader moves tables out of its staging schema, and they keep the rights that they were
    # made with.
    change = "GRANT SELECT ON TABLES TO" if reader_sees_new else "REVOKE SELECT ON TABLES FROM"
    _execute(conn, f"ALTER DEFAULT PRIVILEGES FOR ROLE {{}} {change} {{}}", names.rw, names.ro)
    _execute(conn, "ALTER DEFAULT PRIVILEGES FOR ROLE {} REVOKE EXECUTE ON ROUTINES FROM PUBLIC", names.rw)
    _execute(conn, "ALTER DEFAULT PRIVILEGES FOR ROLE {} REVOKE USAGE ON TYPES FROM PUBLIC", names.rw)


def _set_raw_exposure(conn: Connection, names: TenantSchemas, expose: bool) -> None:
    statement = "GRANT USAGE ON SCHEMA {} TO {}" if expose else "REVOKE USAGE ON SCHEMA {} FROM {}"
    _execute(conn, statement, names.schema("raw"), names.ro)


def _refuse_dependents(conn: Connection, schemas: list[str]) -> None:
    """Refuse when an object outside `schemas` depends on one inside (source: pg_depend).

    pg_identify_object_as_address returns the schema as first part of the name for relations, rules, constraints and defaults.
    """
    rows = conn.execute(
        """
        WITH place AS (SELECT oid FROM pg_namespace WHERE nspname = ANY(%(schemas)s)),
        inside AS (
          SELECT 'pg_class'::regclass AS class, c.oid FROM pg_class c WHERE c.relnamespace IN (SELECT oid FROM place)
          UNION ALL SELECT 'pg_type'::regclass, t.oid FROM pg_type t WHERE t.typnamespace IN (SELECT oid FROM place)
          UNION ALL SELECT 'pg_proc'::regclass, p.oid FROM pg_proc p WHERE p.pronamespace IN (SELECT oid FROM place)
        )
        SELECT DISTINCT o.object_names[1] || '.' || o.object_names[2]
          FROM inside i
          JOIN pg_depend d ON d.refclassid = i.class AND d.refobjid = i.oid AND d.deptype IN ('n', 'a')
         CROSS JOIN LATERAL pg_identify_object_as_address(d.classid, d.objid, d.objsubid) o
         WHERE o.object_names[1] <> ALL(%(schemas)s) ORDER BY 1 LIMIT 20
        """,
        {"schemas": schemas},
    ).fetchall()
    if rows:
        raise ProvisioningRefused(
            f"{len(rows)} objects outside are built on what would be dropped, for instance {rows[0][0]}.",
            next_step="Remove them first, or empty their schema together with these.",
            details={"depending": [row[0] for row in rows]},
        )


def _end_sessions(conn: Connection, roles: list[str]) -> None:
    conn.execute("SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity WHERE usename = ANY(%s)", [roles])


@contextmanager
def _change(conn: Connection) -> Iterator[None]:
    """One transaction. Tenants are made and removed one at a time: concurrent changes of the database's rights fail."""
    if not conn.autocommit:
        raise ValueError(
            "Provisioning needs a connection in autocommit mode: it decides itself what is one transaction."
        )
    with conn.transaction():
        conn.execute("SELECT pg_advisory_xact_lock(hashtext('explorer.provisioning'))")
        yield


def _execute(conn: Connection, statement: str, *names: str) -> None:
    """Run a utility statement whose `{}` are identifiers."""
    conn.execute(sql.SQL(statement).format(*map(sql.Identifier, names)))
