"""What lives once per process and is shared by all calls: settings, pipelines, catalog, Dagster client, keys.

Nothing is reached at the start: the bridge comes up while Dagster or the database is still down, and each call says so.
"""

import asyncio
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING
from uuid import UUID

from explorer.catalog import Catalog, Tenant, TenantSchema
from explorer.core.files import private_secret
from explorer.core.settings import Settings
from explorer.postgres.connections import Connections, Login, load_connections
from explorer.postgres.state import record_mark
from explorer.providers import faults_of, provider_named
from explorer.providers.base import Provider
from explorer.registry import Keys, Pipeline, Semantics, load_keys, load_pipelines, load_semantics
from mcp_bridge.clients.dagster import AssetState, DagsterClient
from mcp_bridge.clients.loader_connections import LoaderConnections
from mcp_bridge.facts.cache import Kept
from mcp_bridge.facts.checks import FailingChecks
from mcp_bridge.facts.freshness import FreshnessRules
from mcp_bridge.gate.access import Caller
from mcp_bridge.gate.list_cursors import ListCursors
from mcp_bridge.query_path import QueryLogins, QueryRunner
from mcp_bridge.runs.results import RunResults
from mcp_bridge.sql import PageCursors

if TYPE_CHECKING:
    from mcp_bridge.facts.relations import Column
    from mcp_bridge.facts.search import Item
    from mcp_bridge.facts.semantic_layer import Meaning
    from mcp_bridge.facts.tables import Known, TenantTables

_CURSOR_KEY = "bridge.key"
# About 0.2 MB each for a tenant of 100 tables.
_KEPT_TENANTS = 1000
# About 5 MB each: every column with all that the applications say of it.
_KEPT_WHOLE = 20
_KEPT_PIPELINES = 50
_DEFINITIONS_S = 60.0


@dataclass
class Bridge:
    """`caller` tells who makes the call being served; `stopping` that calls are cancelled because the bridge shuts down.

    `queries` runs tenants' SQL. `semantics`: of each pipeline. `provider_named`: the provider that
    tenants and pipelines name. `asking`: what is being asked of Dagster about a tenant's schemas, by
    tenant id. `launching`: the end of the launch that is under way here, by tenant id. `tables` and `meanings`: what was last
    found out of each tenant, until its tables change; `columns` and `indexes`:
    of tenants asked about as a whole. `definitions`: the assets of each pipeline without what was materialized.
    """

    settings: Settings
    caller: Callable[[], Caller]
    pipelines: dict[str, Pipeline]
    dagster: DagsterClient
    loaders: LoaderConnections
    results: RunResults
    checks: FailingChecks
    freshness: FreshnessRules
    semantics: dict[str, Semantics]
    keys: dict[str, Keys]
    provider_named: Callable[[str], Provider]
    tables: "Kept[TenantTables]" = field(default_factory=lambda: Kept(_KEPT_TENANTS))
    meanings: "Kept[Meaning]" = field(default_factory=lambda: Kept(_KEPT_TENANTS))
    columns: "Kept[dict[str, list[Column]]]" = field(default_factory=lambda: Kept(_KEPT_WHOLE))
    indexes: "Kept[list[Item]]" = field(default_factory=lambda: Kept(_KEPT_WHOLE))
    definitions: Kept[list[AssetState]] = field(default_factory=lambda: Kept(_KEPT_PIPELINES, _DEFINITIONS_S, 0.0))
    asking: "dict[UUID, tuple[TenantSchema, asyncio.Task[Known]]]" = field(default_factory=dict)
    launching: dict[UUID, asyncio.Event] = field(default_factory=dict)
    queries: QueryRunner = field(init=False)
    stopping: bool = False
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _catalog: tuple[Login, Catalog] | None = None
    _connections: tuple[tuple[int, int] | None, Connections] | None = None
    _cursors: PageCursors | None = None
    _list_cursors: ListCursors | None = None

    @classmethod
    def open(cls, settings: Settings, caller: Callable[[], Caller]) -> "Bridge":
        """Raises: PipelineInvalid."""
        dagster = DagsterClient.from_settings(settings)
        folder = settings.project_dir / "pipelines"
        pipelines = load_pipelines(folder, faults_of)
        semantics = {name: load_semantics(folder, pipeline) for name, pipeline in pipelines.items()}
        keys = {p.name: load_keys(settings.project_dir / p.transforms.dbt_project) for p in pipelines.values()}
        results = RunResults(dagster)
        checks, freshness = FailingChecks(results), FreshnessRules(dagster)
        loaders = LoaderConnections(settings.query_timeout_s)
        return cls(
            settings, caller, pipelines, dagster, loaders, results, checks, freshness, semantics, keys, provider_named
        )

    def __post_init__(self) -> None:
        self.queries = QueryRunner(self.settings, self._query_logins)

    def _query_logins(self, tenant: Tenant) -> QueryLogins:
        reader = self.catalog.schemas.ro_login(tenant)
        return QueryLogins(self.connections.tenant(reader.user, reader.password), self.connections.service)

    async def aclose(self) -> None:
        self.freshness.close()
        for _, task in self.asking.values():
            task.cancel()
        await self.dagster.aclose()
        self.loaders.close()

    @property
    def catalog(self) -> Catalog:
        """The catalog, opened at first use and again when the database has moved. Blocks; raises what `Catalog.open` raises."""
        with self._lock:
            login = self.connections.service
            if self._catalog is None or self._catalog[0] != login:
                self._catalog = (login, Catalog.open(self.settings))
            return self._catalog[1]

    @property
    def connections(self) -> Connections:
        """How to log in; read again when it changes, since a restarted database may have another port."""
        mark = record_mark(self.settings.home)
        kept = self._connections
        if kept is None or mark is None or kept[0] != mark:
            kept = self._connections = (mark, load_connections(self.settings))
        return kept[1]

    @property
    def cursors(self) -> PageCursors:
        """Signer of result pages; its key lies in HOME, so that replicas and restarts accept each other's cursors."""
        if self._cursors is None:
            self._cursors = PageCursors(private_secret(self.settings.home / _CURSOR_KEY).encode())
        return self._cursors

    @property
    def list_cursors(self) -> ListCursors:
        """Signer of the places where lists go on, with the same key."""
        if self._list_cursors is None:
            self._list_cursors = ListCursors(private_secret(self.settings.home / _CURSOR_KEY).encode())
        return self._list_cursors

    def provider_of(self, tenant: Tenant) -> Provider:
        """The provider of this tenant, as far as the bridge asks it: for the words of what changed."""
        return self.provider_named(tenant.provider)

    def pipelines_of(self, tenant: Tenant) -> Iterator[Pipeline]:
        """The pipelines that fill this tenant's tables."""
        return (pipeline for pipeline in self.pipelines.values() if pipeline.provider == tenant.provider)
