"""Builds the bridge's services, each once per process, and gives each the parts that it needs.

Nothing connects here. The bridge can start while Dagster or the database is down, and then each call reports that.
"""

from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass
from functools import cache
from threading import Event
from typing import Self

from explorer.catalog import DiscoveredStructure, HeadKey, Tenant
from explorer.core.files import private_secret
from explorer.core.settings import Settings
from explorer.core.toolsets import Toolset
from explorer.postgres.connections import is_external
from explorer.postgres.embedded import EmbeddedPostgres
from explorer.postgres.provisioning import RO_CONNECTIONS
from explorer.providers.base import Provider
from explorer.registry import Fault, Pipeline
from mcp_bridge.answers.wording import Wording
from mcp_bridge.clients.dagster.client import DagsterClient
from mcp_bridge.clients.platform_database import PlatformDatabase
from mcp_bridge.clients.tenant_databases import TenantDatabases
from mcp_bridge.dictionary.gathering import Dictionaries
from mcp_bridge.exports.exporting import Exports
from mcp_bridge.facts.personal_columns import PersonalColumns
from mcp_bridge.facts.pipelines import PipelineFiles
from mcp_bridge.facts.semantic_layer import SemanticLayers
from mcp_bridge.facts.tenant_facts import TenantFacts
from mcp_bridge.gate.access import Caller
from mcp_bridge.gate.audit_heads import AuditHeads
from mcp_bridge.gate.budgets import Budgets, TableRules
from mcp_bridge.gate.confirmation import SealedQuestions
from mcp_bridge.gate.handlers import Gate
from mcp_bridge.gate.list_cursors import ListCursors
from mcp_bridge.gate.readiness import Readiness
from mcp_bridge.gate.refused_tokens import RefusedTokens
from mcp_bridge.gate.tool import ToolFamily
from mcp_bridge.metrics import BridgeMetrics
from mcp_bridge.provenance.schedules import Schedules
from mcp_bridge.provenance.states import DagsterStates
from mcp_bridge.query_path import QueryPath
from mcp_bridge.runs.comparison import RunComparisons
from mcp_bridge.runs.first_sync import FirstSyncs
from mcp_bridge.runs.following import RunFollower
from mcp_bridge.runs.launches import Launches
from mcp_bridge.runs.plans import RunPlans
from mcp_bridge.runs.provisioning import ProvisioningJob
from mcp_bridge.runs.results import RunResults
from mcp_bridge.sql import MOST_SLOTS, PageCursors, QueryLimits
from mcp_bridge.tools.activity import ActivityTools
from mcp_bridge.tools.export import Delivery, ExportTools
from mcp_bridge.tools.glance import Glance
from mcp_bridge.tools.lineage import LineageTools
from mcp_bridge.tools.materialization import MaterializationTools
from mcp_bridge.tools.models.saved_models import SavedModelTools
from mcp_bridge.tools.pipelines import PipelineTools
from mcp_bridge.tools.query import QueryTools
from mcp_bridge.tools.runs import OwnRuns, RunTools
from mcp_bridge.tools.schema.meanings import Meanings
from mcp_bridge.tools.schema.personal_data import PersonalDataTools
from mcp_bridge.tools.schema.semantics import SemanticsTools
from mcp_bridge.tools.search import SearchTools
from mcp_bridge.tools.tables import TableTools
from mcp_bridge.tools.tenants import TenantTools
from mcp_bridge.tools.workspaces.leaving import LostMembers
from mcp_bridge.tools.workspaces.managing import WorkspaceTools
from mcp_bridge.tools.workspaces.querying import WorkspaceQueries

# In HOME unless it is a setting, so that replicas and restarts accept each other's cursors.
_INSTALLATION_KEY = "bridge.key"


@dataclass(frozen=True)
class Parts:
    """The parts that the bridge does not import. The code that starts the process provides them.

    `faults_of`: the parts of a pipeline that its provider does not understand.
    """

    provider_named: Callable[[str], Provider]
    faults_of: Callable[[Pipeline], Iterable[Fault]]


