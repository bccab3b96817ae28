"""What serving a call reads and writes in the catalog: who calls, for which tenant, in which state; and the audit entry.

Each is one round trip, without threads, and calls of the same moment share it. Everything else about tenants is in the stores of
`Catalog`.
"""

import json
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Self, TypeVar
from uuid import UUID

import msgspec
import psycopg

from explorer.catalog.access.limits import Limits
from explorer.catalog.access.oauth_grants import ACCESS_PREFIX, SignedInPrincipal
from explorer.catalog.access.principals import TOKEN_PREFIX, Principal, Scope, scopes_of, token_hash
from explorer.catalog.audit.log import AuditEntry, as_json
from explorer.catalog.coordination.budgets import Spent, Used
from explorer.catalog.errors import CatalogUnavailable
from explorer.catalog.lifecycle.schemas import TenantLogin, TenantSchema, reader_login
from explorer.catalog.lifecycle.workspaces import workspace_password
from explorer.catalog.secrets.keyring import Keyring
from explorer.catalog.tenants.tenant import Tenant
from explorer.contract.headers import UI_CLIENT
from explorer.core.jsonb import storable
from explorer.core.toolsets import Toolset
from explorer.postgres.connections import Login
from explorer.postgres.shared_connection import SharedConnection

T = TypeVar("T")
# A caller with more tenants is told the tenant of a call by another round trip.
_DETAILED_TENANTS = 8
# The same for budgets: each takes as long as a fifth of the round trip.
_BUDGETED_TENANTS = 3
_SCHEMA_FIELDS = """'prefix', s.prefix, 'state', s.state, 'state_changed_at', s.state_changed_at, 'last_error', s.last_error,
  'run_id', s.run_id"""
# Base64 without line breaks, as it is read into bytes.
_TENANT_FIELDS = f"""'tenant', json_build_object('id', n.id, 'key', n.key, 'provider', n.provider, 'server', n.server,
    'external_id', n.external_id, 'display_name', n.display_name, 'status', n.status, 'created_at', n.created_at),
  'schema', json_build_object({_SCHEMA_FIELDS}), 'sealed', translate(encode(s.passwords, 'base64'), chr(10), '')"""
# The key of a budget as `budget_key` writes it.
_BUDGET_JSON = "catalog.budget(n.id, p.id, concat(p.id, ':', n.id), $2::integer)"
# Of principal p, in one round trip with it.
_GRANTED = f"""'granted', coalesce((
    SELECT json_agg(json_build_object('key', n.key, 'scopes', n.scopes, 'tenant',
        CASE WHEN n.tenants <= {_DETAILED_TENANTS}
        THEN (SELECT json_build_object({_TENANT_FIELDS}) FROM catalog.schemas s WHERE s.tenant_id = n.id) END,
        'budget', CASE WHEN n.tenants <= {_BUDGETED_TENANTS} THEN {_BUDGET_JSON} END))
      FROM (SELECT n.*, g.scopes, count(*) OVER () AS tenants
              FROM catalog.grants g JOIN catalog.tenants n ON n.id = g.tenant_id AND n.status = 'active'
             WHERE g.principal_id = p.id) AS n), '[]')"""  # noqa: S608 (a number of ours)
