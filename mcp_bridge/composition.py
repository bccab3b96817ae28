"""Who is made of whom in the bridge? Every service once per process, each given what it needs.

Nothing is reached here: the bridge comes up while Dagster or the database is still down, and each call says so.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import cache
from typing import Self

from explorer.core.files import private_secret
from explorer.core.settings import Settings
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
from mcp_bridge.sql import PageCursors
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
    """What the bridge does not import: whoever starts the process hands it in.

    `schemas`: how a tenant's are made and dropped. `faults_of`: what a pipeline says that its provider does not understand.
    """

    schemas: SchemaChanges
    provider_named: Callable[[str], Provider]
    faults_of: Callable[[Pipeline], Iterable[Fault]]


@dataclass
class Services:
    """What the server needs of one bridge. `stopping`: calls are cancelled because the bridge shuts down."""

    platform: PlatformDatabase
    databases: TenantDatabases
    dagster: DagsterClient
    schedules: Schedules
    facts: TenantFacts
    families: tuple[ToolFamily, ...]
    list_cursors: Callable[[], ListCursors]
    wording: Wording
    stopping: bool = False

    @classmethod
    def compose(cls, settings: Settings, parts: Parts) -> Self:
        """Raises: PipelineInvalid."""
        platform, files = PlatformDatabase(settings), PipelineFiles.read(settings.project_dir, parts.faults_of)
        databases = TenantDatabases(platform, settings.query_timeout_s)
        dagster = DagsterClient.from_settings(settings)
        results, schedules, launches = RunResults(dagster), Schedules(dagster), Launches(platform, dagster)
        states = DagsterStates(dagster, results, files)
        facts = TenantFacts(platform, databases, files, states, schedules, with_raw=settings.expose_raw)
        layers, path = SemanticLayers(platform, files), QueryPath(platform, settings)

        @cache
        def key() -> bytes:
            return private_secret(settings.home / _CURSOR_KEY).encode()

        families = (
            TenantTools(platform, parts.schemas, files, schedules, dagster, launches, parts.provider_named),
            TableTools(facts, layers, files, platform, databases, parts.provider_named),
            SearchTools(facts, layers),
            SemanticsTools(facts, layers, path, platform, settings.query_timeout_s),
            QueryTools(facts, path, cache(lambda: PageCursors(key())), settings),
            PipelineTools(files, schedules),
            MaterializationTools(platform, files, dagster, launches, RunFollower(dagster), lambda: services.stopping),
            RunTools(files, dagster, results),
            LineageTools(facts, platform, databases, parts.provider_named),
        )
        wording = Wording.of(files.pipelines.values(), parts.provider_named)
        services = cls(
            platform, databases, dagster, schedules, facts, families, cache(lambda: ListCursors(key())), wording
        )
        return services

    def gate(self, caller: Callable[[], Caller]) -> Gate:
        """Lets calls in; `caller` tells who makes the one being served."""
        return Gate(self.families, self.platform, caller, self.list_cursors, self.wording)

    def readiness(self) -> Readiness:
        """Says whether calls can be served now."""
        return Readiness(self.platform, self.dagster)

    async def aclose(self) -> None:
        """Stop asking, and close all connections."""
        self.schedules.close()
        self.facts.close()
        await self.dagster.aclose()
        self.databases.close()
