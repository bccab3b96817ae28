"""Who signed in, and what may they do? People as identity providers know them, with their rights on each tenant.

A person is a principal without a token of its own: programs act for them by OAuth grants (`oauth_grants`). Rights come from the
provider as a complete list and replace the earlier ones.
"""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, Literal
from uuid import UUID, uuid4

from sqlalchemy import Connection, delete, func, insert, or_, select, true, update
from sqlalchemy.dialects.postgresql import insert as insert_or_leave

from explorer.catalog.access.oauth_grants import end_grants, in_force
from explorer.catalog.access.principals import PERSON_PREFIX, Scope, UiRole, scopes_of
from explorer.catalog.audit.log import change, record
from explorer.catalog.errors import IdentityBlocked, UnknownPerson
from explorer.catalog.secrets.keyring import Keyring
from explorer.catalog.storage.database import Database
from explorer.catalog.storage.tables import grants, identities, oauth_clients, oauth_grants, principals, tenants
from explorer.catalog.tenants.tenant import TenantStatus
from explorer.contract.headers import UI_CLIENT
from explorer.core.jsonb import storable

_MAX_NAME_LENGTH = 200
Source = Literal["membership", "claims"]
Rights = Mapping[str, frozenset[Scope]]


@dataclass(frozen=True)
class Identity:
    """A person. (`provider`, `subject`) is unique and never given to somebody else; `username` is for people and the audit."""

    provider: str
    subject: str
    username: str


@dataclass(frozen=True)
class ProviderTokens:
    """The tokens of the identity provider for this person. They are stored encrypted and go to that provider only. `scope`: what
    the person allowed there, as the provider writes it."""

    access: str = field(repr=False)
    refresh: str | None = field(repr=False)
    expires_at: datetime | None
    scope: str = ""

    def dump(self) -> str:
        """The tokens as JSON text."""
        ends = self.expires_at.isoformat() if self.expires_at else None
        return json.dumps({"access": self.access, "refresh": self.refresh, "expires_at": ends, "scope": self.scope})

    @classmethod
    def parse(cls, dumped: str) -> "ProviderTokens":
        """The tokens of `dump`."""
        values = json.loads(dumped)
        ends = values["expires_at"]
        return cls(values["access"], values["refresh"], datetime.fromisoformat(ends) if ends else None, values["scope"])


@dataclass(frozen=True)
class IdentityRecord:
    """A person as stored. `name`: of the principal, as in the audit; `rights`: scopes by tenant key, without removed tenants;
    `checked_age_s`: seconds since the provider told them."""

    principal_id: UUID
    name: str
    identity: Identity
    tokens: ProviderTokens | None
    rights: dict[str, frozenset[Scope]]
    checked_age_s: float
    is_blocked: bool


@dataclass(frozen=True)
class PersonSummary:
    """A person as shown to the operator. `clients`: names of the programs that act for them now."""

    name: str
    identity: Identity
    rights: dict[str, frozenset[Scope]]
    clients: tuple[str, ...]
    signed_in_at: datetime
    checked_at: datetime
    blocked_at: datetime | None