_ADMISSION = f"""
SELECT json_build_object('token_id', t.id, 'id', p.id, 'name', p.name, 'toolsets', t.toolsets,
  'use_is_news', t.last_used_at IS NULL OR t.last_used_at < now() - interval '1 minute', {_GRANTED})
  FROM catalog.tokens t JOIN catalog.principals p ON p.id = t.principal_id
 WHERE t.token_hash = $1::bytea AND t.revoked_at IS NULL AND p.revoked_at IS NULL
   AND (t.expires_at IS NULL OR t.expires_at > now())
""".encode()  # noqa: S608 (a number of ours)
# As `OAuthGrantStore.verify` has it.
_PERSON = f"""
SELECT json_build_object('grant_id', g.id, 'id', p.id, 'name', p.name, 'client_id', g.client_id, 'provider', i.provider,
  'allowed', t.scopes, 'toolsets', g.toolsets, 'checked_age_s', extract(epoch FROM clock_timestamp() - i.checked_at)::float8,
  'use_is_news', g.last_used_at IS NULL OR g.last_used_at < now() - interval '1 minute', {_GRANTED})
  FROM catalog.oauth_tokens t JOIN catalog.oauth_grants g ON g.id = t.grant_id
  JOIN catalog.oauth_clients c ON c.client_id = g.client_id
  JOIN catalog.principals p ON p.id = g.principal_id JOIN catalog.identities i ON i.principal_id = p.id
 WHERE t.token_hash = $1::bytea AND t.kind = 'access' AND t.expires_at > now() AND g.client_id <> '{UI_CLIENT}'
   AND g.revoked_at IS NULL AND g.expires_at > clock_timestamp() AND c.blocked_at IS NULL
   AND p.revoked_at IS NULL AND i.blocked_at IS NULL
""".encode()  # noqa: S608 (a name of ours)
_TENANT = f"""
SELECT json_build_object({_TENANT_FIELDS}) FROM catalog.tenants n JOIN catalog.schemas s ON s.tenant_id = n.id
 WHERE n.key = $1::text AND n.status = 'active'
""".encode()  # noqa: S608 (as above)
_WORKSPACE = f"""
SELECT json_build_object('id', w.id, 'name', w.name, 'role', w.role,
  'sealed', translate(encode(w.password, 'base64'), chr(10), ''),
  'keys', (SELECT coalesce(json_agg(n.key ORDER BY n.key), '[]')
             FROM catalog.workspace_members m JOIN catalog.tenants n ON n.id = m.tenant_id WHERE m.workspace_id = w.id),
  'members', (SELECT coalesce(json_agg(json_build_object({_TENANT_FIELDS}) ORDER BY n.key), '[]')
                FROM catalog.workspace_members m
                JOIN catalog.tenants n ON n.id = m.tenant_id AND n.status = 'active'
                JOIN catalog.schemas s ON s.tenant_id = n.id WHERE m.workspace_id = w.id))
  FROM catalog.workspaces w
 WHERE w.name = $2::text AND w.principal_id IS NOT DISTINCT FROM $1::uuid AND w.dropped_at IS NULL
""".encode()  # noqa: S608 (as above)
# The columns of these relations that a login may read: of PostgreSQL's own catalogs, without a text of a caller.
_READABLE = b"""
SELECT coalesce(json_agg(json_build_object('schema', n.nspname, 'table', c.relname, 'columns', ARRAY(
    SELECT json_build_object('name', a.attname, 'type', format_type(a.atttypid, a.atttypmod),
                             'is_own', t.typnamespace <> 'pg_catalog'::regnamespace)
      FROM pg_attribute a JOIN pg_type t ON t.oid = a.atttypid
     WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
       AND has_column_privilege(r.oid, c.oid, a.attnum, 'SELECT') ORDER BY a.attnum))), '[]')
  FROM pg_roles r CROSS JOIN jsonb_to_recordset($2::jsonb) AS wanted (schema text, name text)
  JOIN pg_namespace n ON n.nspname = wanted.schema
  JOIN pg_class c ON c.relnamespace = n.oid AND c.relname = wanted.name AND c.relkind IN ('r', 'p', 'v', 'm')
 WHERE r.rolname = $1::text AND has_schema_privilege(r.oid, n.oid, 'USAGE')
"""
_USED = b"""
UPDATE catalog.tokens SET last_used_at = now()
 WHERE id = $1::uuid AND (last_used_at IS NULL OR last_used_at < now() - interval '1 minute')
"""
_GRANT_USED = b"""
UPDATE catalog.oauth_grants SET last_used_at = now()
 WHERE id = $1::uuid AND (last_used_at IS NULL OR last_used_at < now() - interval '1 minute')
"""
# The chain's lock first, as everybody takes it.
_APPEND = b"SELECT jsonb_build_object('last_id', audit.append($1::jsonb), 'used', catalog.spend($2::jsonb))"
_BUDGET = b"SELECT catalog.budget($1::uuid, $2::uuid, $3::text, $4::integer)"

# A channel of the database: bridges that wait for a connection tell it to those that keep idle ones.
_WANTED = "explorer_readers_wanted"
_NOTIFY = f"SELECT pg_notify('{_WANTED}', $1::text)::text".encode()


@dataclass(frozen=True)
class AdmittedTenant:
    """A tenant that the caller may use, as it was when the call came. `sealed`: the encrypted passwords of its logins."""

    tenant: Tenant
    schema: TenantSchema
    sealed: bytes | None = field(repr=False)


