"""The tool that lists the pipelines and their schedules."""

import asyncio
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, ClassVar

from pydantic import Field

from explorer.catalog import Scope, Tenant
from explorer.catalog.coordination.syncs import CHOICES, RESET, chosen_of, is_late
from explorer.core.errors import ExplorerError
from explorer.core.toolsets import Toolset
from explorer.registry import Pipeline
from mcp_bridge.answers.envelope import Answer, InvalidArgument, fit, iso, room_left, unknown_name, without_nulls
from mcp_bridge.answers.paging import PAGING_TOKENS, next_place, page_after
from mcp_bridge.clients.platform_database import PlatformDatabase
from mcp_bridge.clients.timeouts import CATALOG_S, in_thread
from mcp_bridge.facts.freshness import ScheduleState
from mcp_bridge.facts.pipelines import PipelineFiles
from mcp_bridge.gate.list_cursors import MAX_CHARS
from mcp_bridge.gate.tool import Arguments, Call, TenantArguments, Tool
from mcp_bridge.provenance.schedules import Schedules


class UnknownPipeline(ExplorerError):
    """No pipeline of this name fills the tenant's tables."""

    code = "unknown_pipeline"


class ListPipelines(Arguments):
    limit: int = Field(20, ge=1, le=50, description="Pipelines per page.")
    cursor: str | None = Field(None, max_length=MAX_CHARS, description="next_cursor of the page before.")


class ConfigurePipeline(TenantArguments):
    pipeline: str = Field("", description="Name from list_pipelines.")
    cron: str | None = Field(None, max_length=100, description="When to look for news, five fields.")
    full_refresh_cron: str | None = Field(None, max_length=100, description="When all is read again.")
    timezone: str | None = Field(None, max_length=60, description="Of both, e.g. Asia/Kolkata.")
    stopped: bool | None = Field(None, description="Nothing starts by itself.")
    fresh_within_minutes: int | None = Field(None, ge=1, le=525_600, description="Older is stale.")
    reset: bool = Field(False, description="Back to the pipeline's own first.")


def pipeline_named(files: PipelineFiles, tenant: Tenant, name: str) -> Pipeline:
    """The pipeline of this name; without a name, the tenant's first. Raises: UnknownPipeline."""
    usable = {pipeline.name: pipeline for pipeline in files.of(tenant)}
    wanted = name or next(iter(usable), name)
    if wanted not in usable:
        raise unknown_name(UnknownPipeline, "pipeline", wanted, list(usable), "list_pipelines")
    return usable[wanted]


def _pipeline_row(
    pipeline: Pipeline, schedule: ScheduleState | None, full_refresh: ScheduleState | None
) -> dict[str, Any]:
    return {
        "name": pipeline.name,
        "title": pipeline.title,
        "description": pipeline.description,
        "provider": pipeline.provider,
        "schedules": {
            "sync": schedule.row() if schedule else None,
            "full_refresh": full_refresh.row() if full_refresh else None,
        },
        "discovery": [f"{part.name}: {part.description}" for part in pipeline.discovery],
        "sources": [
            {
                "asset": f"raw/{s.name}",
                "table": s.table,
                "incremental": s.cursor is not None,
                "description": s.description,
            }
            for s in pipeline.sources
        ],
        "transforms": pipeline.transforms.description if pipeline.transforms else None,
    }


