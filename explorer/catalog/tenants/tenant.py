"""Which tenants exist? Each is one unit of data on one server. Reads only; `registration` makes and removes them."""

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any
from uuid import UUID

from sqlalchemy import Row, select

from explorer.catalog.storage.database import Database
from explorer.catalog.storage.tables import tenants
from explorer.core.errors import UnknownTenant
from explorer.core.jsonb import storable


class TenantStatus(StrEnum):
    """`provisioning`: being added, invisible; `removed`: kept for its history, and revived when added again."""

    PROVISIONING = "provisioning"
    ACTIVE = "active"
    REMOVED = "removed"


@dataclass(frozen=True)
class Tenant:
    """One unit of data of a provider. `key`: the readable name of (`provider`, `server`, `external_id`), and Dagster's partition
    key."""

    id: UUID
    key: str
    provider: str
    server: str
    external_id: str
    display_name: str
    status: TenantStatus
    created_at: datetime

    @classmethod
    def from_row(cls, row: Row[Any]) -> "Tenant":
        """From a row of catalog.tenants."""
        return cls(
            row.id,
            row.key,
            row.provider,
            row.server,
            row.external_id,
            row.display_name,
            TenantStatus(row.status),
            row.created_at,
        )


class TenantStore:
    """The tenants, by key."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def get(self, key: str, *, include_removed: bool = False) -> Tenant:
        """The tenant of this key.

        Raises:
            UnknownTenant
        """
        visible = _visible(include_removed)
        with self._database.single() as connection:
            row = connection.execute(
                select(tenants).where(tenants.c.key == storable(key), tenants.c.status.in_(visible))
            ).one_or_none()
        if row is None:
            raise UnknownTenant("There is no such tenant.", next_step="List the tenants you can use.")
        return Tenant.from_row(row)

    def list(self, include_removed: bool = False) -> list[Tenant]:
        """All tenants, by key."""
        visible = _visible(include_removed)
        with self._database.single() as connection:
            rows = connection.execute(
                select(tenants).where(tenants.c.status.in_(visible)).order_by(tenants.c.key)
            ).all()
        return [Tenant.from_row(row) for row in rows]


def _visible(include_removed: bool) -> tuple[TenantStatus, ...]:
    return (TenantStatus.ACTIVE, TenantStatus.REMOVED) if include_removed else (TenantStatus.ACTIVE,)
