"""What may a program do for a person? Grants with their codes and tokens, of which only hashes are stored.

A grant is made with a code, and lives on by refresh tokens. Whoever presents a code or a refresh token that was used up before
ends the grant, because one of the two who had it stole it.
"""

import base64
import hashlib
import hmac
import secrets
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import timedelta
from typing import Literal
from uuid import UUID, uuid4

from sqlalchemy import ColumnElement, Connection, delete, func, insert, or_, select, update

from explorer.catalog.access.principals import Principal, Scope, UiRole, scopes_of, token_hash
from explorer.catalog.storage.database import Database
from explorer.catalog.storage.tables import (
    grants,
    identities,
    oauth_clients,
    oauth_codes,
    oauth_grants,
    oauth_tokens,
    principals,
    tenants,
)
from explorer.catalog.tenants.tenant import TenantStatus
from explorer.contract.headers import UI_CLIENT
from explorer.core.toolsets import Toolset

ACCESS_PREFIX = "dxa_"
REFRESH_PREFIX = "dxr_"
CODE_S = 60
ACCESS_S = 3600
# Idle time of a refresh token: below the shortest that identity providers are known to have (15 days).
REFRESH_S = 14 * 86_400
GRANT_S = 90 * 86_400
# Without tokens of the identity provider nobody can ask it again.
UNCHECKED_GRANT_S = 12 * 3600
# Hosts refresh in several processes at once, and lose answers. A token that comes again within this time gets a pair of its own.
GRACE_S = 120
MAX_REISSUES = 10
_SECRET_BYTES = 32
_KEPT = timedelta(days=1)
_LAST_USED_RESOLUTION = timedelta(minutes=1)


@dataclass(frozen=True)
class Grant:
    """A grant. `name`: of its principal, as in the audit; `scopes`: what the person allowed the client."""

    id: UUID
    principal_id: UUID
    name: str
    client_id: str
    scopes: frozenset[Scope]


@dataclass(frozen=True)
class Issued:
    """A pair of tokens. `scopes`: of the access token, which ends after `expires_in_s` seconds; `refresh`: None for a session at
    the Dagster UI, whose only token lives as long as its grant."""

    grant: Grant
    access: str
    refresh: str | None
    expires_in_s: int
    scopes: frozenset[Scope]


@dataclass(frozen=True)
class Refused:
    """No tokens. `reason`: `unknown`, `expired`, `mismatch` (another client, address, verifier), `scope`, or `reused`: then
    `grant` was ended by this."""

    reason: Literal["unknown", "expired", "mismatch", "scope", "reused"]
    grant: Grant | None = None


@dataclass(frozen=True)
class SignedInPrincipal:
    """Whom an access token stands for. `principal.grants` are the person's rights; `scopes` is what they allowed this client, so
    that it may do what is in both. `checked_age_s`: seconds since the identity provider told the rights; `toolsets`: that the
    person chose for this client."""

    principal: Principal
    provider: str
    client_id: str
    grant_id: UUID | None
    scopes: frozenset[Scope]
    checked_age_s: float
    toolsets: frozenset[Toolset] = frozenset()


@dataclass(frozen=True)
class UiSession:
    """A person's session at the Dagster UI."""

    person: SignedInPrincipal
    role: UiRole


