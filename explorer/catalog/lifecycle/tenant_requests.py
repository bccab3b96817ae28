"""Which tenants would people like to have, and what did the operator say? One row per person and place.

A request gives nobody anything. One that was approved lets an administrator of the place register it.
"""

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any
from uuid import UUID, uuid4

from sqlalchemy import Row, func, select, update
from sqlalchemy.dialects.postgresql import insert as insert_or_leave

from explorer.catalog.audit.log import change, record
from explorer.catalog.errors import UnknownTenantRequest
from explorer.catalog.storage.database import Database
from explorer.catalog.storage.tables import tenant_requests
from explorer.core.jsonb import storable

_MAX_WORDS = 500


class Decision(StrEnum):
    """What the operator said."""

    APPROVED = "approved"
    REFUSED = "refused"


@dataclass(frozen=True)
class TenantRequest:
    """A wish of one person. `actor`: who, as in the audit trail; `words`: of the operator, for the person."""

    id: UUID
    provider: str
    server: str
    external_id: str
    title: str
    actor: str
    asked_at: datetime
    decision: Decision | None
    words: str | None


class TenantRequestStore:
    """The requests of all people."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def ask(self, provider: str, server: str, external_id: str, title: str, actor: str) -> TenantRequest:
        """Ask for a tenant. Who has asked for it already has one request, with the operator's answer to it. Audited."""
        place = {"provider": provider, "server": server, "external_id": external_id, "actor": storable(actor)}
        with self._database.begin() as connection:
            made = connection.execute(
                insert_or_leave(tenant_requests)
                .values(id=uuid4(), title=storable(title), **place)
                .on_conflict_do_nothing()
                .returning(tenant_requests)
            ).first()
            if made is not None:
                asked_for = {"provider": provider, "server": server, "external_id": external_id}
                record(connection, change("tenant_requested", actor=actor, **asked_for))
                return _request(made)
            row = connection.execute(
                select(tenant_requests).where(*(tenant_requests.c[name] == value for name, value in place.items()))
            ).one()
        return _request(row)

    def list(self, *, provider: str | None = None, server: str | None = None) -> list[TenantRequest]:
        """The requests, oldest first, of one provider and server if they are given."""
        table = tenant_requests
        wanted = [
            *([table.c.provider == provider] if provider is not None else []),
            *([table.c.server == server] if server is not None else []),
        ]
        with self._database.single() as connection:
            rows = connection.execute(select(table).where(*wanted).order_by(table.c.asked_at, table.c.id)).all()
        return [_request(row) for row in rows]

    def decide(self, id_: UUID, decision: Decision, words: str | None) -> TenantRequest:
        """Answer a request, with words for the person; a later answer replaces this one. Audited.

        Raises:
            UnknownTenantRequest
        """
        said = storable(words)[:_MAX_WORDS] if words else None
        with self._database.begin() as connection:
            row = connection.execute(
                update(tenant_requests)
                .where(tenant_requests.c.id == id_)
                .values(decision=decision, words=said, decided_at=func.clock_timestamp())
                .returning(tenant_requests)
            ).first()
            if row is None:
                raise UnknownTenantRequest(
                    "There is no such request.", next_step="`explorer tenants requests` lists them with their ids."
                )
            facts = {"request": str(id_), "decision": decision.value, "external_id": row.external_id, "of": row.actor}
            record(connection, change("decide_tenant_request", **facts))
        return _request(row)


def _request(row: Row[Any]) -> TenantRequest:
    decision = Decision(row.decision) if row.decision else None
    return TenantRequest(
        row.id, row.provider, row.server, row.external_id, row.title, row.actor, row.asked_at, decision, row.words
    )