async def sync_row(
    platform: PlatformDatabase, schedules: Schedules, tenant: Tenant, pipeline: Pipeline
) -> dict[str, Any] | None:
    """What the tenant follows of a pipeline: its turns, the next one, and why it is held back. None without a schedule."""
    sync, state = await asyncio.gather(
        in_thread(platform.catalog.syncs.of, tenant, pipeline.name, within_s=CATALOG_S),
        schedules.schedule(pipeline, tenant),
    )
    if state is None:
        return None
    # What was just chosen is not in the list yet that all answers share.
    own, now = sync.schedule(pipeline.schedule), datetime.now(UTC)
    row = {"pipeline": pipeline.name, **state.row()}
    row |= {"cron": own.cron, "timezone": own.timezone} if own else {"status": "stopped"}
    runs = row["status"] != "stopped"
    held = sync.held_until if sync.held_until is not None and sync.held_until > now else None
    return row | without_nulls(
        {
            "next": iso(sync.next_turn(tenant, pipeline.schedule, now)) if runs else None,
            "looked_at": iso(sync.looked_at),
            "fresh_within_s": sync.target_s(pipeline.schedule),
            "is_late": is_late(sync, pipeline.schedule, now) if runs else None,
            "held_until": iso(held),
            "failures": sync.failures or None,
            "failure": dict(sync.failure) if sync.failure else None,
        }
    )


@dataclass(frozen=True)
class PipelineTools:
    """Pipelines come from their files; whether their schedules run comes from Dagster, what was chosen for tenants from the
    catalog."""

    files: PipelineFiles
    schedules: Schedules
    platform: PlatformDatabase

    async def configure_pipeline(self, call: Call, args: ConfigurePipeline) -> Answer:
        tenant = call.own_tenant
        pipeline = pipeline_named(self.files, tenant, args.pipeline)
        chosen = chosen_of(pipeline, args.model_dump(include=set(CHOICES), exclude_none=True))
        if args.reset:
            chosen = dict.fromkeys(RESET) | {"is_stopped": False} | chosen
        if not chosen:
            raise InvalidArgument(
                "Nothing is to be changed.",
                next_step="Give cron, full_refresh_cron, timezone, stopped, fresh_within_minutes or reset.",
            )
        call.audit |= {"pipeline": pipeline.name, **chosen}
        await in_thread(
            lambda: self.platform.catalog.syncs.configure(tenant, pipeline.name, chosen, actor=call.caller.actor)
        )
        row = await sync_row(self.platform, self.schedules, tenant, pipeline)
        warnings = []
        if row is not None and row["status"] == "stopped" and not chosen.get("is_stopped"):
            warnings.append(
                "The pipeline's schedule is stopped in Dagster: nothing starts by itself until it is turned on."
            )
        return Answer({"schedule": row}, warnings)

    async def list_pipelines(self, call: Call, args: ListPipelines) -> Answer:
        listed = sorted(self.files.pipelines.values(), key=lambda p: p.name)
        page, more = page_after(listed, args.cursor, args.limit, lambda p: p.name)
        asked = [part for p in page for part in (self.schedules.schedule(p), self.schedules.full_refresh(p))]
        states = await asyncio.gather(*asked)
        rows = [_pipeline_row(p, *states[2 * at : 2 * at + 2]) for at, p in enumerate(page)]
        unknown = any(
            schedule and schedule["status"] == "unknown" for row in rows for schedule in row["schedules"].values()
        )
        warnings = ["Dagster does not answer: whether the schedules run is unknown."] if unknown else []
        shown = fit(rows, room_left({}, warnings) - PAGING_TOKENS)
        cursor = next_place(page, len(shown), more, lambda p: p.name)
        return Answer({"pipelines": shown, "total": len(listed), "next_cursor": cursor}, warnings)

    TOOLS: ClassVar[tuple[Tool, ...]] = (
        Tool(
            "configure_pipeline",
            "Configure a pipeline",
            "Sets when a tenant's tables are updated by themselves, or stops that. get_schema_status shows it.",
            ConfigurePipeline,
            configure_pipeline,
            Scope.SCHEMA_MANAGE,
            Toolset.OPERATIONS,
            mutates=True,
        ),
        Tool(
            "list_pipelines",
            "List pipelines",
            "Lists the pipelines that can be run for a tenant: what each loads from {source}, what it builds, its "
            "schedule. Use it before run_materialization when you need asset names. For past runs use list_runs.",
            ListPipelines,
            list_pipelines,
            None,
        ),
    )
