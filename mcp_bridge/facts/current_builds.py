"""How a tenant's tables came to their rows, at the moment of each call: read over a shared connection, once for all who ask
meanwhile.
"""

import asyncio
from collections import OrderedDict
from dataclasses import dataclass
from uuid import UUID

from explorer.catalog import Tenant, TenantSchema
from explorer.postgres.errors import DatabaseUnreachable
from mcp_bridge.clients.tenant_databases import TenantDatabases
from mcp_bridge.clients.timeouts import in_thread
from mcp_bridge.facts.builds import TableBuild, asking, builds_of, parsed

Builds = dict[str, TableBuild]
_Key = tuple[UUID, str]
# What was read last of so many tenants.
_KEPT = 50


@dataclass(frozen=True)
class _Read:
    text: bytes
    builds: Builds


class CurrentBuilds:
    """For use inside one event loop."""

    def __init__(self, databases: TenantDatabases) -> None:
        self._databases = databases
        self._last: OrderedDict[_Key, _Read] = OrderedDict()
        # The reading that goes on, and the one after it: who asks while a tenant is read gets what is read next.
        self._current: dict[_Key, asyncio.Task[Builds]] = {}
        self._next: dict[_Key, asyncio.Task[Builds]] = {}

    async def of(self, tenant: Tenant, schema: TenantSchema) -> Builds:
        """The builds of all tables by name, read after this call. The same object as before while nothing has changed.

        Raises as `TenantDatabases.connection`.
        """
        key = tenant.id, schema.prefix
        reading = self._next.get(key)
        if reading is None:
            reading = self._next[key] = asyncio.create_task(self._after(self._current.get(key), key, tenant, schema))
        return await asyncio.shield(reading)

    async def _after(
        self, before: "asyncio.Task[Builds] | None", key: _Key, tenant: Tenant, schema: TenantSchema
    ) -> Builds:
        """Read when the reading before has ended, for all who have asked until then."""
        if before is not None:
            await asyncio.wait({before})
        reading = self._current[key] = self._next.pop(key)
        try:
            return await self._read(key, tenant, schema)
        finally:
            if self._current.get(key) is reading:
                del self._current[key]

    async def _read(self, key: _Key, tenant: Tenant, schema: TenantSchema) -> Builds:
        try:
            text = await self._databases.ask(tenant, schema, asking(schema))
        except DatabaseUnreachable:
            text = None
        if text is None:
            # Nothing is built yet, or the connection was lost: the way that tells both apart.
            return await in_thread(self._read_alone, tenant, schema)
        last = self._last.pop(key, None)
        if last is None or last.text != text:
            last = _Read(text, parsed(text))
        self._last[key] = last
        if len(self._last) > _KEPT:
            self._last.popitem(last=False)
        return last.builds

    def _read_alone(self, tenant: Tenant, schema: TenantSchema) -> Builds:
        with self._databases.connection(tenant, schema) as connection:
            return builds_of(connection, schema)
