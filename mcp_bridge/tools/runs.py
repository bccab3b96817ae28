"""Tools about pipelines and runs: what can be run, starting it, watching it, stopping it. Dagster does the work; this asks it."""

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from datetime import datetime
from typing import Any, ClassVar

from anyio import CancelScope
from pydantic import Field

from explorer.catalog import Scope, Tenant
from explorer.contract.names import within_pipeline
from explorer.core.errors import ExplorerError
from explorer.registry import Pipeline
from mcp_bridge.answers.envelope import (
    Answer,
    InvalidArgument,
    InvalidCursor,
    did_you_mean,
    fit,
    iso,
    page_after,
    room_left,
    unknown_name,
)
from mcp_bridge.clients.dagster.client import DagsterClient
from mcp_bridge.clients.dagster.errors import DagsterUnavailable, UnknownRun, in_time
from mcp_bridge.clients.dagster.records import Run, RunEvent, RunStatus
from mcp_bridge.clients.platform_database import PlatformDatabase
from mcp_bridge.clients.timeouts import LIST_S, in_thread
from mcp_bridge.facts.freshness import ScheduleState
from mcp_bridge.facts.pipelines import PipelineFiles
from mcp_bridge.gate.list_cursors import MAX_CHARS
from mcp_bridge.gate.tool import Arguments, Call, TenantArguments, Tool
from mcp_bridge.provenance.schedules import Schedules
from mcp_bridge.runs.launches import Launches, Wish
from mcp_bridge.runs.results import RunResults
from mcp_bridge.runs.summary import Narrator, run_row, run_summary

_HEARTBEAT_S = 10.0
_MAX_WAIT_S = 45
# The cursor, and what stands around a list.
_PAGING_TOKENS = 250
# Of failed runs in a list: so many say why, in so many characters, if Dagster tells in time.
_MAX_CAUSES = 10
_MAX_CAUSE_CHARS = 300
_CAUSES_LATE = "Dagster did not tell in time why all of these runs failed; get_materialization_status tells it of one."
_STOP_PATIENCE_S = 15.0
_STOP_AGAIN_S = 0.5
_log = logging.getLogger(__name__)


class UnknownPipeline(ExplorerError):
    """No pipeline of this name fills the tenant's tables."""

    code = "unknown_pipeline"


class ListPipelines(Arguments):
    limit: int = Field(20, ge=1, le=50, description="Pipelines per page.")
    cursor: str | None = Field(None, max_length=MAX_CHARS, description="next_cursor of the page before.")


class RunMaterialization(TenantArguments):
    pipeline: str = Field("", description="Name from list_pipelines.")
    full_refresh: bool = Field(False, description="Read everything again instead of what changed; slow.")
    assets: list[str] | None = Field(
        None, min_length=1, max_length=50, description="Only these assets, e.g. raw/cases. Default: all."
    )
    wait_s: int = Field(
        20, ge=0, le=_MAX_WAIT_S, description="Seconds to wait for the end; progress is streamed meanwhile."
    )
    idempotency_key: str | None = Field(
        None, min_length=1, max_length=100, description="Calls with one key start one run. Use it when you may retry."
    )


class RunArguments(Arguments):
    """Base of the tools that work on one run; the tenant follows from it and is only compared."""

    tenant: str | None = Field(None, description="Tenant key; follows from the run.")


class RunStatusArguments(RunArguments):
    run_id: str = Field(min_length=1, max_length=64, description="Run id from run_materialization or list_runs.")
    wait_s: int = Field(
        0, ge=0, le=_MAX_WAIT_S, description="Seconds to wait for the end; progress is streamed meanwhile."
    )


class ListRuns(TenantArguments):
    pipeline: str | None = Field(None, description="Only runs of this pipeline.")
    status: list[RunStatus] | None = Field(None, max_length=10, description="Only runs in these states.")
    created_after: datetime | None = Field(None, description="Only runs created after this ISO-8601 instant.")
    limit: int = Field(10, ge=1, le=50, description="Runs per page, newest first.")
    cursor: str | None = Field(None, max_length=MAX_CHARS, description="next_cursor of the page before.")


class CancelMaterialization(RunArguments):
    run_id: str = Field(min_length=1, max_length=64, description="Run id from run_materialization or list_runs.")
    force: bool = Field(False, description="Mark it cancelled at once; only after an ordinary cancel had no effect.")


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
        "transforms": pipeline.transforms.description,
    }


