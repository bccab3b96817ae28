"""Who may use the bridge? Principals, their tokens (stored as hashes) and their scopes on each tenant."""

import hashlib
import secrets
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from uuid import UUID, uuid4

from sqlalchemy import func, insert, or_, select, true, update
from sqlalchemy.exc import IntegrityError

from explorer.catalog.audit.log import ANONYMOUS, OPERATOR, AuditEntry, change, record
from explorer.catalog.errors import PrincipalExists, PrincipalInvalid, ScopeUnknown, UnknownPrincipal
from explorer.catalog.storage.database import Database, constraint_name
from explorer.catalog.storage.tables import grants, limits, principals, tenants, tokens
from explorer.catalog.tenants.tenant import Tenant, TenantStatus
from explorer.core.jsonb import storable
from explorer.core.toolsets import Toolset

TOKEN_PREFIX = "dex_"  # noqa: S105
# Of people who signed in: such names are never given to tokens.
PERSON_PREFIX = "person:"
_TOKEN_BYTES = 32
_MAX_NAME_LENGTH = 128
_LAST_USED_RESOLUTION = timedelta(minutes=1)


class Scope(StrEnum):
    """What a principal may do with a tenant."""

    METADATA_READ = "metadata:read"
    QUERY_RUN = "query:run"
    RUNS_LAUNCH = "runs:launch"
    RUNS_CANCEL = "runs:cancel"
    SCHEMA_MANAGE = "schema:manage"
    SEMANTICS_WRITE = "semantics:write"
    MODELS_WRITE = "models:write"

    @classmethod
    def parse(cls, text: str) -> "Scope":
        """The scope of that name.

        Raises:
            ScopeUnknown
        """
        try:
            return cls(text)
        except ValueError:
            raise ScopeUnknown(
                f"There is no scope {text[:40]!r}.", next_step=f"Use one of: {', '.join(cls)}."
            ) from None


class UiRole(StrEnum):
    """What a person may do in the Dagster UI, which shows all tenants. Stored where a grant's scopes are."""

    VIEW = "ui:view"
    OPERATE = "ui:operate"


_UI_ROLES = frozenset(UiRole)

# Granted only by name: dropping a tenant's schemas destroys data, and its semantics decide what is masked.
DEFAULT_SCOPES = frozenset(Scope) - {Scope.SCHEMA_MANAGE, Scope.SEMANTICS_WRITE, Scope.MODELS_WRITE}


@dataclass(frozen=True)
class Principal:
    """The owner of a valid token. `grants`: tenant key to scopes, without removed tenants; `toolsets`: of the token."""

    id: UUID
    name: str
    grants: dict[str, frozenset[Scope]]
    toolsets: frozenset[Toolset] = frozenset()


@dataclass(frozen=True)
class PrincipalSummary:
    """A principal as shown to the operator."""

    id: UUID
    name: str
    grants: dict[str, frozenset[Scope]]
    created_at: datetime
    expires_at: datetime | None
    revoked_at: datetime | None
    last_used_at: datetime | None
    toolsets: frozenset[Toolset]


