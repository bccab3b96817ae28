"""The tools that tell of a tenant's runs: which there were, causes of failed ones, what changed between two, their logs."""

import asyncio
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from typing import ClassVar

from pydantic import Field

from explorer.catalog import Scope, State, Tenant
from explorer.core.errors import ExplorerError
from explorer.core.toolsets import Toolset
from mcp_bridge.answers.envelope import Answer, InvalidArgument, InvalidCursor, fit, room_left, unknown_name
from mcp_bridge.answers.paging import PAGING_TOKENS, next_place
from mcp_bridge.clients.dagster.client import DagsterClient
from mcp_bridge.clients.dagster.errors import UnknownRun, in_time
from mcp_bridge.clients.dagster.records import Run, RunStatus
from mcp_bridge.clients.timeouts import LIST_S, METADATA_S, in_thread
from mcp_bridge.facts.pipelines import PipelineFiles
from mcp_bridge.gate.access import Caller
from mcp_bridge.gate.list_cursors import MAX_CHARS
from mcp_bridge.gate.tool import Arguments, Call, Format, TenantArguments, Tool
from mcp_bridge.runs.comparison import RunComparisons
from mcp_bridge.runs.logs import Level, read_log
from mcp_bridge.runs.results import RunResults
from mcp_bridge.runs.summary import run_row
from mcp_bridge.tools.pipelines import pipeline_named
from mcp_bridge.views.pages import RESULT

# Limits of the causes of failed runs in a list, and the warning when Dagster does not return them in time.
_MAX_CAUSES = 10
_MAX_CAUSE_CHARS = 300
# What a concise comparison costs in tokens without the envelope around it, as `weight` counts them.
_CONCISE_TOKENS = 450
_CAUSES_LATE = "Dagster did not tell in time why all of these runs failed; get_materialization_status tells it of one."


class RunArguments(Arguments):
    """Base of the tools that work on one run. The run determines the tenant; the argument is only compared with it."""

    tenant: str | None = Field(None, description="Follows from the run.")


@dataclass(frozen=True)
class OwnRuns:
    """Finds runs of a caller's tenants. `tenants_of`: returns these, blocks."""

    tenants_of: Callable[[Caller], list[Tenant]]
    dagster: DagsterClient

    async def of(self, call: Call, args: RunArguments, run_id: str, scope: Scope) -> Run:
        """The run, if its tenant is one of the caller's. Other runs look as if they did not exist."""
        call.audit["run_id"] = run_id
        tenants = await in_thread(self.tenants_of, call.caller)
        own = {tenant.key: tenant for tenant in tenants if args.tenant in (None, tenant.key)}
        try:
            run = await self.dagster.run(run_id)
        except UnknownRun:
            run = None
        if run is None or run.tenant not in own:
            recent = [run.run_id for run in await self.dagster.runs(limit=200) if run.tenant in own]
            raise unknown_name(UnknownRun, "run", run_id, recent, "list_runs")
        call.tenant = own[run.tenant]
        call.caller.require(scope, run.tenant)
        return run


class ListRuns(TenantArguments):
    pipeline: str | None = Field(None, description="Only runs of this pipeline.")
    status: list[RunStatus] | None = Field(None, max_length=10, description="Only runs in these states.")
    created_after: datetime | None = Field(None, description="Only runs created later.")
    limit: int = Field(10, ge=1, le=50, description="Runs per page, newest first.")
    cursor: str | None = Field(None, max_length=MAX_CHARS, description="next_cursor of the page before.")


class CompareRuns(TenantArguments):
    run_id: str | None = Field(None, min_length=1, max_length=64, description="The later run. Default: the last one.")
    before_run_id: str | None = Field(
        None, min_length=1, max_length=64, description="The earlier run. Default: the one before run_id."
    )
    response_format: Format = "concise"


class RunLogs(RunArguments):
    run_id: str = Field(min_length=1, max_length=64, description="From list_runs.")
    level: Level = Field("info", description="Only entries of this level and above.")
    limit: int = Field(50, ge=1, le=200, description="Entries per page, oldest first.")
    cursor: str | None = Field(None, max_length=MAX_CHARS, description="next_cursor of the page before.")


