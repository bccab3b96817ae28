"""The tools that start, watch and stop a run. Dagster does the work."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from typing import Any, ClassVar

from anyio import CancelScope
from pydantic import Field

from explorer.catalog import Scope, Tenant
from explorer.contract.names import within_pipeline
from explorer.core.errors import ExplorerError
from explorer.registry import Pipeline
from mcp_bridge.answers.addresses import RUN, link
from mcp_bridge.answers.envelope import Answer, InvalidArgument, clipped, did_you_mean, iso
from mcp_bridge.clients.dagster.client import DagsterClient
from mcp_bridge.clients.dagster.errors import DagsterUnavailable
from mcp_bridge.clients.dagster.records import Run, RunEvent
from mcp_bridge.facts.pipelines import PipelineFiles
from mcp_bridge.gate.confirmation import Question
from mcp_bridge.gate.tool import Call, TenantArguments, Tool
from mcp_bridge.runs.comparison import RunComparisons, delta
from mcp_bridge.runs.following import RunFollower
from mcp_bridge.runs.launches import Launches, Wish
from mcp_bridge.runs.plans import RunPlans
from mcp_bridge.runs.summary import run_row, run_summary
from mcp_bridge.tools.pipelines import pipeline_named
from mcp_bridge.tools.runs import OwnRuns, RunArguments

_MAX_WAIT_S = 45
# Tables whose changes a run's own answer names.
_MAX_CHANGED = 10


class RunMaterialization(TenantArguments):
    pipeline: str = Field("", description="Name from list_pipelines.")
    full_refresh: bool = Field(False, description="Read everything again; slow.")
    assets: list[str] | None = Field(
        None, min_length=1, max_length=50, description="Only these assets, e.g. raw/cases. Default: all."
    )
    wait_s: int = Field(20, ge=0, le=_MAX_WAIT_S, description="Seconds to wait; progress is streamed.")
    idempotency_key: str | None = Field(
        None, min_length=1, max_length=100, description="Calls with one key start one run; for retries."
    )
    plan: bool = Field(False, description="Launch nothing; tell what would run, its last seconds, and what conflicts.")


class RunStatusArguments(RunArguments):
    run_id: str = Field(min_length=1, max_length=64, description="From run_materialization or list_runs.")
    wait_s: int = Field(0, ge=0, le=_MAX_WAIT_S, description="Seconds to wait; progress is streamed.")


class CancelMaterialization(RunArguments):
    run_id: str = Field(min_length=1, max_length=64, description="From run_materialization or list_runs.")
    force: bool = Field(False, description="Mark it cancelled at once; only after an ordinary cancel had no effect.")


def _stops(run: Run) -> Question:
    """The question before the run of somebody else is stopped. Its work is lost, but no data: hosts that cannot ask may go on."""
    by = clipped(run.tags.requested_by or "a schedule", 80)
    return Question(f"Stop run {run.run_id[:8]} of {run.tenant}? {by} started it; its work so far is lost.", run.run_id)


def _cancel_message(before: Run, run: Run) -> tuple[bool, str]:
    """Whether this call cancelled the run, and a sentence on what happened."""
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
class MaterializationTools:
    """`stopping`: whether calls are cancelled because the bridge shuts down."""

    own: OwnRuns
    files: PipelineFiles
    dagster: DagsterClient
    launches: Launches
    follower: RunFollower
    comparisons: RunComparisons
    plans: RunPlans
    stopping: Callable[[], bool]

    async def run_materialization(self, call: Call, args: RunMaterialization) -> Answer:
        tenant = call.own_tenant
        pipeline = pipeline_named(self.files, tenant, args.pipeline)
        call.audit |= {"pipeline": pipeline.name, "full_refresh": args.full_refresh, "assets": len(args.assets or ())}
        assets = await self._asset_keys(pipeline, args.assets)
        wish = Wish(pipeline.name, call.caller.actor, args.idempotency_key, args.full_refresh, assets)
        if args.plan:
            call.audit["plan"] = True
            return await self._planned(tenant, wish)
        # Shielded: the id of a run that Dagster accepted must get here, so that a cancelled call can cancel the run.
        with CancelScope(shield=True):
            found = await self.launches.launch(tenant, wish)
        call.audit |= {"run_id": found.run.run_id, "launched": found.new}
        async with self._cancelled_with_the_call(call, found.run, found.new):
            run, events = await self.follower.wait(found.run.run_id, args.wait_s, call.progress)
            already_running = not found.new and not run.finished
            answer = await self._run_answer(
                call, run, events, {"launched": found.new, "already_running": already_running}
            )
        answer.warnings[:0] = [found.note] if found.note else []
        answer.links.append(link(RUN, f"Run {run.run_id[:8]}", run_id=run.run_id))
        return answer

    async def _planned(self, tenant: Tenant, wish: Wish) -> Answer:
        data = await self.plans.of(tenant, wish)
        told = data["last_s"] is not None
        return Answer(data, [] if told else ["No run has recorded how long its steps take."])

    async def get_materialization_status(self, call: Call, args: RunStatusArguments) -> Answer:
        run = await self.own.of(call, args, args.run_id, Scope.METADATA_READ)
        try:
            run, events = await self.follower.wait(args.run_id, args.wait_s, call.progress)
        except DagsterUnavailable as error:
            answer = await self._run_answer(call, run, [], {})
            answer.warnings.append(f"{error.message} What the run did is unknown meanwhile: ask again.")
            return answer
        return await self._run_answer(call, run, events, {})

    async def cancel_materialization(self, call: Call, args: CancelMaterialization) -> Answer:
        before = await self.own.of(call, args, args.run_id, Scope.RUNS_CANCEL)
        if not before.finished and before.tags.requested_by != call.caller.actor and call.user.can_be_asked:
            call.audit["confirmed_by"] = await call.user.confirm(_stops(before), None)
        run = before if before.finished else await self.dagster.stop(args.run_id, force=args.force)
        cancelled, message = _cancel_message(before, run)
        data = {**run_row(self.dagster, run), "ended_at": iso(run.ended_at), "cancelled": cancelled, "message": message}
        if not run.finished:
            data["next_step"] = "get_materialization_status with wait_s tells when it has stopped."
        return Answer(data)

    async def _asset_keys(self, pipeline: Pipeline, names: list[str] | None) -> frozenset[tuple[str, ...]] | None:
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
        """Cancels the run when the caller cancels the call that launched it, but not when the bridge shuts down."""
        try:
            yield
        except asyncio.CancelledError:
            if launched and not self.stopping():
                with CancelScope(shield=True):
                    call.audit["run_cancelled"] = await self.follower.stop(run.run_id)
            raise

    async def _run_answer(self, call: Call, run: Run, events: list[RunEvent], extra: dict[str, Any]) -> Answer:
        data = run_summary(self.dagster, run, events) | extra
        warnings: list[str] = []
        if not run.finished:
            data["next_step"] = f"Call get_materialization_status with run_id {run.run_id} and wait_s to follow it."
            if run.status in ("QUEUED", "NOT_STARTED"):
                warnings += await self.follower.why_it_waits()
        elif call.tenant is not None:
            # What a run wrote can be gone with its schemas, or be older than such records.
            with suppress(ExplorerError):
                data["changed"] = delta(await self.comparisons.of(call.tenant, run.run_id), _MAX_CHANGED)
        if data["failing_checks"]:
            warnings.append(f"{len(data['failing_checks'])} checks failed; the tables were built all the same.")
            warnings += [
                f"{check['asset']}: {check['description']}"
                for check in data["failing_checks"][:5]
                if check.get("description")
            ]
        return Answer(data, warnings)

    TOOLS: ClassVar[tuple[Tool, ...]] = (
        Tool(
            "run_materialization",
            "Run materialization",
            "Brings a tenant's tables up to date from {source} by a Dagster run: discover, load, build. Returns "
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
