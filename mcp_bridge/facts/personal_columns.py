"""Which columns of a tenant's tables hold personal data? Judged by the rules that the run's steps apply too, and kept for the
queries that follow."""

import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import cast
from uuid import UUID

from explorer.catalog import State, Tenant, TenantSchema
from explorer.contract.bookkeeping.columns import ColumnFacts
from explorer.personal_data import reason
from explorer.registry import Semantics, parse_semantics
from mcp_bridge.clients.platform_database import PlatformDatabase
from mcp_bridge.clients.tenant_databases import TenantDatabases
from mcp_bridge.clients.timeouts import CATALOG_S, in_thread
from mcp_bridge.facts.pipelines import PipelineFiles
from mcp_bridge.facts.relations import LiveTables, columns_of

# For so long another bridge's change of a tenant's words may go unnoticed here. The reader's rights change at once.
_GOOD_S = 30.0
_GOOD_WHILE_WRITTEN_S = 2.0
_KEPT = 1000

Reasons = Mapping[str, str]
"""Why columns are personal data, by column."""


@dataclass
class _Known:
    """`tables`: by name, of the schemas as they were; `version`: of the tenant's own words."""

    schema: TenantSchema
    semantics: Semantics
    version: int
    good_until_s: float
    tables: dict[str, Reasons] = field(default_factory=dict)


class PersonalColumns:
    """The columns with personal data of each tenant. For use inside one event loop."""

    def __init__(self, platform: PlatformDatabase, databases: TenantDatabases, files: PipelineFiles) -> None:
        self._platform, self._databases, self._files = platform, databases, files
        self._known: dict[UUID, _Known] = {}

    async def of(self, tenant: Tenant, live: LiveTables, tables: Iterable[str]) -> dict[str, Reasons]:
        """Of these tables, those with such columns.

        Raises:
            SemanticsInvalid: the tenant's own words are of another version of the program.
            SchemaAbsent, DatabaseUnreachable, DatabaseTimeout, CatalogUnavailable.
        """
        known = self._known.get(tenant.id)
        if known is None or known.schema != live.schema or known.good_until_s < time.monotonic():
            known = await self._renewed(tenant, live, known)
        missing = [name for name in tables if name not in known.tables and name in live.relations]
        if missing:
            found = await in_thread(lambda: self._read(tenant, live, known.semantics, missing))
            known.tables |= found
        return {name: known.tables[name] for name in tables if known.tables.get(name)}

    def forget(self, tenant: Tenant) -> None:
        """The tenant's words have changed."""
        self._known.pop(tenant.id, None)

    async def _renewed(self, tenant: Tenant, live: LiveTables, before: _Known | None) -> _Known:
        own = await in_thread(lambda: self._platform.catalog.semantics.latest(tenant), within_s=CATALOG_S)
        version = own.version if own else 0
        is_written = live.schema.state is State.MATERIALIZING
        good_until_s = time.monotonic() + (_GOOD_WHILE_WRITTEN_S if is_written else _GOOD_S)
        if before is not None and before.version == version and before.schema == live.schema and not is_written:
            before.good_until_s = good_until_s
            return before
        semantics = self._files.semantics_of(tenant)
        semantics = semantics.under(parse_semantics(own.content)) if own else semantics
        known = self._known[tenant.id] = _Known(live.schema, semantics, version, good_until_s)
        while len(self._known) > _KEPT:
            del self._known[next(iter(self._known))]
        return known

    def _read(self, tenant: Tenant, live: LiveTables, semantics: Semantics, names: list[str]) -> dict[str, Reasons]:
        with self._databases.connection(tenant, live.schema) as connection:
            columns = columns_of(connection, live, names)
        return {
            name: {
                column.name: why
                for column in columns[name]
                if (why := reason(semantics, name, column.name, column.type, cast(ColumnFacts, column.facts)))
            }
            for name in names
        }