class IdentityStore:
    """The people of all providers."""

    def __init__(self, database: Database, keyring: Callable[[], Keyring]) -> None:
        self._database = database
        self._keyring = keyring

    def sign_in(
        self,
        identity: Identity,
        tokens: ProviderTokens | None,
        rights: Rights,
        *,
        ui: UiRole | None = None,
        source: Source = "membership",
        checked_age_s: float = 0.0,
    ) -> IdentityRecord:
        """Record that the person signed in with these rights, which replace the earlier ones. Tenants that are not active are
        left out. `tokens` None: none are kept. `ui`: the role in the Dagster UI; sessions there with another one end.
        `checked_age_s`: how long ago the provider told the rights.

        Raises:
            IdentityBlocked: the operator does not let this person in.
        """
        provider, subject = storable(identity.provider), storable(identity.subject)
        with self._database.begin() as connection:
            connection.execute(
                select(
                    func.pg_advisory_xact_lock(
                        func.hashtextextended(f"explorer.catalog.identity {provider} {subject}", 0)
                    )
                )
            )
            found = connection.execute(
                select(identities.c.principal_id, identities.c.blocked_at).where(
                    identities.c.provider == provider, identities.c.subject == subject
                )
            ).first()
            if found is not None and found.blocked_at is not None:
                raise IdentityBlocked(
                    "The operator of this installation does not let this account in.",
                    next_step="Ask the operator (`explorer people allow`).",
                )
            values: dict[str, Any] = {
                "username": storable(identity.username),
                "checked_at": func.clock_timestamp() - timedelta(seconds=checked_age_s),
                "signed_in_at": func.clock_timestamp(),
                "checking_until": None,
            }
            if found is None:
                principal_id = _make_principal(connection, identity)
                connection.execute(
                    insert(identities).values(
                        principal_id=principal_id, provider=provider, subject=subject, **values,
                        tokens=self._seal(principal_id, tokens),
                    )
                )  # fmt: skip
            else:
                principal_id = found.principal_id
                connection.execute(
                    update(identities)
                    .where(identities.c.principal_id == principal_id)
                    .values(tokens=self._seal(principal_id, tokens), **values)
                )
            _put_rights(connection, principal_id, rights, source)
            ended = _end_other_sessions(connection, principal_id, ui)
            found_now = self._read(connection, principal_id)
            if found_now is None:
                raise RuntimeError("the identity was written in this transaction")
            if ended:
                record(connection, change("grant_revoked", actor=found_now.name, sessions=ended, by="ui_role_changed"))
        return found_now

    def find(self, principal_id: UUID) -> IdentityRecord | None:
        """The person of a principal.

        Raises:
            KeyringMismatch
        """
        with self._database.begin() as connection:
            return self._read(connection, principal_id)

    def by_subject(self, provider: str, subject: str) -> IdentityRecord | None:
        """The person whom `provider` knows as `subject`.

        Raises:
            KeyringMismatch
        """
        with self._database.begin() as connection:
            principal_id = connection.scalar(
                select(identities.c.principal_id).where(
                    identities.c.provider == storable(provider), identities.c.subject == storable(subject)
                )
            )
            return self._read(connection, principal_id) if principal_id is not None else None

    def claim_check(self, principal_id: UUID, hold_s: float) -> bool:
        """Whether the caller is the one that asks the provider again now; held for `hold_s` seconds."""
        until = func.clock_timestamp() + timedelta(seconds=hold_s)
        free = or_(identities.c.checking_until.is_(None), identities.c.checking_until < func.clock_timestamp())
        with self._database.single() as connection:
            changed = connection.execute(
                update(identities).where(identities.c.principal_id == principal_id, free).values(checking_until=until)
            )
            return changed.rowcount == 1

    def release_check(self, principal_id: UUID) -> None:
        """End a claim without a result."""
        with self._database.single() as connection:
            connection.execute(
                update(identities).where(identities.c.principal_id == principal_id).values(checking_until=None)
            )

    def save_check(self, principal_id: UUID, rights: Rights, ui: UiRole | None = None) -> int:
        """Replace the person's rights by this complete list, and end the claim. `ui`: the role in the Dagster UI; sessions there
        with another one end, and their number is returned."""
        with self._database.begin() as connection:
            connection.execute(
                update(identities)
                .where(identities.c.principal_id == principal_id)
                .values(checked_at=func.clock_timestamp(), checking_until=None)
            )
            _put_rights(connection, principal_id, rights, "membership")
            return _end_other_sessions(connection, principal_id, ui)

    def save_tokens(self, principal_id: UUID, tokens: ProviderTokens) -> None:
        """Store renewed tokens at once: the provider may have ended the old ones, whatever becomes of the check. Not those of a
        person whose sign-in has ended meanwhile."""
        with self._database.single() as connection:
            connection.execute(
                update(identities)
                .where(identities.c.principal_id == principal_id, identities.c.tokens.is_not(None))
                .values(tokens=self._seal(principal_id, tokens))
            )

    def end(self, principal_id: UUID) -> int:
        """End all that was granted to the person: grants, rights and tokens of the provider. Returns the number of grants."""
        with self._database.begin() as connection:
            return _end(connection, principal_id)

    def revoke(self, name: str, *, block: bool = False) -> int:
        """End all that was granted to the person `name`; with `block` they cannot sign in again. Returns the number of grants.

        Raises:
            UnknownPerson
        """
        with self._database.begin() as connection:
            principal_id = _named(connection, name)
            if block:
                connection.execute(
                    update(identities)
                    .where(identities.c.principal_id == principal_id)
                    .values(blocked_at=func.coalesce(identities.c.blocked_at, func.now()))
                )
            ended = _end(connection, principal_id)
            record(connection, change("people_revoke", person=name, grants=ended, blocked=block))
        return ended

    def allow(self, name: str) -> None:
        """Let a blocked person sign in again.

        Raises:
            UnknownPerson
        """
        with self._database.begin() as connection:
            principal_id = _named(connection, name)
            connection.execute(
                update(identities).where(identities.c.principal_id == principal_id).values(blocked_at=None)
            )
            record(connection, change("people_allow", person=name))

    def list(self) -> list[PersonSummary]:
        """All people, by name."""
        with self._database.begin() as connection:
            rows = connection.execute(
                select(identities, principals.c.name)
                .join(principals, principals.c.id == identities.c.principal_id)
                .order_by(principals.c.name)
            ).all()
            rights = _rights(connection)
            programs = connection.execute(
                select(oauth_grants.c.principal_id, oauth_clients.c.name)
                .join(oauth_clients, oauth_clients.c.client_id == oauth_grants.c.client_id)
                .where(in_force())
                .distinct()
                .order_by(oauth_clients.c.name)
            ).all()
        clients: dict[UUID, list[str]] = {}
        for program in programs:
            clients.setdefault(program.principal_id, []).append(program.name)
        return [
            PersonSummary(
                row.name,
                Identity(row.provider, row.subject, row.username),
                rights.get(row.principal_id, {}),
                tuple(clients.get(row.principal_id, ())),
                row.signed_in_at,
                row.checked_at,
                row.blocked_at,
            )
            for row in rows
        ]

    def _read(self, connection: Connection, principal_id: UUID) -> IdentityRecord | None:
        age = func.extract("epoch", func.clock_timestamp() - identities.c.checked_at)
        row = connection.execute(
            select(identities, principals.c.name, age.label("age_s"))
            .join(principals, principals.c.id == identities.c.principal_id)
            .where(identities.c.principal_id == principal_id)
        ).first()
        if row is None:
            return None
        return IdentityRecord(
            principal_id,
            row.name,
            Identity(row.provider, row.subject, row.username),
            self._open(principal_id, row.tokens),
            _rights(connection, principal_id).get(principal_id, {}),
            float(row.age_s),
            row.blocked_at is not None,
        )

    def _seal(self, principal_id: UUID, tokens: ProviderTokens | None) -> bytes | None:
        return self._keyring().encrypt(upstream_purpose(principal_id), tokens.dump().encode()) if tokens else None

    def _open(self, principal_id: UUID, ciphertext: bytes | None) -> ProviderTokens | None:
        if ciphertext is None:
            return None
        return ProviderTokens.parse(self._keyring().decrypt(upstream_purpose(principal_id), ciphertext).decode())