class _Teller:
    """Sends progress notifications; the number grows with each, as the protocol demands, also when only time passes."""

    def __init__(self, call: Call) -> None:
        self._call = call
        self._narrator = Narrator()
        self._sent = 0.0
        self._last_line = "waiting for the run"
        self._told_at = time.monotonic()

    async def tell(self, events: list[RunEvent]) -> None:
        for event in events:
            line = self._narrator.tell(event)
            if line is not None:
                self._last_line = line
                await self._send(line)
        if time.monotonic() - self._told_at >= _HEARTBEAT_S:
            await self._send(f"{self._last_line} (still at work)")

    async def _send(self, line: str) -> None:
        self._sent = max(self._narrator.progress, self._sent + 0.001)
        total = self._narrator.total
        self._told_at = time.monotonic()
        await self._call.progress(self._sent, max(total, self._sent) if total else None, line)


def _cancel_told(before: Run, run: Run) -> tuple[bool, str]:
    """Whether this call cancelled the run, and in words what happened."""
    ended = {"SUCCESS": "had succeeded", "FAILURE": "had failed", "CANCELED": "had been cancelled"}
    if before.finished:
        return False, f"Nothing to cancel: the run {ended[before.status]} already."
    if run.status in ("SUCCESS", "FAILURE"):
        return False, f"Too late: the run {ended[run.status]} before it could be stopped."
    if before.status == "CANCELING":
        return True, "The run was being cancelled already; it stops after the step's clean-up."
    if run.status == "CANCELED":
        return True, "The run is cancelled; tables keep the data from before."
    return True, "The run is being cancelled; it stops after the step's clean-up, and tables keep the data from before."


