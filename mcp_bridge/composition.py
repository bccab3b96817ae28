"""Builds the bridge's services, each once per process, and gives each the parts that it needs.

Nothing connects here. The bridge can start while Dagster or the database is down, and then each call reports that.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import cache
from threading import Event
from typing import Self

from explorer.catalog import DiscoveredStructure, Tenant
from explorer.core.files import private_secret
from explorer.core.settings import Settings
from explorer.postgres.embedded import EmbeddedPostgres
from explorer.providers.base import Provider
from explorer.registry import Fault, Pipeline
from mcp_bridge.answers.wording import Wording
from mcp_bridge.clients.dagster.client import DagsterClient
from mcp_bridge.clients.platform_database import PlatformDatabase
from mcp_bridge.clients.tenant_databases import TenantDatabases
from mcp_bridge.facts.pipelines import PipelineFiles
from mcp_bridge.facts.semantic_layer import SemanticLayers
from mcp_bridge.facts.tenant_facts import TenantFacts
from mcp_bridge.gate.access import Caller
from mcp_bridge.gate.handlers import Gate
from mcp_bridge.gate.list_cursors import ListCursors
from mcp_bridge.gate.readiness import Readiness
from mcp_bridge.gate.tool import ToolFamily
from mcp_bridge.provenance.schedules import Schedules
from mcp_bridge.provenance.states import DagsterStates
from mcp_bridge.query_path import QueryPath
from mcp_bridge.runs.following import RunFollower
from mcp_bridge.runs.launches import Launches
from mcp_bridge.runs.results import RunResults
from mcp_bridge.sql import PageCursors, QueryLimits
from mcp_bridge.tools.lineage import LineageTools
from mcp_bridge.tools.materialization import MaterializationTools
from mcp_bridge.tools.pipelines import PipelineTools
from mcp_bridge.tools.query import QueryTools
from mcp_bridge.tools.runs import RunTools
from mcp_bridge.tools.search import SearchTools
from mcp_bridge.tools.semantics import SemanticsTools
from mcp_bridge.tools.tables import TableTools
from mcp_bridge.tools.tenants import SchemaChanges, TenantTools

# In HOME, so that replicas and restarts accept each other's cursors.
_CURSOR_KEY = "bridge.key"


@dataclass(frozen=True)
class Parts:
    """The parts that the bridge does not import. The code that starts the process provides them.

    `schemas`: makes and drops a tenant's schemas. `faults_of`: the parts of a pipeline that its provider does not understand.
    """

    schemas: SchemaChanges
    provider_named: Callable[[str], Provider]
    faults_of: Callable[[Pipeline], Iterable[Fault]]


@dataclass(frozen=True)
class Services:
    """The services that the server needs. `closes`: end the background work, in this order; `stopping`: set while calls are
    cancelled because the bridge shuts down."""

    platform: PlatformDatabase
    databases: TenantDatabases
    dagster: DagsterClient
    schedules: Schedules
    facts: TenantFacts
    families: tuple[ToolFamily, ...]
    list_cursors: Callable[[], ListCursors]
    wording: Wording
    closes: tuple[Callable[[], None], ...]
    stopping: Event

    @classmethod
    def compose(cls, settings: Settings, parts: Parts) -> Self:
        """Raises: PipelineInvalid."""
        platform, files = PlatformDatabase(settings), PipelineFiles.read(settings.project_dir, parts.faults_of)
        databases, stopping = TenantDatabases(platform, settings.query_timeout_s), Event()
        dagster = DagsterClient.from_settings(settings)
        results, schedules, launches = RunResults(dagster), Schedules(dagster), Launches(platform, dagster)
        # The result of a run that was followed to its end is not queried again.
        dagster.on_finished = results.remember
        states = DagsterStates(dagster, results, files)
        facts = TenantFacts(platform, databases, files, states, schedules, with_raw=settings.expose_raw)
        layers, path = SemanticLayers(platform, files), _query_path(platform, settings)

        @cache
        def key() -> bytes:
            return private_secret(settings.home / _CURSOR_KEY).encode()

        def discovered(tenant: Tenant) -> DiscoveredStructure | None:
            return platform.catalog.discovered.latest(tenant)

        def tenants_of(caller: Caller) -> list[Tenant]:
            return caller.tenants(platform.catalog)

        search = SearchTools(facts, layers)
        families = (
            TenantTools(platform, parts.schemas, files, schedules, dagster, launches, parts.provider_named),
            TableTools(facts, layers, files, databases, discovered, parts.provider_named),
            search,
            SemanticsTools(facts, layers, path, platform, settings.query_timeout_s),
            QueryTools(facts, path, cache(lambda: PageCursors(key())), _query_limits(settings)),
            PipelineTools(files, schedules),
            MaterializationTools(tenants_of, files, dagster, launches, RunFollower(dagster), stopping.is_set),
            RunTools(files, dagster, results),
            LineageTools(facts, databases, discovered, parts.provider_named),
        )
        wording = Wording.of(files.pipelines.values(), parts.provider_named)
        list_cursors = cache(lambda: ListCursors(key()))
        closes = (
            schedules.close,
            facts.close,
            layers.close,
            states.close,
            search.indexes.close,
            databases.close,
        )
        return cls(platform, databases, dagster, schedules, facts, families, list_cursors, wording, closes, stopping)

    def gate(self, caller: Callable[[], Caller]) -> Gate:
        """The gate that checks and serves calls; `caller` returns the caller of the current call."""
        return Gate(self.families, self.platform, caller, self.list_cursors, self.wording)

    def readiness(self) -> Readiness:
        """The report of whether calls can be served now."""
        return Readiness(self.platform, self.dagster)

    async def aclose(self) -> None:
        """Stop the background work and close all connections."""
        for close in self.closes:
            close()
        await self.dagster.aclose()


def _query_path(platform: PlatformDatabase, settings: Settings) -> QueryPath:
    """The SQL path. On a server that is not ours, only the tenant's own sessions are ended."""
    last_resort_s = settings.query_last_resort_s if settings.database_url is None else 0.0
    return QueryPath(
        platform, lambda pid: EmbeddedPostgres(settings.home).end_session(pid), last_resort_s=last_resort_s
    )


def _query_limits(settings: Settings) -> QueryLimits:
    """The limits of one page of a result."""
    return QueryLimits(
        max_rows=settings.query_max_rows,
        max_bytes=settings.query_max_bytes,
        max_cell_bytes=min(settings.query_max_cell_bytes, settings.query_max_bytes),
        timeout_s=settings.query_timeout_s,
        wait_s=settings.query_wait_s,
    )
