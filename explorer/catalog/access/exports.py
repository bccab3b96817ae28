"""Which results may be downloaded, by which link? A row per link, so that any bridge answers it.

A link is 256 random bits, of which only the hash is stored. What it stands for (the statement, and the token of whoever asked) is
sealed with a key that only the link has: who reads the catalog learns neither.
"""

import base64
import hashlib
import json
import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

from cryptography.fernet import Fernet
from sqlalchemy import delete, func, insert, select, update

from explorer.catalog.access.principals import token_hash
from explorer.catalog.storage.database import Database
from explorer.catalog.storage.tables import exports
from explorer.core.jsonb import storable

LINK_PREFIX = "dxe_"
# A download that broke off is begun again; more often than this nobody needs.
MAX_STARTS = 5
_SECRET_BYTES = 32
# So long it is known that a link has ended, and how.
_KEPT = timedelta(days=1)


@dataclass(frozen=True)
class ExportLink:
    """What a link stands for. `bearer`: the token of who asked, which must still be good; `versions`: of the tables that are
    read, by name; `details`: what else was said of the result when the link was made; `ended`: how the whole download went, None
    before its end; `is_expired`: its time is over."""

    id: UUID
    tenant_id: UUID
    principal_id: UUID
    format: str
    statement: str = field(repr=False)
    bearer: str = field(repr=False)
    versions: Mapping[str, Any]
    details: Mapping[str, Any]
    expires_at: datetime
    starts: int
    ended: Mapping[str, Any] | None
    is_expired: bool


class ExportStore:
    """The links of all principals."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def make(
        self,
        tenant_id: UUID,
        principal_id: UUID,
        bearer: str,
        statement: str,
        format_: str,
        versions: Mapping[str, Any],
        details: Mapping[str, Any],
        lasts_s: float,
    ) -> tuple[str, datetime]:
        """Make a link that lasts so many seconds. Returns it and when it ends; the link cannot be read again later."""
        link = LINK_PREFIX + secrets.token_urlsafe(_SECRET_BYTES)
        content = json.dumps({"statement": statement, "bearer": bearer, "details": dict(details)}).encode()
        with self._database.begin() as connection:
            connection.execute(delete(exports).where(exports.c.expires_at < func.now() - _KEPT))
            expires_at = connection.scalar(
                insert(exports)
                .values(
                    id=uuid4(),
                    link_hash=token_hash(link),
                    tenant_id=tenant_id,
                    principal_id=principal_id,
                    format=format_,
                    statement_sha256=hashlib.sha256(statement.encode("utf-8", "surrogatepass")).hexdigest(),
                    versions=storable(dict(versions)),
                    sealed=_key(link).encrypt(content),
                    expires_at=func.clock_timestamp() + timedelta(seconds=lasts_s),
                )
                .returning(exports.c.expires_at)
            )
        if expires_at is None:
            raise RuntimeError("an inserted row has an end")
        return link, expires_at

    def find(self, link: str) -> ExportLink | None:
        """What a link stands for, for a day after its end too; None for every other text."""
        if not link.startswith(LINK_PREFIX) or not link.isascii():
            return None
        expired = (exports.c.expires_at <= func.clock_timestamp()).label("expired")
        with self._database.single() as connection:
            row = connection.execute(select(exports, expired).where(exports.c.link_hash == token_hash(link))).first()
        if row is None:
            return None
        content = json.loads(_key(link).decrypt(row.sealed))
        return ExportLink(
            row.id, row.tenant_id, row.principal_id, row.format, content["statement"], content["bearer"], row.versions,
            content["details"], row.expires_at, row.starts, row.ended, row.expired,
        )  # fmt: skip

    def start(self, id_: UUID) -> bool:
        """Count a download that begins. False when the link is used up or its time is over."""
        with self._database.single() as connection:
            changed = connection.execute(
                update(exports)
                .where(
                    exports.c.id == id_,
                    exports.c.ended.is_(None),
                    exports.c.starts < MAX_STARTS,
                    exports.c.expires_at > func.clock_timestamp(),
                )
                .values(starts=exports.c.starts + 1)
            )
        return changed.rowcount == 1

    def end(self, id_: UUID, how: Mapping[str, Any]) -> None:
        """Record that the whole result was sent: the link is used up."""
        with self._database.single() as connection:
            connection.execute(
                update(exports).where(exports.c.id == id_, exports.c.ended.is_(None)).values(ended=storable(dict(how)))
            )


def _key(link: str) -> Fernet:
    # Another hash than the stored one, which must not open what is sealed.
    digest = hashlib.sha256(b"explorer.export.sealed\x00" + link.encode()).digest()
    return Fernet(base64.urlsafe_b64encode(digest))