def upstream_purpose(principal_id: UUID) -> str:
    """The keyring's purpose for the tokens of an identity provider."""
    return f"upstream:{principal_id}"


def _make_principal(connection: Connection, identity: Identity) -> UUID:
    """A new principal. Its name is unique: usernames can be given to somebody else later, names in the audit cannot."""
    username = "".join(char if char.isprintable() else "?" for char in identity.username)[:_MAX_NAME_LENGTH]
    name = f"{PERSON_PREFIX}{identity.provider}:{username}"
    for candidate in (name, f"{name} ({uuid4()})"):
        made = connection.execute(
            insert_or_leave(principals)
            .values(id=uuid4(), name=candidate)
            .on_conflict_do_nothing(index_elements=[principals.c.name], index_where=principals.c.revoked_at.is_(None))
            .returning(principals.c.id)
        ).first()
        if made is not None:
            principal_id: UUID = made.id
            return principal_id
    raise RuntimeError("a random name is free")


def _put_rights(connection: Connection, principal_id: UUID, rights: Rights, source: Source) -> None:
    connection.execute(delete(grants).where(grants.c.principal_id == principal_id, grants.c.source != "cli"))
    wanted = {key: sorted(scopes) for key, scopes in rights.items() if scopes}
    found = connection.execute(
        select(tenants.c.id, tenants.c.key).where(tenants.c.key.in_(wanted), tenants.c.status == TenantStatus.ACTIVE)
    ).all()
    if found:
        connection.execute(
            insert(grants),
            [
                {"principal_id": principal_id, "tenant_id": row.id, "scopes": wanted[row.key], "source": source}
                for row in found
            ],
        )


def _end_other_sessions(connection: Connection, principal_id: UUID, ui: UiRole | None) -> int:
    """End the person's sessions at the Dagster UI that have another role than `ui`."""
    other = true() if ui is None else oauth_grants.c.scopes != [ui]
    return end_grants(
        connection, (oauth_grants.c.principal_id == principal_id) & (oauth_grants.c.client_id == UI_CLIENT) & other
    )


def _rights(connection: Connection, principal_id: UUID | None = None) -> dict[UUID, dict[str, frozenset[Scope]]]:
    query = (
        select(grants.c.principal_id, tenants.c.key, grants.c.scopes)
        .join(tenants, tenants.c.id == grants.c.tenant_id)
        .where(tenants.c.status == TenantStatus.ACTIVE, grants.c.source != "cli")
    )
    if principal_id is not None:
        query = query.where(grants.c.principal_id == principal_id)
    found: dict[UUID, dict[str, frozenset[Scope]]] = {}
    for row in connection.execute(query):
        found.setdefault(row.principal_id, {})[row.key] = scopes_of(row.scopes)
    return found


def _named(connection: Connection, name: str) -> UUID:
    principal_id: UUID | None = connection.scalar(
        select(identities.c.principal_id)
        .join(principals, principals.c.id == identities.c.principal_id)
        .where(principals.c.name == storable(name))
    )
    if principal_id is None:
        raise UnknownPerson(
            f"Nobody signed in as {name[:80]!r}.", next_step="List the people with `explorer people list`."
        )
    return principal_id


def _end(connection: Connection, principal_id: UUID) -> int:
    ended = end_grants(connection, oauth_grants.c.principal_id == principal_id)
    connection.execute(
        update(identities).where(identities.c.principal_id == principal_id).values(tokens=None, checking_until=None)
    )
    connection.execute(delete(grants).where(grants.c.principal_id == principal_id, grants.c.source != "cli"))
    return ended