class OAuthGrantStore:
    """The grants of all people."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def issue_code(
        self,
        principal_id: UUID,
        client_id: str,
        scopes: Iterable[Scope | UiRole],
        redirect_uri: str,
        challenge: str,
        *,
        lifetime_s: int = GRANT_S,
        toolsets: Iterable[Toolset] = (),
    ) -> tuple[UUID, str]:
        """Make a grant that ends with its code, unless the code is exchanged: then it lives `lifetime_s` seconds. Returns the
        grant's id and the code. `challenge`: S256."""
        grant_id, code = uuid4(), secrets.token_urlsafe(_SECRET_BYTES)
        ends = func.clock_timestamp() + timedelta(seconds=CODE_S)
        with self._database.begin() as connection:
            self._forget_old(connection)
            connection.execute(
                insert(oauth_grants).values(
                    id=grant_id,
                    principal_id=principal_id,
                    client_id=client_id,
                    scopes=sorted(scopes),
                    expires_at=ends,
                    toolsets=sorted(toolsets),
                )
            )
            connection.execute(
                insert(oauth_codes).values(
                    code_hash=token_hash(code), grant_id=grant_id, redirect_uri=redirect_uri, challenge=challenge,
                    lifetime_s=lifetime_s, expires_at=ends,
                )
            )  # fmt: skip
        return grant_id, code

    def exchange(self, code: str, client_id: str, redirect_uri: str, verifier: str) -> Issued | Refused:
        """The first pair of tokens for a code. Any attempt uses the code up; a second one ends its grant."""
        expired = (oauth_codes.c.expires_at <= func.clock_timestamp()).label("expired")
        with self._database.begin() as connection:
            row = connection.execute(
                update(oauth_codes)
                .where(oauth_codes.c.code_hash == token_hash(code), oauth_codes.c.used_at.is_(None))
                .values(used_at=func.clock_timestamp())
                .returning(*oauth_codes.c, expired)
            ).first()
            if row is None:
                used = connection.scalar(
                    select(oauth_codes.c.grant_id).where(oauth_codes.c.code_hash == token_hash(code))
                )
                if used is None:
                    return Refused("unknown")
                return self._reused(connection, used)
            grant = self._lock(connection, row.grant_id)
            if row.expired or grant is None:
                return Refused("expired")
            if not (
                hmac.compare_digest(grant.client_id.encode(), client_id.encode())
                and hmac.compare_digest(row.redirect_uri.encode(), redirect_uri.encode())
                and hmac.compare_digest(row.challenge.encode(), s256(verifier).encode())
            ):
                self._end(connection, grant.id)
                return Refused("mismatch")
            connection.execute(
                update(oauth_grants)
                .where(oauth_grants.c.id == grant.id)
                .values(expires_at=func.clock_timestamp() + timedelta(seconds=row.lifetime_s))
            )
            return self._issue(connection, grant, grant.scopes, row.lifetime_s if client_id == UI_CLIENT else None)

    def refresh(self, token: str, client_id: str, scopes: frozenset[Scope] | None = None) -> Issued | Refused:
        """A new pair of tokens for a refresh token, which is used up. `scopes`: of the access token; None for all that was
        granted. A token that comes again within two minutes gets another pair; later it ends the grant."""
        rotated_s = func.extract("epoch", func.clock_timestamp() - oauth_tokens.c.rotated_at).label("rotated_s")
        expired = (oauth_tokens.c.expires_at <= func.clock_timestamp()).label("expired")
        mine = oauth_tokens.c.token_hash == token_hash(token)
        with self._database.begin() as connection:
            # Locked first: of two refreshes at the same time the second sees what the first has done.
            grant_id = connection.scalar(select(oauth_tokens.c.grant_id).where(mine, oauth_tokens.c.kind == "refresh"))
            grant = self._lock(connection, grant_id) if grant_id is not None else None
            if grant is None:
                return Refused("unknown")
            row = connection.execute(select(oauth_tokens, rotated_s, expired).where(mine)).one()
            if not hmac.compare_digest(grant.client_id.encode(), client_id.encode()):
                return Refused("mismatch")
            if row.rotated_at is not None and (row.rotated_s > GRACE_S or row.reissues >= MAX_REISSUES):
                return self._reused(connection, grant.id)
            if row.expired:
                return Refused("expired")
            if scopes is not None and not scopes <= grant.scopes:
                return Refused("scope")
            again = row.rotated_at is not None
            connection.execute(
                update(oauth_tokens)
                .where(mine)
                .values({"reissues": oauth_tokens.c.reissues + 1} if again else {"rotated_at": func.clock_timestamp()})
            )
            return self._issue(connection, grant, scopes or grant.scopes)

    def verify(self, token: str) -> SignedInPrincipal | None:
        """Whom an access token stands for, while it, its grant, its client and the person are good; None for every other text.
        A session at the Dagster UI is good there alone."""
        found = self._holder(token, oauth_grants.c.client_id != UI_CLIENT)
        return found[0] if found is not None else None

    def ui_session(self, token: str) -> UiSession | None:
        """The session at the Dagster UI for which a token stands, while it and the person are good."""
        found = self._holder(token, oauth_grants.c.client_id == UI_CLIENT)
        return UiSession(found[0], UiRole(found[1][0])) if found is not None else None

    def _holder(self, token: str, which: ColumnElement[bool]) -> tuple[SignedInPrincipal, list[str]] | None:
        """Whom an access token of one of `which` grants stands for, and what is written in the grant."""
        if not token.startswith(ACCESS_PREFIX) or not token.isascii():
            return None
        unused = or_(
            oauth_grants.c.last_used_at.is_(None), oauth_grants.c.last_used_at < func.now() - _LAST_USED_RESOLUTION
        )
        granted = grants.join(tenants, (tenants.c.id == grants.c.tenant_id) & (tenants.c.status == TenantStatus.ACTIVE))
        age = func.extract("epoch", func.clock_timestamp() - identities.c.checked_at)
        query = (
            select(
                oauth_tokens.c.scopes.label("allowed"), oauth_grants.c.id.label("grant_id"), oauth_grants.c.client_id,
                oauth_grants.c.scopes.label("written"), oauth_grants.c.toolsets,
                unused.label("unused"), principals.c.id.label("principal_id"), principals.c.name, identities.c.provider,
                age.label("age_s"), tenants.c.key, grants.c.scopes,
            )
            .join(oauth_grants, oauth_grants.c.id == oauth_tokens.c.grant_id)
            .join(oauth_clients, oauth_clients.c.client_id == oauth_grants.c.client_id)
            .join(principals, principals.c.id == oauth_grants.c.principal_id)
            .join(identities, identities.c.principal_id == principals.c.id)
            .outerjoin(granted, grants.c.principal_id == principals.c.id)
            .where(
                oauth_tokens.c.token_hash == token_hash(token),
                which,
                oauth_tokens.c.kind == "access",
                oauth_tokens.c.expires_at > func.now(),
                in_force(),
                oauth_clients.c.blocked_at.is_(None),
                principals.c.revoked_at.is_(None),
                identities.c.blocked_at.is_(None),
            )
        )  # fmt: skip
        with self._database.single() as connection:
            rows = connection.execute(query).all()
            if not rows:
                return None
            row = rows[0]
            if row.unused:
                connection.execute(
                    update(oauth_grants)
                    .where(oauth_grants.c.id == row.grant_id, unused)
                    .values(last_used_at=func.now())
                )
        rights = {each.key: scopes_of(each.scopes) for each in rows if each.key is not None}
        person = SignedInPrincipal(
            Principal(row.principal_id, row.name, rights),
            row.provider,
            row.client_id,
            row.grant_id,
            scopes_of(row.allowed),
            float(row.age_s),
            Toolset.stored(row.toolsets),
        )
        return person, row.written

    def revoke(self, token: str, client_id: str) -> Grant | None:
        """End what a client gives back: an access token alone, or with a refresh token (or the only token of a session at the
        Dagster UI) the whole grant, which is returned. Unknown tokens and those of other clients are left alone."""
        with self._database.begin() as connection:
            row = connection.execute(
                select(oauth_tokens.c.grant_id, oauth_tokens.c.kind)
                .join(oauth_grants, oauth_grants.c.id == oauth_tokens.c.grant_id)
                .where(oauth_tokens.c.token_hash == token_hash(token), oauth_grants.c.client_id == client_id)
            ).first()
            if row is None:
                return None
            if row.kind == "access" and client_id != UI_CLIENT:
                connection.execute(delete(oauth_tokens).where(oauth_tokens.c.token_hash == token_hash(token)))
                return None
            grant = self._lock(connection, row.grant_id)
            if grant is not None:
                self._end(connection, grant.id)
            return grant

    def _lock(self, connection: Connection, grant_id: UUID) -> Grant | None:
        """The grant, locked, while it, its client and its person are good."""
        row = connection.execute(
            select(oauth_grants, principals.c.name)
            .join(principals, principals.c.id == oauth_grants.c.principal_id)
            .join(identities, identities.c.principal_id == principals.c.id)
            .join(oauth_clients, oauth_clients.c.client_id == oauth_grants.c.client_id)
            .where(
                oauth_grants.c.id == grant_id,
                in_force(),
                oauth_clients.c.blocked_at.is_(None),
                identities.c.blocked_at.is_(None),
            )
            .with_for_update(of=oauth_grants)
        ).first()
        return Grant(row.id, row.principal_id, row.name, row.client_id, scopes_of(row.scopes)) if row else None

    def _issue(
        self, connection: Connection, grant: Grant, scopes: frozenset[Scope], session_s: int | None = None
    ) -> Issued:
        """A pair of tokens; for a session, which lasts `session_s` seconds, one."""
        access, lasts_s = ACCESS_PREFIX + secrets.token_urlsafe(_SECRET_BYTES), session_s or ACCESS_S
        refresh = REFRESH_PREFIX + secrets.token_urlsafe(_SECRET_BYTES) if session_s is None else None
        made: list[tuple[str, str, frozenset[Scope], int]] = [(access, "access", scopes, lasts_s)]
        if refresh is not None:
            made.append((refresh, "refresh", grant.scopes, REFRESH_S))
        for token, kind, allowed, lifetime_s in made:
            connection.execute(
                insert(oauth_tokens).values(
                    token_hash=token_hash(token), grant_id=grant.id, kind=kind, scopes=sorted(allowed),
                    expires_at=func.clock_timestamp() + timedelta(seconds=lifetime_s),
                )
            )  # fmt: skip
        connection.execute(
            update(oauth_clients)
            .where(oauth_clients.c.client_id == grant.client_id)
            .values(last_used_at=func.clock_timestamp())
        )
        return Issued(grant, access, refresh, lasts_s, scopes)

    def _reused(self, connection: Connection, grant_id: UUID) -> Refused:
        grant = self._lock(connection, grant_id)
        if grant is None:
            return Refused("unknown")
        self._end(connection, grant.id)
        return Refused("reused", grant)

    def _end(self, connection: Connection, grant_id: UUID) -> None:
        connection.execute(update(oauth_grants).where(oauth_grants.c.id == grant_id).values(revoked_at=func.now()))

    def _forget_old(self, connection: Connection) -> None:
        """Codes, tokens and grants are kept for a day after their end, so that a replay is noticed."""
        for table in (oauth_codes, oauth_tokens):
            connection.execute(delete(table).where(table.c.expires_at < func.now() - _KEPT))
        connection.execute(delete(oauth_grants).where(oauth_grants.c.expires_at < func.now() - _KEPT))


def s256(verifier: str) -> str:
    """The S256 challenge of a PKCE verifier."""
    digest = hashlib.sha256(verifier.encode()).digest()
    return base64.urlsafe_b64encode(digest).rstrip(b"=").decode()


def end_grants(connection: Connection, which: ColumnElement[bool]) -> int:
    """Revoke those grants of `which` that are in force. Returns their number."""
    return connection.execute(update(oauth_grants).where(which, in_force()).values(revoked_at=func.now())).rowcount


def in_force() -> ColumnElement[bool]:
    """Condition: the grant has neither ended nor been revoked."""
    return oauth_grants.c.revoked_at.is_(None) & (oauth_grants.c.expires_at > func.clock_timestamp())