@dataclass(frozen=True)
class RunTools:
    """`results`: the causes of failed runs, each read once."""

    own: OwnRuns
    files: PipelineFiles
    dagster: DagsterClient
    results: RunResults
    comparisons: RunComparisons

    async def list_runs(self, call: Call, args: ListRuns) -> Answer:
        deadline = time.monotonic() + LIST_S
        runs = await in_time(self._runs_behind(call.own_tenant, args), LIST_S)
        page = runs[: args.limit]
        failed = [run for run in page if run.status == "FAILURE"][:_MAX_CAUSES]
        causes = await self._causes(failed, deadline - time.monotonic())
        warnings = [_CAUSES_LATE] if len(causes) < len(failed) else []
        listed = (run_row(self.dagster, run) | causes.get(run.run_id, {}) for run in page)
        rows = fit(listed, room_left({}, warnings) - PAGING_TOKENS)
        cursor = next_place(page, len(rows), len(runs) > len(page), lambda run: run.run_id)
        return Answer({"runs": rows, "next_cursor": cursor}, warnings)

    async def compare_runs(self, call: Call, args: CompareRuns) -> Answer:
        """Raises: RunNotRecorded; SchemaAbsent, DatabaseUnreachable, DatabaseTimeout."""
        if args.run_id is not None and args.run_id == args.before_run_id:
            raise InvalidArgument(
                "run_id and before_run_id are the same run.", next_step="Leave before_run_id out for the run before it."
            )
        found = await self.comparisons.of(call.own_tenant, args.run_id, args.before_run_id, within_s=METADATA_S)
        call.audit["run_id"] = found.after.run_id
        warnings = found.notes
        if call.own.schema.state is State.MATERIALIZING and call.own.schema.run_id == found.after.run_id:
            warnings.append(f"Run {found.after.run_id} is still at work: this is what it has done so far.")
        room = room_left({}, warnings)
        data = found.to_dict(min(room, _CONCISE_TOKENS) if args.response_format == "concise" else room)
        if "more_tables" in data:
            warnings.append(f"{data['more_tables']} more tables changed; response_format=detailed names them.")
        return Answer(data, warnings, call.own.schema.marts)

    async def get_run_logs(self, call: Call, args: RunLogs) -> Answer:
        """Raises: UnknownRun: also for a run of a tenant that is not the caller's. InvalidCursor, DagsterUnavailable."""
        await self.own.of(call, args, args.run_id, Scope.METADATA_READ)
        page = await read_log(self.dagster, args.run_id, args.cursor, args.level, args.limit)
        run, data = page.run, {"run_id": page.run.run_id, "status": page.run.status, "finished": page.run.finished}
        rows = fit((entry.row for entry in page.entries), room_left(data, []) - PAGING_TOKENS)
        cursor = page.rest if len(rows) == len(page.entries) else page.entries[len(rows)].place
        waiting = (
            [] if run.finished or rows else ["Nothing new yet: the run is at work; ask again with the same cursor."]
        )
        return Answer({**data, "entries": rows, "next_cursor": cursor}, waiting)

    async def _runs_behind(self, tenant: Tenant, args: ListRuns) -> list[Run]:
        """The runs of the page and one more."""
        if args.cursor is not None:
            await self._require_run(args.cursor)
        return await self.dagster.runs(
            partition=tenant.key,
            job=pipeline_named(self.files, tenant, args.pipeline).name if args.pipeline else None,
            statuses=args.status,
            created_after=args.created_after,
            limit=args.limit + 1,
            cursor=args.cursor,
        )

    async def _causes(self, failed: list[Run], within_s: float) -> dict[str, dict[str, str]]:
        """Run id -> `{"error": cause}`, for the runs that Dagster returns in time. Ended runs are read once and cached."""
        found: dict[str, dict[str, str]] = {}
        with suppress(TimeoutError, ExplorerError):
            async with asyncio.timeout(within_s):
                for run in failed:
                    cause = (await self.results.of(run.run_id)).cause
                    found[run.run_id] = {"error": cause[:_MAX_CAUSE_CHARS]} if cause else {}
        return found

    async def _require_run(self, run_id: str) -> None:
        """Raise when the cursor's run was deleted: Dagster would return an empty page without an error."""
        try:
            await self.dagster.run(run_id)
        except UnknownRun:
            raise InvalidCursor(
                "The run that this page goes on behind was deleted from Dagster.",
                next_step="Call again without a cursor.",
            ) from None

    TOOLS: ClassVar[tuple[Tool, ...]] = (
        Tool(
            "list_runs",
            "List runs",
            "Lists a tenant's runs, newest first, filtered by state, pipeline and time. For one run's steps and errors "
            "use get_materialization_status.",
            ListRuns,
            list_runs,
            Scope.METADATA_READ,
        ),
        Tool(
            "compare_runs",
            "Compare runs",
            "What changed between two runs of a tenant, by default the last one and the one before: rows new, changed and gone "
            "per table, columns, types, checks that turned, seconds of each step, and the first step that went otherwise. "
            "Works without Dagster, for runs that left a record. The tables' present state: get_metadata.",
            CompareRuns,
            compare_runs,
            Scope.METADATA_READ,
            view=RESULT,
        ),
        Tool(
            "get_run_logs",
            "Get run logs",
            "The log of one run, oldest first, from a level on: for what get_materialization_status does not tell, which has "
            "steps, rows and causes and is enough as a rule. Of a run at work next_cursor goes on with what comes later. "
            "Secrets, paths of the server and stack traces are left out.",
            RunLogs,
            get_run_logs,
            Scope.METADATA_READ,
            toolset=Toolset.OPERATIONS,
        ),
    )