class PrincipalStore:
    """Principals with their tokens and grants."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def create_token(
        self,
        name: str,
        tenants: Iterable[Tenant],
        scopes: Iterable[Scope] = DEFAULT_SCOPES,
        expires_at: datetime | None = None,
        toolsets: Iterable[Toolset] = (),
    ) -> str:
        """Make principal `name` with `scopes` on each of `tenants`. Returns its token, which cannot be read again later.
        `toolsets`: that it sees beside the default tools.

        Raises:
            PrincipalExists: a principal of that name has not been revoked.
            PrincipalInvalid: no tenant, no scope, an unusable name, or an expiry that has passed.
        """
        given = list(tenants)
        tenant_ids = {tenant.id for tenant in given}
        wanted, shown = sorted({Scope.parse(scope) for scope in scopes}), sorted(toolsets)
        _check_request(name, tenant_ids, wanted, expires_at)
        token = TOKEN_PREFIX + secrets.token_urlsafe(_TOKEN_BYTES)
        principal_id = uuid4()
        try:
            with self._database.begin() as connection:
                connection.execute(insert(principals).values(id=principal_id, name=name))
                connection.execute(
                    insert(tokens).values(
                        id=uuid4(),
                        principal_id=principal_id,
                        token_hash=token_hash(token),
                        expires_at=expires_at,
                        toolsets=shown,
                    )
                )
                rows = [{"principal_id": principal_id, "tenant_id": id_, "scopes": wanted} for id_ in tenant_ids]
                connection.execute(insert(grants), rows)
                record(connection, _made(name, given, wanted, expires_at, shown))
        except IntegrityError as error:
            if constraint_name(error) != "principals_name":
                raise
            raise PrincipalExists(
                f"There is a principal {name} already.", next_step="Choose another name, or revoke that one first."
            ) from None
        return token

    def verify(self, token: str) -> Principal | None:
        """The principal of a token that is known, not revoked and not expired; None for every other text."""
        if not token.startswith(TOKEN_PREFIX) or not token.isascii():
            return None
        # Written at most once a minute, so that not every read becomes a write.
        unused = or_(tokens.c.last_used_at.is_(None), tokens.c.last_used_at < func.now() - _LAST_USED_RESOLUTION)
        granted_tenants = grants.join(
            tenants, (tenants.c.id == grants.c.tenant_id) & (tenants.c.status == TenantStatus.ACTIVE)
        )
        query = (
            select(
                tokens.c.id, tokens.c.toolsets, principals.c.id.label("principal_id"), principals.c.name,
                unused.label("unused"), tenants.c.key, grants.c.scopes,
            )
            .join(principals, principals.c.id == tokens.c.principal_id)
            .outerjoin(granted_tenants, grants.c.principal_id == principals.c.id)
            .where(
                tokens.c.token_hash == token_hash(token),
                tokens.c.revoked_at.is_(None),
                principals.c.revoked_at.is_(None),
                or_(tokens.c.expires_at.is_(None), tokens.c.expires_at > func.now()),
            )
        )  # fmt: skip
        with self._database.single() as connection:
            rows = connection.execute(query).all()
            if not rows:
                return None
            row = rows[0]
            if row.unused:
                connection.execute(update(tokens).where(tokens.c.id == row.id, unused).values(last_used_at=func.now()))
        granted = {each.key: scopes_of(each.scopes) for each in rows if each.key is not None}
        return Principal(row.principal_id, row.name, granted, Toolset.stored(row.toolsets))

    def revoke(self, name: str) -> None:
        """Revoke the tokens of principal `name` at once.

        Raises:
            UnknownPrincipal
        """
        with self._database.begin() as connection:
            principal_id = connection.scalar(
                update(principals)
                .where(
                    principals.c.name == storable(name),
                    principals.c.revoked_at.is_(None),
                    # People have no token.
                    principals.c.id.in_(select(tokens.c.principal_id)),
                )
                .values(revoked_at=func.now())
                .returning(principals.c.id)
            )
            connection.execute(
                update(tokens)
                .where(tokens.c.principal_id == principal_id, tokens.c.revoked_at.is_(None))
                .values(revoked_at=func.now())
            )
            if principal_id is None:
                raise unknown_principal(name)
            record(connection, change("revoke_token", principal=name))

    def id_of(self, name: str) -> UUID:
        """The id of a principal that was not revoked, people too.

        Raises:
            UnknownPrincipal
        """
        query = select(principals.c.id).where(principals.c.name == storable(name), principals.c.revoked_at.is_(None))
        with self._database.single() as connection:
            found = connection.scalar(query)
        if found is None:
            raise unknown_principal(name)
        return UUID(str(found))

    def scopes(self, id_: UUID) -> dict[str, frozenset[Scope]]:
        """A principal's scopes by the key of the tenants that it may use; none once it was revoked."""
        query = (
            select(tenants.c.key, grants.c.scopes)
            .join(grants, grants.c.tenant_id == tenants.c.id)
            .join(principals, principals.c.id == grants.c.principal_id)
            .where(
                grants.c.principal_id == id_,
                principals.c.revoked_at.is_(None),
                tenants.c.status == TenantStatus.ACTIVE,
            )
        )
        with self._database.single() as connection:
            return {row.key: scopes_of(row.scopes) for row in connection.execute(query)}

    def of(self, tenant: Tenant) -> dict[str, UUID]:
        """The ids of all who may use a tenant or have limits there, people too, by name and in its order."""
        query = (
            select(principals.c.name, principals.c.id)
            .where(
                principals.c.revoked_at.is_(None),
                principals.c.id.in_(
                    select(grants.c.principal_id)
                    .where(grants.c.tenant_id == tenant.id)
                    .union(select(limits.c.principal_id).where(limits.c.tenant_id == tenant.id))
                ),
            )
            .order_by(principals.c.name)
        )
        with self._database.single() as connection:
            return {row.name: row.id for row in connection.execute(query)}

    def list(self, *, include_revoked: bool = False) -> list[PrincipalSummary]:
        """All principals that have a token, by name, with its dates; never a token."""
        with self._database.begin() as connection:
            rows = connection.execute(
                select(principals, tokens.c.expires_at, tokens.c.last_used_at, tokens.c.toolsets)
                .join(tokens, tokens.c.principal_id == principals.c.id)
                .where(true() if include_revoked else principals.c.revoked_at.is_(None))
                .order_by(principals.c.name, principals.c.created_at)
            ).all()
            granted = connection.execute(
                select(grants.c.principal_id, tenants.c.key, grants.c.scopes)
                .join(tenants, tenants.c.id == grants.c.tenant_id)
                .where(tenants.c.status == TenantStatus.ACTIVE)
            ).all()
        by_principal: dict[UUID, dict[str, frozenset[Scope]]] = {}
        for grant in granted:
            by_principal.setdefault(grant.principal_id, {})[grant.key] = scopes_of(grant.scopes)
        return [
            PrincipalSummary(
                row.id,
                row.name,
                by_principal.get(row.id, {}),
                row.created_at,
                row.expires_at,
                row.revoked_at,
                row.last_used_at,
                Toolset.stored(row.toolsets),
            )
            for row in rows
        ]


