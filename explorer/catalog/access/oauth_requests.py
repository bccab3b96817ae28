"""Which sign-ins are under way? One row per browser tab, from the consent page to the code; any bridge serves any step.

Each step is taken once: the row changes only for who still holds it. A request ends after ten minutes, or later where the person
waits for something that takes longer.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any
from uuid import UUID, uuid4

from sqlalchemy import ColumnElement, Row, delete, func, insert, select, update

from explorer.catalog.access.principals import Scope, scopes_of, token_hash
from explorer.catalog.secrets.keyring import Keyring
from explorer.catalog.storage.database import Database
from explorer.catalog.storage.tables import oauth_requests
from explorer.core.jsonb import storable
from explorer.core.toolsets import Toolset

REQUEST_S = 600


@dataclass(frozen=True)
class SignInRequest:
    """A sign-in under way. `state`: the client's own; `challenge`: its S256 PKCE challenge; `provider`: the identity provider
    that was chosen; `secret`: what belongs to the provider's part; `offered`: what page 2 shows, None before it.
    `toolsets`: chosen on page 1."""

    id: UUID
    client_id: str
    redirect_uri: str
    state: str | None
    scopes: frozenset[Scope]
    challenge: str
    provider: str | None = None
    secret: str | None = None
    offered: Mapping[str, Any] | None = None
    toolsets: frozenset[Toolset] = frozenset()


class OAuthRequestStore:
    """The sign-ins under way. `browser` is the secret of the browser's cookie; only its hash is stored."""

    def __init__(self, database: Database, keyring: Callable[[], Keyring]) -> None:
        self._database = database
        self._keyring = keyring

    def begin(
        self,
        client_id: str,
        redirect_uri: str,
        state: str | None,
        scopes: Sequence[Scope],
        challenge: str,
        browser: str,
    ) -> UUID:
        """Begin a sign-in in this browser. Returns its id."""
        id_ = uuid4()
        with self._database.begin() as connection:
            connection.execute(delete(oauth_requests).where(oauth_requests.c.expires_at < func.now()))
            connection.execute(
                insert(oauth_requests).values(
                    id=id_,
                    client_id=storable(client_id),
                    redirect_uri=storable(redirect_uri),
                    state=storable(state) if state is not None else None,
                    scopes=sorted(scopes),
                    challenge=challenge,
                    browser_hash=token_hash(browser),
                    expires_at=func.clock_timestamp() + timedelta(seconds=REQUEST_S),
                )
            )
        return id_

    def get(self, id_: UUID, browser: str) -> SignInRequest | None:
        """The sign-in, while it is under way in this browser."""
        with self._database.single() as connection:
            row = connection.execute(select(oauth_requests).where(*_held(id_, browser))).first()
        return self._request(row)

    def leave_for(
        self,
        id_: UUID,
        browser: str,
        provider: str,
        state: str,
        secret: str,
        toolsets: Iterable[Toolset] = (),
    ) -> bool:
        """Record that the browser is sent to `provider` with `state`, and the toolsets, whatever was chosen before. False when
        the sign-in is not under way in this browser."""
        values = {
            "provider": storable(provider), "state_hash": token_hash(state), "secret": self._seal(id_, secret), "offered": None,
            "toolsets": sorted(toolsets),
        }  # fmt: skip
        with self._database.single() as connection:
            changed = connection.execute(update(oauth_requests).where(*_held(id_, browser)).values(**values))
            return changed.rowcount == 1

    def return_from(self, provider: str, state: str, browser: str) -> SignInRequest | None:
        """The sign-in that was sent to `provider` with `state` from this browser; once. A state in another browser is not used
        up."""
        with self._database.single() as connection:
            row = connection.execute(
                update(oauth_requests)
                .where(
                    oauth_requests.c.state_hash == token_hash(state),
                    oauth_requests.c.provider == storable(provider),
                    oauth_requests.c.browser_hash == token_hash(browser),
                    oauth_requests.c.used_at.is_(None),
                    oauth_requests.c.expires_at > func.clock_timestamp(),
                )
                .values(state_hash=None)
                .returning(*oauth_requests.c)
            ).first()
        return self._request(row)

    def offer(self, id_: UUID, browser: str, secret: str, offered: Mapping[str, Any]) -> bool:
        """Record who the person is (`secret`) and what page 2 shows. False when the sign-in is no longer under way."""
        values = {"secret": self._seal(id_, secret), "offered": storable(dict(offered))}
        with self._database.single() as connection:
            changed = connection.execute(update(oauth_requests).where(*_held(id_, browser)).values(**values))
            return changed.rowcount == 1

    def prolong(self, id_: UUID, browser: str) -> None:
        """Let the sign-in end `REQUEST_S` from now, if it would end in half of that."""
        soon = func.clock_timestamp() + timedelta(seconds=REQUEST_S / 2)
        with self._database.single() as connection:
            connection.execute(
                update(oauth_requests)
                .where(*_held(id_, browser), oauth_requests.c.expires_at < soon)
                .values(expires_at=func.clock_timestamp() + timedelta(seconds=REQUEST_S))
            )

    def finish(self, id_: UUID, browser: str) -> SignInRequest | None:
        """End the sign-in and return it; once."""
        with self._database.single() as connection:
            row = connection.execute(
                update(oauth_requests)
                .where(*_held(id_, browser))
                .values(used_at=func.clock_timestamp(), state_hash=None)
                .returning(*oauth_requests.c)
            ).first()
        return self._request(row)

    def _request(self, row: Row[Any] | None) -> SignInRequest | None:
        if row is None:
            return None
        secret = self._keyring().decrypt(request_purpose(row.id), row.secret).decode() if row.secret else None
        return SignInRequest(
            row.id,
            row.client_id,
            row.redirect_uri,
            row.state,
            scopes_of(row.scopes),
            row.challenge,
            row.provider,
            secret,
            row.offered,
            Toolset.stored(row.toolsets),
        )

    def _seal(self, id_: UUID, secret: str) -> bytes:
        return self._keyring().encrypt(request_purpose(id_), secret.encode())


def request_purpose(id_: UUID) -> str:
    """The keyring's purpose for the secret of a sign-in."""
    return f"oauth_request:{id_}"


def _held(id_: UUID, browser: str) -> tuple[ColumnElement[bool], ...]:
    """Condition: the sign-in, while it is under way in this browser."""
    return (
        oauth_requests.c.id == id_,
        oauth_requests.c.browser_hash == token_hash(browser),
        oauth_requests.c.used_at.is_(None),
        oauth_requests.c.expires_at > func.clock_timestamp(),
    )