@dataclass(frozen=True)
class AdmittedWorkspace:
    """A workspace of the caller, as it was when the call came. `members`: its tenants that are there, whether the caller may
    query them or not; `keys`: of all its tenants; `sealed`: the encrypted password of its login."""

    id: UUID
    name: str
    role: str
    keys: tuple[str, ...]
    members: tuple[AdmittedTenant, ...]
    sealed: bytes = field(repr=False)


class ReadableColumn(msgspec.Struct, frozen=True):
    """A column that a login may read. `type`: as PostgreSQL writes it; `is_own`: whether it is not one of PostgreSQL's own."""

    name: str
    type: str
    is_own: bool


class Readable(msgspec.Struct, frozen=True):
    """What a login may read of a relation."""

    schema: str
    table: str
    columns: tuple[ReadableColumn, ...]


@dataclass(frozen=True)
class Standing:
    """What is set for a tenant and for the principal there, and what is used of the principal's window. `asked_s`: when this was
    asked, by the monotonic clock."""

    limits: Limits
    used: Used
    asked_s: float

    @classmethod
    def of(cls, found: Mapping[str, Any], asked_s: float) -> Self:
        """From a result of `catalog.budget`."""
        limits = Limits()
        for each in found.get("limits") or ():
            limits = Limits.parse(each).over(limits)
        return cls(limits, Used.from_object(found["used"]) if found.get("used") else Used(), asked_s)


class _Granted(msgspec.Struct):
    key: str
    scopes: frozenset[Scope]
    tenant: AdmittedTenant | None
    budget: dict[str, Any] | None


class _Admission(msgspec.Struct):
    token_id: UUID
    id: UUID
    name: str
    use_is_news: bool
    toolsets: list[str]
    granted: list[_Granted]


class _Person(msgspec.Struct):
    grant_id: UUID
    id: UUID
    name: str
    client_id: str
    provider: str
    allowed: list[str]
    toolsets: list[str]
    checked_age_s: float
    use_is_news: bool
    granted: list[_Granted]


@dataclass(frozen=True)
class Admission:
    """The principal of a valid token. `tenants`: by key, all that are granted, or none when there are many; `standings`: the same
    for budgets, of which fewer are many."""

    principal: Principal
    tenants: Mapping[str, AdmittedTenant]
    standings: dict[str, Standing]

    @classmethod
    def of(cls, found: _Admission | _Person, asked_s: float, toolsets: frozenset[Toolset] = frozenset()) -> Self:
        scopes = {granted.key: granted.scopes for granted in found.granted}
        principal = Principal(found.id, found.name, scopes, toolsets)
        tenants = {granted.key: granted.tenant for granted in found.granted if granted.tenant is not None}
        standings = {each.key: Standing.of(each.budget, asked_s) for each in found.granted if each.budget is not None}
        return cls(principal, tenants, standings)


@dataclass(frozen=True)
class PersonAdmission:
    """The person of a valid token, for whom a program acts, and what came with it. Not an `Admission`: the program may do less
    than the person."""

    signed_in: SignedInPrincipal
    tenants: Mapping[str, AdmittedTenant]
    standings: dict[str, Standing]


