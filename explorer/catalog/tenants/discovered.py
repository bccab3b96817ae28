"""The discovered structure of each tenant, version by version. Versions outlive the tenant's schemas and never change."""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, Row, func, insert, select

from explorer.catalog.errors import UnknownStructureVersion
from explorer.catalog.storage.database import Database
from explorer.catalog.storage.tables import discovered
from explorer.catalog.tenants.tenant import Tenant
from explorer.core.jsonb import canonical, storable


@dataclass(frozen=True)
class DiscoveredVersion:
    """One version. `changed`: whether it differs from the one before (for `save`: whether it is new); `diff`: the difference."""

    version: int
    changed: bool
    diff: dict[str, Any]
    content_hash: str
    run_id: str | None
    created_at: datetime


@dataclass(frozen=True)
class DiscoveredStructure(DiscoveredVersion):
    """A version with its `structure`, the provider's document."""

    structure: dict[str, Any]


class DiscoveredStore:
    """Versions of every tenant's structure, numbered from 1."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def save(
        self,
        tenant: Tenant,
        structure: dict[str, Any],
        run_id: str | None = None,
        *,
        diff: Callable[[dict[str, Any], dict[str, Any]], dict[str, Any]],
    ) -> DiscoveredVersion:
        """Store `structure` as a new version, unless it equals the latest: then return that one, with `changed` false and no
        diff.

        `diff`: computes the difference of two structures; for the first version, from `{}`.
        """
        content = storable(structure)
        content_hash = hashlib.sha256(canonical(content)).hexdigest()
        with self._database.begin() as connection:
            connection.execute(select(func.pg_advisory_xact_lock(func.hashtextextended(f"discovered:{tenant.id}", 0))))
            latest = _latest(connection, tenant)
            if latest is not None and latest.content_hash == content_hash:
                return DiscoveredVersion(latest.version, False, {}, content_hash, latest.run_id, latest.created_at)
            row = connection.execute(
                insert(discovered)
                .values(
                    tenant_id=tenant.id,
                    version=latest.version + 1 if latest else 1,
                    content_hash=content_hash,
                    structure=content,
                    diff=diff(latest.structure if latest else {}, content),
                    run_id=run_id,
                )
                .returning(discovered)
            ).one()
        return _version(row)

    def latest(self, tenant: Tenant) -> DiscoveredStructure | None:
        """The newest version, None before the first discovery."""
        with self._database.begin() as connection:
            row = _latest(connection, tenant)
        return _structure(row) if row is not None else None

    def get(self, tenant: Tenant, version: int) -> DiscoveredStructure:
        """One version.

        Raises:
            UnknownStructureVersion
        """
        with self._database.begin() as connection:
            row = connection.execute(
                select(discovered).where(discovered.c.tenant_id == tenant.id, discovered.c.version == version)
            ).one_or_none()
        if row is None:
            raise UnknownStructureVersion(
                f"There is no version {version} of this structure.",
                next_step="List the versions and choose one of them.",
            )
        return _structure(row)

    def versions(self, tenant: Tenant) -> list[DiscoveredVersion]:
        """All versions, newest first, without their structures."""
        columns = [column for column in discovered.c if column.name != "structure"]
        with self._database.begin() as connection:
            rows = connection.execute(
                select(*columns).where(discovered.c.tenant_id == tenant.id).order_by(discovered.c.version.desc())
            ).all()
        return [_version(row) for row in rows]


def _latest(connection: Connection, tenant: Tenant) -> Row[Any] | None:
    return connection.execute(
        select(discovered).where(discovered.c.tenant_id == tenant.id).order_by(discovered.c.version.desc()).limit(1)
    ).one_or_none()


def _version(row: Row[Any]) -> DiscoveredVersion:
    return DiscoveredVersion(row.version, True, row.diff, row.content_hash, row.run_id, row.created_at)


def _structure(row: Row[Any]) -> DiscoveredStructure:
    return DiscoveredStructure(row.version, True, row.diff, row.content_hash, row.run_id, row.created_at, row.structure)