@dataclass(frozen=True)
class RunTools:
    """`stopping` tells that calls are cancelled because the bridge shuts down."""

    platform: PlatformDatabase
    files: PipelineFiles
    schedules: Schedules
    dagster: DagsterClient
    results: RunResults
    launches: Launches
    stopping: Callable[[], bool]

    async def list_pipelines(self, call: Call, args: ListPipelines) -> Answer:
        listed = sorted(self.files.pipelines.values(), key=lambda p: p.name)
        page, more = page_after(listed, args.cursor, args.limit, lambda p: p.name)
        schedules = self.schedules
        asked = [part for p in page for part in (schedules.schedule(p), schedules.full_refresh(p))]
        states = await asyncio.gather(*asked)
        rows = [_pipeline_row(p, *states[2 * at : 2 * at + 2]) for at, p in enumerate(page)]
        unknown = any(
            schedule and schedule["status"] == "unknown" for row in rows for schedule in row["schedules"].values()
        )
        warnings = ["Dagster does not answer: whether the schedules run is unknown."] if unknown else []
        shown = fit(rows, room_left({}, warnings) - _PAGING_TOKENS)
        cursor = page[len(shown) - 1].name if more or len(shown) < len(page) else None
        return Answer({"pipelines": shown, "total": len(listed), "next_cursor": cursor}, warnings)

    async def run_materialization(self, call: Call, args: RunMaterialization) -> Answer:
        tenant = call.own_tenant
        pipeline = self._pipeline(call, tenant, args.pipeline)
        call.audit |= {"pipeline": pipeline.name, "full_refresh": args.full_refresh, "assets": len(args.assets or ())}
        assets = await self._asset_keys(call, pipeline, args.assets)
        wish = Wish(pipeline.name, call.caller.actor, args.idempotency_key, args.full_refresh, assets)
        # Shielded: a run that Dagster has accepted must be known here, so that a cancelled call can cancel it.
        with CancelScope(shield=True):
            found = await self.launches.launch(tenant, wish)
        call.audit |= {"run_id": found.run.run_id, "launched": found.new}
        async with self._cancelled_with_the_call(call, found.run, found.new):
            run, events = await self._wait(call, found.run.run_id, args.wait_s)
            already_running = not found.new and not run.finished
            answer = await self._run_answer(
                call, run, events, {"launched": found.new, "already_running": already_running}
            )
        answer.warnings[:0] = [found.note] if found.note else []
        return answer

    async def get_materialization_status(self, call: Call, args: RunStatusArguments) -> Answer:
        await self._own_run(call, args, args.run_id, Scope.METADATA_READ)
        run, events = await self._wait(call, args.run_id, args.wait_s)
        return await self._run_answer(call, run, events, {})

    async def list_runs(self, call: Call, args: ListRuns) -> Answer:
        deadline = time.monotonic() + LIST_S
        runs = await in_time(self._runs_behind(call, args), LIST_S)
        page = runs[: args.limit]
        failed = [run for run in page if run.status == "FAILURE"][:_MAX_CAUSES]
        causes = await self._causes(call, failed, deadline - time.monotonic())
        warnings = [_CAUSES_LATE] if len(causes) < len(failed) else []
        listed = (run_row(self.dagster, run) | causes.get(run.run_id, {}) for run in page)
        rows = fit(listed, room_left({}, warnings) - _PAGING_TOKENS)
        cursor = page[len(rows) - 1].run_id if len(runs) > len(rows) else None
        return Answer({"runs": rows, "next_cursor": cursor}, warnings)

    async def cancel_materialization(self, call: Call, args: CancelMaterialization) -> Answer:
        before = await self._own_run(call, args, args.run_id, Scope.RUNS_CANCEL)
        run = before if before.finished else await self.dagster.stop(args.run_id, force=args.force)
        cancelled, told = _cancel_told(before, run)
        data = {**run_row(self.dagster, run), "ended_at": iso(run.ended_at), "cancelled": cancelled, "message": told}
        if not run.finished:
            data["next_step"] = "get_materialization_status with wait_s tells when it has stopped."
        return Answer(data)

    def _pipeline(self, call: Call, tenant: Tenant, name: str) -> Pipeline:
        """The pipeline of this name, without one the tenant's first. Raises: UnknownPipeline."""
        usable = {pipeline.name: pipeline for pipeline in self.files.of(tenant)}
        wanted = name or next(iter(usable), name)
        if wanted not in usable:
            raise unknown_name(UnknownPipeline, "pipeline", wanted, list(usable), "list_pipelines")
        return usable[wanted]

    async def _asset_keys(
        self, call: Call, pipeline: Pipeline, names: list[str] | None
    ) -> frozenset[tuple[str, ...]] | None:
        if names is None:
            return None
        known = {within_pipeline(asset.key): asset.key for asset in await self.dagster.assets(pipeline.name)}
        for name in names:
            if name not in known:
                near = did_you_mean(name, known)
                raise InvalidArgument(
                    f"{pipeline.name} has no asset {name[:80]!r}.",
                    next_step=f"{f'Did you mean {near[0]}? ' if near else ''}Leave `assets` out to run all of them.",
                    details={"allowed": near or sorted(known)[:10]},
                )
        return frozenset(known[name] for name in names)

    @asynccontextmanager
    async def _cancelled_with_the_call(self, call: Call, run: Run, launched: bool) -> AsyncIterator[None]:
        """A caller who cancels the call that started a run means the run; a bridge that shuts down does not."""
        try:
            yield
        except asyncio.CancelledError:
            if launched and not self.stopping():
                with CancelScope(shield=True):
                    call.audit["run_cancelled"] = await self._stopped(call, run.run_id)
            raise

    async def _stopped(self, call: Call, run_id: str) -> bool:
        """Whether the run could be stopped; tried for a while, since nobody is there any more who would try again."""
        deadline = time.monotonic() + _STOP_PATIENCE_S
        while True:
            try:
                await self.dagster.stop(run_id)
                return True
            except UnknownRun:
                return False
            except ExplorerError as error:
                if time.monotonic() > deadline:
                    _log.warning("Run %s goes on although its call was cancelled: %s", run_id, error.message)
                    return False
                await asyncio.sleep(_STOP_AGAIN_S)

    async def _wait(self, call: Call, run_id: str, wait_s: int) -> tuple[Run, list[RunEvent]]:
        """Follow the run until it ends or the time is up, telling the caller at each step and at least every ten seconds."""
        if wait_s == 0:
            return await self.dagster.run(run_id), await self.dagster.events(run_id)
        deadline = time.monotonic() + wait_s
        teller = _Teller(call)
        events: list[RunEvent] = []
        async with self.dagster.watch(run_id) as watch:
            while not watch.done and (left := deadline - time.monotonic()) > 0:
                fresh = await watch.events(timeout_s=min(left, 1.0))
                events += fresh
                await teller.tell(fresh)
            run = watch.run
        return run or await self.dagster.run(run_id), events

    async def _run_answer(self, call: Call, run: Run, events: list[RunEvent], extra: dict[str, Any]) -> Answer:
        data = run_summary(self.dagster, run, events) | extra
        warnings: list[str] = []
        if not run.finished:
            data["next_step"] = f"Call get_materialization_status with run_id {run.run_id} and wait_s to follow it."
            if run.status in ("QUEUED", "NOT_STARTED"):
                warnings += await self._why_it_waits()
        if data["failing_checks"]:
            warnings.append(f"{len(data['failing_checks'])} checks failed; the tables were built all the same.")
            warnings += [
                f"{check['asset']}: {check['description']}"
                for check in data["failing_checks"][:5]
                if check.get("description")
            ]
        return Answer(data, warnings)

    async def _why_it_waits(self) -> list[str]:
        try:
            health = await self.dagster.health()
        except DagsterUnavailable:
            return []
        if health.unhealthy_daemons:
            return [
                "Dagster's daemon is not running, so queued runs do not start: `explorer status` and `explorer up`."
            ]
        return []

    async def _own_run(self, call: Call, args: RunArguments, run_id: str, scope: Scope) -> Run:
        """The run, when it is one of a tenant of the caller's; another's run does not exist for them."""
        call.audit["run_id"] = run_id
        tenants = await in_thread(lambda: call.caller.tenants(self.platform.catalog))
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

    async def _runs_behind(self, call: Call, args: ListRuns) -> list[Run]:
        """The page's runs and one more."""
        tenant = call.own_tenant
        if args.cursor is not None:
            await self._require_run(call, args.cursor)
        return await self.dagster.runs(
            partition=tenant.key,
            job=self._pipeline(call, tenant, args.pipeline).name if args.pipeline else None,
            statuses=args.status,
            created_after=args.created_after,
            limit=args.limit + 1,
            cursor=args.cursor,
        )

    async def _causes(self, call: Call, failed: list[Run], within_s: float) -> dict[str, dict[str, str]]:
        """Run id to `{"error": cause}`, of those that Dagster tells in time; ended runs are read once and kept."""
        found: dict[str, dict[str, str]] = {}
        with suppress(TimeoutError, ExplorerError):
            async with asyncio.timeout(within_s):
                for run in failed:
                    cause = (await self.results.of(run.run_id)).cause
                    found[run.run_id] = {"error": cause[:_MAX_CAUSE_CHARS]} if cause else {}
        return found

    async def _require_run(self, call: Call, run_id: str) -> None:
        """Behind a run that was deleted meanwhile Dagster finds nothing, and says nothing."""
        try:
            await self.dagster.run(run_id)
        except UnknownRun:
            raise InvalidCursor(
                "The run that this page goes on behind was deleted from Dagster.",
                next_step="Call again without a cursor.",
            ) from None

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
        Tool(
            "run_materialization",
            "Run materialization",
            "Brings a tenant's tables up to date from {source} by a Dagster run: discover, load, transform. Returns "
            "run_id, status and run_url; waits up to wait_s and streams progress, and a run that needs longer is a "
            "normal answer to go on from with get_materialization_status. If the tenant is already being synced, "
            "answers with that run and says what was ignored. Cancelling this call cancels the run it started. Not needed "
            "when list_tables shows fresh data.",
            RunMaterialization,
            run_materialization,
            Scope.RUNS_LAUNCH,
            mutates=True,
            open_world=True,
        ),
        Tool(
            "get_materialization_status",
            "Get materialization status",
            "One run: status, steps, rows per asset, failing checks, errors with their cause. With wait_s it waits for "
            "the end and streams progress. To find a run id use list_runs.",
            RunStatusArguments,
            get_materialization_status,
            Scope.METADATA_READ,
        ),
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
            "cancel_materialization",
            "Cancel materialization",
            "Stops a run that has not ended; tables keep the data from before. An ended run is left as it is. "
            "Use force only when an ordinary cancel had no effect.",
            CancelMaterialization,
            cancel_materialization,
            Scope.RUNS_CANCEL,
            mutates=True,
            destructive=True,
        ),
    )
