"""The tools about tenants and their schemas: list them, show their state, make and drop schemas."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar
from uuid import UUID

from pydantic import Field

from explorer.catalog import (
    Catalog,
    DiscoveredVersion,
    ProvisioningKind,
    ProvisioningRequest,
    QuotaUse,
    SchemaStateConflict,
    Scope,
    State,
    Tenant,
    TenantSchema,
)
from explorer.catalog.lifecycle.overviews import Overview
from explorer.catalog.lifecycle.schemas import LIVE
from explorer.core.errors import ExplorerError
from explorer.core.toolsets import Toolset
from explorer.providers.base import Provider
from mcp_bridge.answers.envelope import Answer, age_s, clipped, fit, iso, room_left, without_nulls
from mcp_bridge.answers.paging import PAGING_TOKENS, next_place, page_after
from mcp_bridge.clients.dagster.client import DagsterClient
from mcp_bridge.clients.dagster.errors import DagsterUnavailable, in_time
from mcp_bridge.clients.dagster.records import Run
from mcp_bridge.clients.platform_database import PlatformDatabase
from mcp_bridge.clients.timeouts import CATALOG_S, LIST_S, in_thread
from mcp_bridge.facts.pipelines import PipelineFiles
from mcp_bridge.gate.confirmation import Question
from mcp_bridge.gate.list_cursors import MAX_CHARS
from mcp_bridge.gate.tool import Arguments, Call, TenantArguments, Tool
from mcp_bridge.provenance.schedules import Schedules
from mcp_bridge.runs.launches import Launches
from mcp_bridge.runs.provisioning import WAIT_S, ProvisioningJob
from mcp_bridge.tools.glance import Glance, overviews_of, told_once
from mcp_bridge.tools.pipelines import sync_row

_MAX_VERSIONS = 9
# Tokens.
_MAX_CHANGES, _MAX_SENTENCE, _MAX_HEADLINE, _MAX_ERROR = 2_500, 300, 150, 800
_TENANT_TOKENS = 300


class RunActive(ExplorerError):
    """A run of the tenant has not ended yet."""

    code = "run_active"


class ListTenants(Arguments):
    search: str | None = Field(None, max_length=200, description="Only tenants with this in key, name or domain.")
    limit: int = Field(50, ge=1, le=50, description="Tenants per page.")
    cursor: str | None = Field(None, max_length=MAX_CHARS, description="next_cursor of the page before.")


class SchemaStatus(TenantArguments):
    pass


class ProvisionSchema(TenantArguments):
    pass


class TeardownSchema(TenantArguments):
    confirm: str | None = Field(None, max_length=128, description="The tenant key again, if the host cannot ask.")


def _structure(provider: Provider, versions: list[DiscoveredVersion]) -> dict[str, Any] | None:
    """The tenant's current structure, and the changes of each version. In the first version everything is new."""
    if not versions:
        return None
    latest = versions[0]
    lines = provider.sentences(latest.diff) if latest.version > 1 else []
    shown = fit((clipped(line, _MAX_SENTENCE) for line in lines), _MAX_CHANGES) if lines else []
    return _version_row(provider, latest) | {
        "age_s": age_s(latest.created_at),
        "run_id": latest.run_id,
        "changes": shown + ([f"and {len(lines) - len(shown)} more"] if len(shown) < len(lines) else []),
        "earlier_versions": [_version_row(provider, version) for version in versions[1 : _MAX_VERSIONS + 1]],
    }


def _version_row(provider: Provider, version: DiscoveredVersion) -> dict[str, Any]:
    return {
        "version": version.version,
        "discovered_at": iso(version.created_at),
        "brought": clipped(provider.headline(version.diff), _MAX_HEADLINE),
    }


def _schema_row(schema: TenantSchema) -> dict[str, Any]:
    return {
        "state": schema.state.value,
        "state_changed_at": iso(schema.state_changed_at),
        "age_s": age_s(schema.state_changed_at),
        "last_error": clipped(schema.last_error, _MAX_ERROR) if schema.last_error else None,
        "last_run_id": schema.run_id,
        # Dropped because nobody asked them; a run makes them again.
        **({"expired_at": iso(schema.expired_at)} if schema.is_gone_for_now else {}),
        "schemas": {"marts": schema.marts, "staging": schema.staging, "raw": schema.raw},
    }


def _quota_row(use: QuotaUse) -> dict[str, Any] | None:
    """What the tenant may load in a day and has loaded, where that has a limit."""
    limits = {name: limit for name, limit in use.quota.given().items() if limit}
    row = {name: {"per_day": limit, "used": use.used[name]} for name, limit in limits.items()}
    again = {"exhausted": use.exhausted, "again_at": iso(use.again_at)} if use.exhausted is not None else {}
    return {**row, **again} or None


