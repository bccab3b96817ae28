"""Who did what to which tenant, with which result? Append-only: the database refuses changes."""

from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from sqlalchemy import insert, select

from explorer.catalog.storage.database import Database
from explorer.catalog.storage.tables import audit
from explorer.core.jsonb import storable

_MAX_TEXT_LENGTH = 500


@dataclass(frozen=True)
class AuditEntry:
    """One call. `outcome`: `ok`, `error` or `denied`; `code`: of the error; `detail`: JSON-safe facts, with hashes of statements
    but never SQL literals, credentials or answers."""

    actor: str
    action: str
    tenant_key: str | None
    outcome: str
    code: str | None = None
    detail: dict[str, Any] = field(default_factory=dict)
    duration_ms: int | None = None


@dataclass(frozen=True)
class AuditRecord:
    """A stored entry: `at` is the database's time, `id` grows with every entry."""

    id: int
    at: datetime
    entry: AuditEntry


class AuditLog:
    """The log of all tenants."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def append(self, entry: AuditEntry) -> None:
        """Add `entry`. Texts longer than 500 characters are cut."""
        with self._database.single() as connection:
            connection.execute(
                insert(audit).values(
                    actor=_text(entry.actor),
                    action=_text(entry.action),
                    tenant_key=_text(entry.tenant_key),
                    outcome=_text(entry.outcome),
                    code=_text(entry.code),
                    detail=storable(entry.detail),
                    duration_ms=entry.duration_ms,
                )
            )

    def read(self, actor: str | None = None, tenant: str | None = None, limit: int = 100) -> list[AuditRecord]:
        """The newest entries first; `tenant` is a tenant key."""
        query = select(audit).order_by(audit.c.id.desc()).limit(limit)
        if actor is not None:
            query = query.where(audit.c.actor == _text(actor))
        if tenant is not None:
            query = query.where(audit.c.tenant_key == _text(tenant))
        with self._database.begin() as connection:
            rows = connection.execute(query).all()
        return [
            AuditRecord(
                row.id,
                row.at,
                AuditEntry(row.actor, row.action, row.tenant_key, row.outcome, row.code, row.detail, row.duration_ms),
            )
            for row in rows
        ]


def _text(text: str | None) -> str | None:
    return storable(text)[:_MAX_TEXT_LENGTH] if text is not None else None
