"""Who did what to which tenant, with which result? Entries are only added, by a function of the database that chains them."""

import json
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, Row, Select, Text, cast, select, text

from explorer.catalog.audit.chain import ChainedEntry, Segment
from explorer.catalog.audit.heads import Head
from explorer.catalog.storage.database import Database
from explorer.catalog.storage.tables import audit_entries as entries
from explorer.catalog.storage.tables import audit_head, audit_segments
from explorer.core.jsonb import storable

_MAX_TEXT_LENGTH = 500
_BATCH = 1000
_APPEND = text("SELECT audit.append(CAST(:given AS jsonb))")


@dataclass(frozen=True)
class AuditEntry:
    """One call, or one change. `outcome`: `ok`, `error` or `denied`; `code`: of the error; `detail`: JSON-safe facts, with hashes
    of statements but never SQL literals, credentials or answers."""

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


def as_json(entries: Iterable[AuditEntry]) -> str:
    """The argument of `audit.append`. Texts longer than 500 characters are cut."""
    return json.dumps([_as_object(entry) for entry in entries])


# Whoever works on the installation with its own files and logins.
# Actors that are no principals: who reads HOME's private files, and senders without a good token.
OPERATOR, ANONYMOUS = "operator", "anonymous"


def change(action: str, tenant_key: str | None = None, *, actor: str = OPERATOR, **detail: Any) -> AuditEntry:
    """The entry of something that was changed, by the operator unless told."""
    return AuditEntry(actor, action, tenant_key, "ok", detail=detail)


def record(connection: Connection, *entries: AuditEntry) -> None:
    """Add entries in the caller's transaction, as its last step: others who append wait until it ends."""
    connection.execute(_APPEND, {"given": as_json(entries)})


def done_for(connection: Connection, actor: str, action: str) -> set[str]:
    """The keys of the tenants for which this actor's `action` went well, by the entries that are in the database. In the caller's
    transaction."""
    mine = (entries.c.actor == _text(actor), entries.c.action == action, entries.c.outcome == "ok")
    keys = select(entries.c.tenant_key).where(*mine, entries.c.tenant_key.is_not(None)).distinct()
    return set(connection.scalars(keys))


class AuditLog:
    """The log of all tenants."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def append(self, entry: AuditEntry) -> None:
        """Add `entry`. Texts longer than 500 characters are cut."""
        self.append_all([entry])

    def append_all(self, entries: Iterable[AuditEntry]) -> None:
        """Add entries in one step: one lock of the chain, one commit."""
        with self._database.single() as connection:
            record(connection, *entries)

    def read(
        self, actor: str | None = None, tenant: str | None = None, limit: int = 100, before: int | None = None
    ) -> list[AuditRecord]:
        """The newest entries first; `tenant` is a tenant key; `before`: only entries with a lower id."""
        query = select(entries).order_by(entries.c.id.desc()).limit(limit)
        if actor is not None:
            query = query.where(entries.c.actor == _text(actor))
        if tenant is not None:
            query = query.where(entries.c.tenant_key == _text(tenant))
        if before is not None:
            query = query.where(entries.c.id < before)
        with self._database.begin() as connection:
            return [_record(row) for row in connection.execute(query)]

    def last_of(self, tenant: str, *, but_by: str) -> datetime | None:
        """When the newest entry about a tenant was made, by anybody but this actor; None without any in the database."""
        query = (
            select(entries.c.at)
            .where(entries.c.tenant_key == _text(tenant), entries.c.actor != _text(but_by))
            .order_by(entries.c.id.desc())
            .limit(1)
        )
        with self._database.single() as connection:
            at: datetime | None = connection.scalar(query)
        return at

    def head(self) -> Head:
        """The newest entry's id and hash."""
        with self._database.single() as connection:
            return _head(connection)

    @contextmanager
    def snapshot(self) -> Iterator["AuditSnapshot"]:
        """The trail at one moment, whoever adds to it meanwhile."""
        with self._database.begin() as connection:
            connection.execute(text("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY"))
            yield AuditSnapshot(connection)


class AuditSnapshot:
    """Head, segments and entries that belong together."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def head(self) -> Head:
        """The newest entry's id and hash."""
        return _head(self._connection)

    def segments(self, kind: str) -> list[Segment]:
        """The closed ranges of this kind, the oldest first."""
        query = select(audit_segments).where(audit_segments.c.kind == kind).order_by(audit_segments.c.last_id)
        return [_segment(row) for row in self._connection.execute(query)]

    def entries(self, after: int = 0, until: datetime | None = None) -> Iterator[ChainedEntry]:
        """The entries with an id above `after`, older than `until`, the oldest first; read in batches."""
        query: Select[Any] = (
            select(*(column for column in entries.c if column.name != "detail"), cast(entries.c.detail, Text).label("detail"))
            .where(entries.c.id > after)
            .order_by(entries.c.id)
        )  # fmt: skip
        if until is not None:
            query = query.where(entries.c.at < until)
        for row in self._connection.execution_options(yield_per=_BATCH).execute(query):
            yield ChainedEntry(
                row.id, row.at, row.actor, row.action, row.tenant_key, row.outcome, row.code, row.detail, row.duration_ms,
                row.previous, row.hash,
            )  # fmt: skip


def _head(connection: Connection) -> Head:
    row = connection.execute(select(audit_head.c.id, audit_head.c.hash)).one()
    return Head(row.id, row.hash)


def _segment(row: Row[Any]) -> Segment:
    return Segment(
        row.kind,
        row.first_id,
        row.last_id,
        row.first_at,
        row.last_at,
        row.entries,
        row.previous,
        row.hash,
        row.file_sha256,
    )


def _record(row: Row[Any]) -> AuditRecord:
    return AuditRecord(
        row.id,
        row.at,
        AuditEntry(row.actor, row.action, row.tenant_key, row.outcome, row.code, row.detail, row.duration_ms),
    )


def _as_object(entry: AuditEntry) -> dict[str, Any]:
    return {
        "actor": _text(entry.actor),
        "action": _text(entry.action),
        "tenant_key": _text(entry.tenant_key),
        "outcome": _text(entry.outcome),
        "code": _text(entry.code),
        "detail": storable(entry.detail),
        "duration_ms": entry.duration_ms,
    }


def _text(text: str | None) -> str | None:
    return storable(text)[:_MAX_TEXT_LENGTH] if text is not None else None