def _drops(tenant: Tenant, schema: TenantSchema) -> Question:
    """The question before a tenant's schemas go. New schemas of the tenant are another question."""
    name = clipped(tenant.display_name, _MAX_HEADLINE)
    return Question(
        f"Drop the schemas of {tenant.key} ({name}) with all of its loaded data? This cannot be undone.",
        tenant.key,
        about=schema.prefix,
    )


def _release_from_dead_run(catalog: Catalog, tenant: Tenant) -> None:
    """Release the schemas from a run whose worker was killed before it could do so. Dagster has confirmed that no run is
    active."""
    if catalog.schemas.get(tenant).state is State.MATERIALIZING:
        catalog.schemas.transition(tenant, {State.MATERIALIZING}, State.ACTIVE)


@dataclass(frozen=True)
class TenantTools:
    """`job`: makes and drops a tenant's schemas."""

    platform: PlatformDatabase
    job: ProvisioningJob
    files: PipelineFiles
    schedules: Schedules
    dagster: DagsterClient
    launches: Launches
    provider_named: Callable[[str], Provider]
    glance: Glance

    async def list_tenants(self, call: Call, args: ListTenants) -> Answer:

        def read() -> tuple[list[Tenant], bool, int, dict[UUID, Overview]]:
            catalog = self.platform.catalog
            wanted = (args.search or "").lower()
            own = [
                t
                for t in call.caller.tenants(catalog)
                if wanted in f"{t.key}\n{t.display_name}\n{t.external_id}".lower()
            ]
            page, more = page_after(own, args.cursor, args.limit, lambda tenant: tenant.key)
            return page, more, len(own), overviews_of(catalog, page)

        (page, more, total, overviews), (active, warnings) = await asyncio.gather(
            in_thread(read, within_s=CATALOG_S), self.glance.active()
        )
        # One that was removed meanwhile has no overview.
        page = [tenant for tenant in page if tenant.id in overviews]
        listed = [self.glance.row(call.caller, t, overviews[t.id], active.get(t.key)) for t in page]
        common, listed = told_once(listed)
        rows = fit(listed, room_left(common, warnings) - PAGING_TOKENS, _TENANT_TOKENS)
        # The cursor uses the tenant's key, not its row, because a row may be cut.
        cursor = next_place(page, len(rows), more, lambda tenant: tenant.key)
        of_all = {"of_all": common} if common else {}
        return Answer({"tenants": rows, **of_all, "total": total, "next_cursor": cursor}, warnings)

    async def get_schema_status(self, call: Call, args: SchemaStatus) -> Answer:
        tenant = call.own_tenant

        def read() -> tuple[TenantSchema, dict[str, Any] | None, QuotaUse]:
            catalog = self.platform.catalog
            structure = _structure(self.provider_named(tenant.provider), catalog.discovered.versions(tenant))
            return catalog.schemas.get(tenant), structure, catalog.quotas.use([tenant.id])[tenant.id]

        (schema, structure, use), (active, warnings), schedules = await asyncio.gather(
            in_thread(read), self._active(tenant), self._schedules(tenant)
        )
        return Answer(
            {
                **_schema_row(schema),
                "schedules": schedules,
                "structure": structure,
                **without_nulls({"quota": _quota_row(use)}),
                "active_run": {"run_id": active.run_id, "status": active.status} if active else None,
            },
            warnings,
            schema.marts,
        )

    async def provision_schema(self, call: Call, args: ProvisionSchema) -> Answer:
        tenant = call.own_tenant
        before = call.own.schema
        if before.state not in LIVE:
            request = await self._asked(call, ProvisioningKind.PROVISION, tenant)
            if not request.has_ended:
                return await self._still_at_work(request, tenant)
        schema = await in_thread(lambda: self.platform.catalog.schemas.get(tenant))
        created = before.prefix != schema.prefix or before.state is State.ABSENT
        next_step = (
            "run_materialization fills them." if created else "They were there already and were left as they are."
        )
        return Answer({**_schema_row(schema), "created": created, "next_step": next_step}, schema=schema.marts)

    async def teardown_schema(self, call: Call, args: TeardownSchema) -> Answer:
        tenant = call.own_tenant
        # Before the question and after it: the user may take minutes, and nobody is to be asked in vain.
        await self._refuse_while_running(tenant)
        if not await self.job.is_asked(ProvisioningKind.TEARDOWN, tenant):
            call.audit["confirmed_by"] = await call.user.confirm(_drops(tenant, call.own.schema), args.confirm)
        async with self.launches.nothing_launched(tenant, call.caller.actor):
            await self._refuse_while_running(tenant)
            await self._refuse_other_schemas(call)
            request = await self._asked(call, ProvisioningKind.TEARDOWN, tenant)
        if not request.has_ended:
            return await self._still_at_work(request, tenant)
        schema = await in_thread(lambda: self.platform.catalog.schemas.get(tenant))
        return Answer(
            {
                **_schema_row(schema),
                "dropped": True,
                "next_step": "provision_schema and run_materialization bring the data back.",
            }
        )

    async def _asked(self, call: Call, kind: ProvisioningKind, tenant: Tenant) -> ProvisioningRequest:
        request = await self.job.done(kind, tenant, call.caller.actor, call.progress)
        call.audit["run_id"] = request.run_id
        return request

    async def _still_at_work(self, request: ProvisioningRequest, tenant: Tenant) -> Answer:
        schema = await in_thread(lambda: self.platform.catalog.schemas.get(tenant))
        return Answer(
            {
                **_schema_row(schema),
                "finished": False,
                "run_id": request.run_id,
                "run_url": self.dagster.run_url(request.run_id) if request.run_id else None,
                "next_step": f"The provisioning job needs longer than {WAIT_S:.0f} s: call again to go on waiting for it.",
            }
        )

    async def _active(self, tenant: Tenant) -> tuple[Run | None, list[str]]:
        """The tenant's active run, or a sentence on why it is unknown."""
        try:
            return await in_time(self.dagster.active_run(tenant.key), LIST_S), []
        except DagsterUnavailable as error:
            return None, [f"{error.message} Whether a run is active is unknown."]

    async def _schedules(self, tenant: Tenant) -> list[dict[str, Any]]:
        """What updates the tenant's tables by itself, when, and what keeps it from that."""
        rows = [sync_row(self.platform, self.schedules, tenant, pipeline) for pipeline in self.files.of(tenant)]
        return [row for row in await asyncio.gather(*rows) if row is not None]

    async def _refuse_other_schemas(self, call: Call) -> None:
        """Raise when the schemas were made anew since the call came: the user was asked about the others."""
        now = await in_thread(lambda: self.platform.catalog.schemas.get(call.own_tenant))
        if now.prefix != call.own.schema.prefix:
            raise SchemaStateConflict(
                f"The schemas of {call.own_tenant.key} were made anew meanwhile.",
                next_step="Call again, if these are to be dropped, too.",
            )

    async def _refuse_while_running(self, tenant: Tenant) -> None:
        """Raise while a run is active or queued; the schemas' state does not show queued runs. Without Dagster none can start."""
        try:
            active = await self.dagster.active_run(tenant.key)
        except DagsterUnavailable:
            return
        if active is not None:
            raise RunActive(
                f"Run {active.run_id} of {tenant.key} is {active.status.lower()}.",
                next_step="Wait for it with get_materialization_status, or cancel_materialization, then try again.",
                details={"run_id": active.run_id},
            )
        await in_thread(lambda: _release_from_dead_run(self.platform.catalog, tenant))

    TOOLS: ClassVar[tuple[Tool, ...]] = (
        Tool(
            "list_tenants",
            "List tenants",
            "Lists the tenants ({tenants}) that this token may use: age and freshness of their data, the active run, how "
            "the last one ended, tables and rows in sum, scopes held. Call it first when you do not know the tenant key, "
            "and to compare how fresh several are. For tables of one tenant use list_tables.",
            ListTenants,
            list_tenants,
            None,
        ),
        Tool(
            "get_schema_status",
            "Get schema status",
            "State of a tenant's schemas (active, materializing, absent, ...), the last error, the active run, quotas, and how "
            "the applications changed, version by version. Use it when tables or "
            "columns are missing or new. For a run's progress use get_materialization_status.",
            SchemaStatus,
            get_schema_status,
            Scope.METADATA_READ,
        ),
        Tool(
            "provision_schema",
            "Provision schemas",
            "Creates empty schemas and logins for a tenant that has none. Existing ones stay. "
            "Follow with run_materialization to fill them. Not needed before an ordinary sync.",
            ProvisionSchema,
            provision_schema,
            Scope.SCHEMA_MANAGE,
            Toolset.SCHEMA,
            mutates=True,
        ),
        Tool(
            "teardown_schema",
            "Tear down schemas",
            "Drops a tenant's schemas with all loaded data. Irreversible, though a later sync can load the data again. "
            "The user is asked; where the host cannot ask, you do, and repeat the tenant key in confirm. Refused while "
            "a run is active. To reload data "
            "use run_materialization with full_refresh instead.",
            TeardownSchema,
            teardown_schema,
            Scope.SCHEMA_MANAGE,
            Toolset.SCHEMA,
            mutates=True,
            destructive=True,
        ),
    )
