"""Which programs may ask people for access? OAuth clients: published, registered by themselves, or blocked by the operator."""

import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Literal

from sqlalchemy import Row, and_, delete, exists, func, or_, select, update
from sqlalchemy.dialects.postgresql import insert

from explorer.catalog.access.oauth_grants import end_grants, in_force
from explorer.catalog.audit.log import change, record
from explorer.catalog.errors import UnknownClient
from explorer.catalog.storage.database import Database
from explorer.catalog.storage.tables import oauth_clients, oauth_grants
from explorer.core.jsonb import storable

ClientKind = Literal["pinned", "document", "registered"]
_ID_PREFIX = "dxc_"
_UNUSED = timedelta(days=1)
_IDLE = timedelta(days=90)


@dataclass(frozen=True)
class OAuthClient:
    """A program. `kind`: its document is `pinned` in this software, was fetched from `client_id` (`document`), or it `registered`
    itself under a made-up name; `stale_s`: for how long its document should have been fetched again, 0 when it is fresh."""

    client_id: str
    kind: ClientKind
    name: str
    redirect_uris: tuple[str, ...]
    stale_s: float
    is_blocked: bool


@dataclass(frozen=True)
class ClientSummary:
    """A program as shown to the operator. `people`: how many it acts for now."""

    client: OAuthClient
    people: int
    created_at: datetime
    last_used_at: datetime | None
    blocked_at: datetime | None


class OAuthClientStore:
    """The OAuth clients of this installation."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def get(self, client_id: str) -> OAuthClient | None:
        """The client, if it is known, also when it is blocked."""
        with self._database.single() as connection:
            row = connection.execute(
                select(oauth_clients, _STALE_S).where(oauth_clients.c.client_id == storable(client_id))
            ).first()
        return _client(row) if row is not None else None

    def register(self, name: str, redirect_uris: Sequence[str]) -> OAuthClient:
        """Make a client with an id of its own."""
        client_id = _ID_PREFIX + secrets.token_urlsafe(16)
        return self._put(client_id, "registered", name, redirect_uris, None)

    def keep(
        self, client_id: str, kind: ClientKind, name: str, redirect_uris: Sequence[str], fresh_s: float | None
    ) -> OAuthClient:
        """Store or renew a published client; whether it is blocked does not change. `fresh_s`: seconds until its document is
        fetched again."""
        return self._put(client_id, kind, name, redirect_uris, fresh_s)

    def block(self, client_id: str) -> int:
        """Refuse the client from now on and end its grants. Returns the number of grants.

        Raises:
            UnknownClient
        """
        with self._database.begin() as connection:
            changed = connection.execute(
                update(oauth_clients)
                .where(oauth_clients.c.client_id == storable(client_id))
                .values(blocked_at=func.coalesce(oauth_clients.c.blocked_at, func.now()))
            )
            if changed.rowcount == 0:
                raise _unknown(client_id)
            ended = end_grants(connection, oauth_grants.c.client_id == storable(client_id))
            record(connection, change("client_block", client_id=client_id, grants=ended))
        return ended

    def unblock(self, client_id: str) -> None:
        """Accept a blocked client again.

        Raises:
            UnknownClient
        """
        with self._database.begin() as connection:
            changed = connection.execute(
                update(oauth_clients).where(oauth_clients.c.client_id == storable(client_id)).values(blocked_at=None)
            )
            if changed.rowcount == 0:
                raise _unknown(client_id)
            record(connection, change("client_unblock", client_id=client_id))

    def list(self) -> list[ClientSummary]:
        """All clients, by name."""
        people = func.count(oauth_grants.c.principal_id.distinct())
        live = and_(oauth_grants.c.client_id == oauth_clients.c.client_id, in_force())
        with self._database.single() as connection:
            rows = connection.execute(
                select(oauth_clients, _STALE_S, people.label("people"))
                .outerjoin(oauth_grants, live)
                .group_by(oauth_clients.c.client_id)
                .order_by(oauth_clients.c.name, oauth_clients.c.client_id)
            ).all()
        return [
            ClientSummary(_client(row), row.people, row.created_at, row.last_used_at, row.blocked_at) for row in rows
        ]

    def forget_unused(self) -> None:
        """Delete clients that nobody used for a day after they came, or not for 90 days. Blocked and pinned ones stay."""
        live = exists().where(oauth_grants.c.client_id == oauth_clients.c.client_id, in_force())
        unused = or_(
            and_(oauth_clients.c.last_used_at.is_(None), oauth_clients.c.created_at < func.now() - _UNUSED),
            oauth_clients.c.last_used_at < func.now() - _IDLE,
        )
        with self._database.single() as connection:
            connection.execute(
                delete(oauth_clients).where(
                    oauth_clients.c.kind != "pinned", oauth_clients.c.blocked_at.is_(None), unused, ~live
                )
            )

    def _put(
        self, client_id: str, kind: ClientKind, name: str, redirect_uris: Sequence[str], fresh_s: float | None
    ) -> OAuthClient:
        fresh_until = func.clock_timestamp() + timedelta(seconds=fresh_s) if fresh_s is not None else None
        values = {"name": storable(name), "redirect_uris": storable(list(redirect_uris)), "fresh_until": fresh_until}
        with self._database.single() as connection:
            row = connection.execute(
                insert(oauth_clients)
                .values(client_id=storable(client_id), kind=kind, **values)
                .on_conflict_do_update(index_elements=[oauth_clients.c.client_id], set_=values)
                .returning(*oauth_clients.c, _STALE_S)
            ).one()
        return _client(row)


_STALE_S = func.coalesce(
    func.greatest(func.extract("epoch", func.clock_timestamp() - oauth_clients.c.fresh_until), 0), 0
).label("stale_s")


def _client(row: Row[tuple[object, ...]]) -> OAuthClient:
    return OAuthClient(
        row.client_id, row.kind, row.name, tuple(row.redirect_uris), float(row.stale_s), row.blocked_at is not None
    )


def _unknown(client_id: str) -> UnknownClient:
    return UnknownClient(
        f"There is no client {client_id[:120]!r}.", next_step="List the clients with `explorer clients list`."
    )
