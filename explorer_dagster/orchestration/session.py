"""What a step needs to work for one tenant: catalog entries, logins, folders, and its schemas' state meanwhile."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import dagster as dg

from explorer_dagster.catalog import Catalog, State, Tenant, TenantLogin, TenantSchema
from explorer_dagster.commcare.client import CommCareClient
from explorer_dagster.errors import ExplorerError, TransientError
from explorer_dagster.postgres.connections import Connections, Login, load_connections
from explorer_dagster.settings import Settings, get_settings

FULL_REFRESH_TAG = "explorer/full_refresh"


@dataclass(frozen=True)
class TenantSession:
    """One tenant during one run. `full_refresh`: read everything again instead of what changed."""

    settings: Settings
    catalog: Catalog
    connections: Connections
    tenant: Tenant
    schema: TenantSchema
    run_id: str
    full_refresh: bool

    @property
    def rw_login(self) -> TenantLogin:
        """The tenant's own writing login: the only one that its data is loaded and transformed with."""
        return self.catalog.schemas.rw_login(self.tenant)

    @property
    def rw_database(self) -> Login:
        """The same login as a way into the database."""
        return self.connections.tenant(self.rw_login.user, self.rw_login.password)

    def work_dir(self, tool: str) -> Path:
        """`HOME/<tool>/<prefix>`: the tool's files of this tenant, kept between runs."""
        folder = self.settings.home / tool / self.schema.prefix
        folder.mkdir(parents=True, exist_ok=True)
        return folder

    def client(self) -> CommCareClient:
        """A client of the tenant's own server, whose refreshed tokens are kept in the catalog."""
        tenant = self.tenant
        return CommCareClient(
            tenant.server,
            tenant.domain,
            self.catalog.credentials.load(tenant),
            settings=self.settings,
            refresh=lambda stale, renew: self.catalog.credentials.refresh(tenant, stale, renew),
        )

    @contextmanager
    def materializing(self) -> Iterator[None]:
        """Mark the schemas as being written while the block runs.

        A worker that was killed leaves the mark; Dagster lets one run per tenant work at a time, so the next run takes it over.
        """
        schemas = self.catalog.schemas
        schemas.transition(
            self.tenant, {State.ACTIVE, State.MATERIALIZING, State.EXPIRED}, State.MATERIALIZING, run_id=self.run_id
        )
        try:
            yield
        finally:
            schemas.transition(self.tenant, {State.MATERIALIZING}, State.ACTIVE, run_id=self.run_id)


class Platform(dg.ConfigurableResource):  # type: ignore[type-arg]
    """The platform's settings, database and catalog, opened at first use in the process of the step."""

    @cached_property
    def settings(self) -> Settings:
        return get_settings()

    @cached_property
    def connections(self) -> Connections:
        return load_connections(self.settings)

    @cached_property
    def catalog(self) -> Catalog:
        return Catalog.open(self.settings)

    def session(self, context: dg.AssetExecutionContext) -> TenantSession:
        """The tenant of the run's partition.

        Raises:
            UnknownTenant: the partition names no tenant of the catalog.
        """
        tenant = self.catalog.tenants.get(context.partition_key)
        return TenantSession(
            settings=self.settings,
            catalog=self.catalog,
            connections=self.connections,
            tenant=tenant,
            schema=self.catalog.schemas.get(tenant),
            run_id=context.run_id,
            full_refresh=context.run.tags.get(FULL_REFRESH_TAG) == "true",
        )


def failure(error: ExplorerError) -> dg.Failure:
    """The error as Dagster shows it: message, next step and code as metadata; retried only where trying again can help."""
    return dg.Failure(
        description=str(error),
        metadata={
            "code": error.code,
            "next_step": error.next_step,
            "details": dg.MetadataValue.json(error.details),
        },
        allow_retries=isinstance(error, TransientError),
    )
