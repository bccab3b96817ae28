"""The tool that lists the pipelines and their schedules."""

import asyncio
from dataclasses import dataclass
from typing import Any, ClassVar

from pydantic import Field

from explorer.catalog import Tenant
from explorer.core.errors import ExplorerError
from explorer.registry import Pipeline
from mcp_bridge.answers.envelope import Answer, fit, room_left, unknown_name
from mcp_bridge.answers.paging import PAGING_TOKENS, next_place, page_after
from mcp_bridge.facts.freshness import ScheduleState
from mcp_bridge.facts.pipelines import PipelineFiles
from mcp_bridge.gate.list_cursors import MAX_CHARS
from mcp_bridge.gate.tool import Arguments, Call, Tool
from mcp_bridge.provenance.schedules import Schedules


class UnknownPipeline(ExplorerError):
    """No pipeline of this name fills the tenant's tables."""

    code = "unknown_pipeline"


class ListPipelines(Arguments):
    limit: int = Field(20, ge=1, le=50, description="Pipelines per page.")
    cursor: str | None = Field(None, max_length=MAX_CHARS, description="next_cursor of the page before.")


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


@dataclass(frozen=True)
class PipelineTools:
    """Pipelines come from their files; the state of their schedules comes from Dagster."""

    files: PipelineFiles
    schedules: Schedules

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
            "list_pipelines",
            "List pipelines",
            "Lists the pipelines that can be run for a tenant: what each loads from {source}, what it builds, its "
            "schedule. Use it before run_materialization when you need asset names. For past runs use list_runs.",
            ListPipelines,
            list_pipelines,
            None,
        ),
    )
