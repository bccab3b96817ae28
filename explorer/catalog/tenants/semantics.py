"""The semantic overlay of each tenant, over the pipeline's semantic layer, version by version.

Versions never change. `explorer.registry.semantics` decides what an overlay may contain.
"""

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import func, insert, select

from explorer.catalog.storage.database import Database
from explorer.catalog.storage.tables import semantics
from explorer.catalog.tenants.tenant import Tenant
from explorer.core.jsonb import storable


@dataclass(frozen=True)
class SemanticsVersion:
    """One version of a tenant's overlay: plain data, its author and its time."""

    version: int
    content: dict[str, Any]
    actor: str
    created_at: datetime


class SemanticsStore:
    """Versions of every tenant's overlay, numbered from 1."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def save(self, tenant: Tenant, content: dict[str, Any], actor: str) -> SemanticsVersion:
        """Store `content` as the newest version, unless it equals the latest: then return that one."""
        plain = storable(content)
        with self._database.begin() as connection:
            connection.execute(select(func.pg_advisory_xact_lock(func.hashtextextended(f"semantics:{tenant.id}", 0))))
            latest = connection.execute(_latest(tenant)).one_or_none()
            if latest is not None and latest.content == plain:
                return SemanticsVersion(latest.version, latest.content, latest.actor, latest.created_at)
            row = connection.execute(
                insert(semantics)
                .values(
                    tenant_id=tenant.id,
                    version=latest.version + 1 if latest else 1,
                    content=plain,
                    actor=storable(actor),
                )
                .returning(semantics)
            ).one()
        return SemanticsVersion(row.version, row.content, row.actor, row.created_at)

    def latest(self, tenant: Tenant) -> SemanticsVersion | None:
        """The current version; None when the tenant has no overlay."""
        with self._database.single() as connection:
            row = connection.execute(_latest(tenant)).one_or_none()
        return SemanticsVersion(row.version, row.content, row.actor, row.created_at) if row is not None else None


def _latest(tenant: Tenant) -> Any:
    return select(semantics).where(semantics.c.tenant_id == tenant.id).order_by(semantics.c.version.desc()).limit(1)