class AsyncCatalog:
    """The catalog for the tasks of one event loop."""

    def __init__(
        self,
        service: Login,
        keyring: Callable[[], Keyring],
        *,
        within_s: float,
        window_s: int = 3600,
        on_wanted: Callable[[str], None] = lambda _: None,
    ) -> None:
        """`within_s`: the most that one request waits; `window_s`: length of the budgets' windows. `on_wanted` is called with
        what any bridge has passed to `want`."""
        self._keyring, self._window_s = keyring, window_s
        # Two, so that nobody's admission waits until an audit entry is on disk.
        self._reads = SharedConnection(
            service, application_name="explorer-calls", within_s=within_s, channel=_WANTED, on_notice=on_wanted
        )
        self._writes = SharedConnection(service, application_name="explorer-audit", within_s=within_s)

    def close(self) -> None:
        """Close the connections."""
        self._reads.close()
        self._writes.close()

    async def admission(self, token: str) -> Admission | None:
        """The principal of a token that is known, not revoked and not expired; None for every other text.

        Raises:
            CatalogUnavailable
        """
        if not token.startswith(TOKEN_PREFIX) or not token.isascii():
            return None
        asked_s = time.monotonic()
        found = await _read(self._reads, _Admission, _ADMISSION, f"\\x{token_hash(token).hex()}", str(self._window_s))
        if found is None:
            return None
        if found.use_is_news:
            await _asked(self._writes, _USED, str(found.token_id))
        return Admission.of(found, asked_s, Toolset.stored(found.toolsets))

    async def person(self, token: str) -> PersonAdmission | None:
        """Whom an access token of a sign-in stands for, as `OAuthGrantStore.verify`; None for every other text. How fresh the
        rights are is for the caller to judge.

        Raises:
            CatalogUnavailable
        """
        if not token.startswith(ACCESS_PREFIX) or not token.isascii():
            return None
        asked_s = time.monotonic()
        found = await _read(self._reads, _Person, _PERSON, f"\\x{token_hash(token).hex()}", str(self._window_s))
        if found is None:
            return None
        if found.use_is_news:
            await _asked(self._writes, _GRANT_USED, str(found.grant_id))
        admission = Admission.of(found, asked_s)
        signed_in = SignedInPrincipal(
            admission.principal,
            found.provider,
            found.client_id,
            found.grant_id,
            scopes_of(found.allowed),
            found.checked_age_s,
            Toolset.stored(found.toolsets),
        )
        return PersonAdmission(signed_in, admission.tenants, admission.standings)

    async def tenant(self, key: str) -> AdmittedTenant | None:
        """The active tenant of this key.

        Raises:
            CatalogUnavailable
        """
        return await _read(self._reads, AdmittedTenant, _TENANT, storable(key))

    async def workspace(self, owner: UUID | None, name: str) -> AdmittedWorkspace | None:
        """The workspace of this name of a principal, or of the operator.

        Raises:
            CatalogUnavailable
        """
        principal = str(owner) if owner is not None else None
        return await _read(self._reads, AdmittedWorkspace, _WORKSPACE, principal, storable(name))

    async def readable(self, role: str, places: Iterable[tuple[str, str]]) -> list[Readable]:
        """What a login may read at this moment of the relations at these places (schema, name).

        Raises:
            CatalogUnavailable
        """
        wanted = json.dumps([{"schema": schema, "name": name} for schema, name in places])
        return await _read(self._reads, list[Readable], _READABLE, role, wanted) or []

    async def append(self, entries: Sequence[AuditEntry], spent: Sequence[Spent] = ()) -> dict[str, Used]:
        """Add audit entries and what their calls have used, all or none. Returns what is used now, by key.

        Raises:
            CatalogUnavailable
        """
        given = json.dumps([each.as_object() for each in spent])
        found = json.loads(await _asked(self._writes, _APPEND, as_json(entries), given) or b"{}")
        return {each["key"]: Used.from_object(each) for each in found.get("used", ())}

    async def standing(self, tenant_id: UUID, principal_id: UUID | None, key: str) -> Standing:
        """What is set for the tenant, and for the principal there, and what is used of the window of `key`.

        Raises:
            CatalogUnavailable
        """
        asked_s = time.monotonic()
        principal = str(principal_id) if principal_id is not None else None
        text = await _asked(self._reads, _BUDGET, str(tenant_id), principal, key, str(self._window_s))
        return Standing.of(json.loads(text or b"{}"), asked_s)

    async def want(self, what: str) -> None:
        """Tell all bridges of this catalog, this one too, that a connection is wanted.

        Raises:
            CatalogUnavailable
        """
        await _asked(self._reads, _NOTIFY, what)

    def reader(self, admitted: AdmittedTenant) -> TenantLogin:
        """The login for agents' SQL.

        Raises:
            SchemaAbsent, KeyringMismatch.
        """
        return reader_login(self._keyring(), admitted.tenant, admitted.schema.prefix, admitted.sealed)

    def workspace_login(self, workspace: AdmittedWorkspace) -> TenantLogin:
        """The login for SQL over a workspace.

        Raises:
            KeyringMismatch
        """
        return TenantLogin(workspace.role, workspace_password(self._keyring(), workspace.id, workspace.sealed))


async def _read(connection: SharedConnection, type_: type[T], statement: bytes, *values: str | None) -> T | None:
    text = await _asked(connection, statement, *values)
    return msgspec.json.decode(text, type=type_) if text is not None else None


async def _asked(connection: SharedConnection, statement: bytes, *values: str | None) -> bytes | None:
    try:
        return await connection.ask(statement, *(value.encode() if value is not None else None for value in values))
    except (psycopg.OperationalError, psycopg.InterfaceError, TimeoutError) as error:
        raise CatalogUnavailable(
            "The catalog's database does not answer.",
            next_step="Start it with `explorer up`, then try again; `explorer doctor` says more.",
        ) from error