@dataclass(frozen=True)
class Services:
    """The services that the server needs. `closes`: end the background work, in this order; `stopping`: set while calls are
    cancelled because the bridge shuts down."""

    settings: Settings
    platform: PlatformDatabase
    databases: TenantDatabases
    dagster: DagsterClient
    schedules: Schedules
    facts: TenantFacts
    dictionaries: Dictionaries
    families: tuple[ToolFamily, ...]
    list_cursors: Callable[[], ListCursors]
    questions: SealedQuestions
    budgets: Budgets
    audit_heads: AuditHeads
    refused_tokens: RefusedTokens
    wording: Wording
    closes: tuple[Callable[[], None], ...]
    stopping: Event
    first_syncs: FirstSyncs
    metrics: BridgeMetrics
    exports: Exports
    delivery: Delivery

    @classmethod
    def compose(cls, settings: Settings, parts: Parts) -> Self:
        """Raises: PipelineInvalid."""
        platform, files = PlatformDatabase(settings), PipelineFiles.read(settings.project_dir, parts.faults_of)
        databases, stopping = TenantDatabases(platform, settings.query_timeout_s), Event()
        metrics = BridgeMetrics()
        dagster = DagsterClient.from_settings(settings)
        results, launches = RunResults(dagster), Launches(platform, dagster)
        schedules = Schedules(
            dagster,
            lambda pipeline: platform.catalog.syncs.all(pipeline),
            trusted_s=round(settings.look_trusted_hours * 3600),
        )
        job = ProvisioningJob(platform, dagster)
        # The result of a run that was followed to its end is not queried again.
        dagster.on_finished = results.remember
        states = DagsterStates(dagster, results, files, with_raw=settings.expose_raw)
        rules = TableRules()
        budgets = Budgets(platform, settings, rules)
        facts = TenantFacts(platform, databases, files, states, schedules, rules.of, with_raw=settings.expose_raw)
        personal = PersonalColumns(platform, databases, files)
        layers, path = SemanticLayers(platform, files), _query_path(platform, settings, metrics, personal)

        @cache
        def key() -> bytes:
            given = settings.installation_key
            return (given.get_secret_value() if given else private_secret(settings.home / _INSTALLATION_KEY)).encode()

        def discovered(tenant: Tenant) -> DiscoveredStructure | None:
            return platform.catalog.discovered.latest(tenant)

        def tenants_of(caller: Caller) -> list[Tenant]:
            return caller.tenants(platform.catalog)

        search, exports = SearchTools(facts, layers), Exports(facts, path, settings)
        lost = LostMembers(job)
        cursors, limits = cache(lambda: PageCursors(key())), _query_limits(settings)
        over = WorkspaceQueries(platform, facts, path, cursors, limits, lost.notice)
        own_runs = OwnRuns(tenants_of, dagster)
        compared = RunComparisons(platform, databases, settings.run_retention_days)
        delivery = Delivery(settings.export_dir or settings.home / "exports", settings.export_link_minutes * 60)
        families = (
            TenantTools(
                platform,
                job,
                files,
                schedules,
                dagster,
                launches,
                parts.provider_named,
                Glance(files, schedules, dagster),
            ),
            TableTools(facts, layers, files, databases, discovered, parts.provider_named),
            search,
            SemanticsTools(facts, layers, path, platform, settings),
            PersonalDataTools(platform, settings),
            SavedModelTools(facts, path, platform, job, settings),
            QueryTools(facts, path, cursors, limits, over.query),
            ExportTools(exports, platform, delivery),
            Meanings(facts, layers),
            WorkspaceTools(platform, facts, job),
            PipelineTools(files, schedules, platform),
            MaterializationTools(
                own_runs,
                files,
                dagster,
                launches,
                RunFollower(dagster),
                compared,
                RunPlans(platform, dagster, launches, compared),
                stopping.is_set,
            ),
            RunTools(own_runs, files, dagster, results, compared),
            ActivityTools(platform),
            LineageTools(facts, databases, discovered, parts.provider_named),
        )
        dictionaries = Dictionaries(facts, layers, files, databases, discovered, parts.provider_named)
        wording = Wording.of(files.pipelines.values(), parts.provider_named)
        list_cursors = cache(lambda: ListCursors(key()))
        # A bridge on another machine makes no key of its own, which nobody would know.
        signs = settings.catalog_url is None or settings.audit_key is not None
        head_key = cache(lambda: HeadKey.load(settings)) if signs else None
        syncs = FirstSyncs(platform, dagster, job, launches, files.of)
        heads = AuditHeads(platform, head_key, settings.audit_head_interval_s)
        closes = (
            syncs.close,
            lost.close,
            schedules.close,
            facts.close,
            layers.close,
            states.close,
            search.indexes.close,
            path.close,
            databases.close,
            platform.close_calls,
        )
        return cls(
            settings, platform, databases, dagster, schedules, facts, dictionaries, families, list_cursors,
            SealedQuestions(key), budgets, heads, RefusedTokens(platform, metrics), wording, closes, stopping, syncs, metrics,
            exports, delivery,
        )  # fmt: skip

    def gate(self, caller: Callable[[], Awaitable[Caller]]) -> Gate:
        """The gate that checks and serves calls; `caller` returns the caller of the current call."""
        return Gate(
            self.families, self.platform, caller, self.budgets, self.list_cursors, self.wording, self.metrics,
            Toolset.listed(self.settings.bridge_toolsets),
        )  # fmt: skip

    def readiness(self) -> Readiness:
        """The report of whether calls can be served now."""
        return Readiness(self.platform, self.dagster)

    async def aclose(self) -> None:
        """Stop the background work and close all connections."""
        for close in self.closes:
            close()
        await self.dagster.aclose()


def _query_path(
    platform: PlatformDatabase, settings: Settings, metrics: BridgeMetrics, personal: PersonalColumns
) -> QueryPath:
    """The SQL path. On a server that is not ours, only the tenant's own sessions are ended."""
    last_resort_s = 0.0 if is_external(settings) else settings.query_last_resort_s
    return QueryPath(
        platform,
        lambda pid: EmbeddedPostgres(settings.home).end_session(pid),
        metrics,
        personal,
        last_resort_s=last_resort_s,
        # Together not more than a reader may have connections, so that the processes need not wait for each other.
        slots=min(MOST_SLOTS, RO_CONNECTIONS // settings.bridge_processes),
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