def _check_request(name: str, tenant_ids: set[UUID], scopes: list[Scope], expires_at: datetime | None) -> None:
    if not name.strip() or name != name.strip() or not name.isprintable() or len(name) > _MAX_NAME_LENGTH:
        raise PrincipalInvalid(
            "That name cannot be a principal's.",
            next_step=f"Use up to {_MAX_NAME_LENGTH} printable characters without blanks around.",
        )
    if name in (OPERATOR, ANONYMOUS):
        raise PrincipalInvalid(
            f"The audit trail calls somebody else {name}.", next_step="Choose another name for the principal."
        )
    if name.startswith(PERSON_PREFIX):
        raise PrincipalInvalid(
            f"Names that begin with {PERSON_PREFIX} are those of people who sign in.", next_step="Choose another name."
        )
    if not tenant_ids or not scopes:
        raise PrincipalInvalid(
            "A token without tenants or scopes could do nothing.", next_step="Name at least one of each."
        )
    if expires_at is not None and (expires_at.tzinfo is None or expires_at <= datetime.now(UTC)):
        raise PrincipalInvalid(
            "The token would be expired already, or its expiry has no time zone.", next_step="Give a later time."
        )


def _made(
    name: str,
    tenants: Iterable[Tenant],
    scopes: Iterable[Scope],
    expires_at: datetime | None,
    toolsets: Iterable[Toolset],
) -> AuditEntry:
    keys = sorted(tenant.key for tenant in tenants)
    ends = expires_at.isoformat() if expires_at else None
    only = keys[0] if len(keys) == 1 else None
    return change(
        "create_token",
        only,
        principal=name,
        tenants=keys,
        scopes=list(scopes),
        expires_at=ends,
        toolsets=list(toolsets),
    )


def unknown_principal(name: str) -> UnknownPrincipal:
    """The error for a name that no principal has."""
    return UnknownPrincipal(
        f"There is no principal {name[:80]!r}.",
        next_step="List them with `explorer tokens list` and `explorer people list`.",
    )


def scopes_of(names: Iterable[str]) -> frozenset[Scope]:
    """The scopes as stored; a role in the UI is none."""
    return frozenset(Scope(name) for name in names if name not in _UI_ROLES)


def token_hash(token: str) -> bytes:
    """What is stored of a token. SHA-256 is enough: the token is 256 random bits, there is nothing to guess."""
    return hashlib.sha256(token.encode()).digest()
