"""Reads tenant databases as the loader, over pooled connections, so that a read does not need a new login.

The reader's login cannot see the system catalogs. The loader owns the tenant's schemas and no others; here it only reads.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial

from explorer.catalog import Tenant, TenantSchema
from explorer.postgres.connections import Login
from mcp_bridge.clients.loader_connections import Connection, LoaderConnections
from mcp_bridge.clients.platform_database import PlatformDatabase
from mcp_bridge.clients.shared_loaders import SharedLoaders
from mcp_bridge.clients.timeouts import CATALOG_S, in_thread


class TenantDatabases:
    """Read-only connections of tenants. Thread-safe, but for `ask`, which belongs to one event loop."""

    def __init__(self, platform: PlatformDatabase, statement_timeout_s: float) -> None:
        self._platform = platform
        self._pool = LoaderConnections(statement_timeout_s)
        self._shared = SharedLoaders(CATALOG_S)

    @contextmanager
    def connection(self, tenant: Tenant, schema: TenantSchema) -> Iterator[Connection]:
        """A connection in autocommit mode, new or pooled. Blocks.

        Raises:
            SchemaAbsent: the tenant has no schemas now.
            DatabaseUnreachable, CatalogUnavailable.
        """
        with self._pool.lent(schema.rw, partial(self._login, tenant)) as connection:
            yield connection

    async def ask(self, tenant: Tenant, schema: TenantSchema, statement: bytes) -> bytes | None:
        """The first value that a short statement gives, as text, over a connection that calls share.

        Raises:
            DatabaseTimeout. DatabaseUnreachable: it gave none. SchemaAbsent, CatalogUnavailable.
        """
        return await self._shared.ask(schema.rw, partial(in_thread, self._login, tenant, within_s=CATALOG_S), statement)

    def prepare(self, tenant: Tenant, schema: TenantSchema) -> None:
        """Open a connection for the next query of the tenant's schemas. Does not block."""
        self._pool.prepare(schema.rw, partial(self._login, tenant))

    def close(self) -> None:
        """Close the idle connections, and from now on each one that is returned."""
        self._pool.close()
        self._shared.close()

    def _login(self, tenant: Tenant) -> Login:
        rw = self._platform.catalog.schemas.rw_login(tenant)
        return self._platform.connections.tenant(rw.user, rw.password)
