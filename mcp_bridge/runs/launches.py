"""Which run answers a request to materialize: a new one, the tenant's active one, or the one that has the idempotency key?

The decision is made while holding the tenant's launch row in the catalog, which only one bridge can hold at a time. A bridge
that dies leaves its row. The next holder looks in Dagster for a run of that launch before it starts one.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from uuid import UUID

from anyio import CancelScope
from msgspec.structs import replace

from explorer.catalog import Claim, SchemaAbsent, State, Tenant
from explorer.contract.tags import RunTags
from explorer.core.errors import ExplorerError, TransientError
from explorer.telemetry.traces import span, traceparent
from mcp_bridge.clients.dagster.client import DagsterClient
from mcp_bridge.clients.dagster.errors import CancelRefused, DagsterUnavailable, UnknownRun
from mcp_bridge.clients.dagster.records import Run
from mcp_bridge.clients.platform_database import PlatformDatabase
from mcp_bridge.clients.timeouts import in_thread

# Longer than a launch takes. After this time the row of a dead bridge is free. A launch that takes longer does no harm: see
# `_settled`.
_LAUNCH_HOLD_S = 10.0
_TEARDOWN_HOLD_S = 120.0
_TRIED_FOR_S = 40.0
_ASK_AGAIN_S = 0.1


class LaunchBusy(TransientError):
    """Another caller is launching a run of the tenant or dropping its schemas, and does not finish."""

    code = "launch_busy"


class KeyReused(ExplorerError):
    """The idempotency key belongs to a run that was requested with other arguments."""

    code = "idempotency_key_reused"


@dataclass(frozen=True)
class Wish:
    """A request to launch a run. `assets`: the assets to run; None for all of the pipeline's."""

    pipeline: str
    actor: str
    key: str | None = None
    full_refresh: bool = False
    assets: frozenset[tuple[str, ...]] | None = None

    def does_all_of(self, run: Run) -> bool:
        """Whether a run of this request makes that one needless."""
        everything = self.assets is None or (run.assets is not None and run.assets <= self.assets)
        return self.pipeline == run.job and everything and (self.full_refresh or not run.tags.full_refresh)

    def differs_from(self, run: Run) -> list[str]:
        """The arguments in which the run differs from this request."""
        found = []
        if self.full_refresh != run.tags.full_refresh:
            found.append("full_refresh")
        if self.assets != run.assets:
            found.append("assets")
        return found + (["pipeline"] if self.pipeline != run.job else [])


@dataclass(frozen=True)
class Launched:
    """The run that answers a request. `new`: it was launched for this request; `note`: a remark for the caller."""

    run: Run
    new: bool
    note: str | None = None


class Launches:
    """Launches Dagster runs, one per tenant and key across all bridges. For use inside one event loop."""

    def __init__(self, platform: PlatformDatabase, dagster: DagsterClient) -> None:
        self._platform, self._dagster = platform, dagster
        # By tenant id: set when the launch that is under way in this bridge ends.
        self._launching: dict[UUID, asyncio.Event] = {}

    async def launch(self, tenant: Tenant, wish: Wish) -> Launched:
        """Launch the requested run, unless a run of the tenant already does it.

        Raises:
            SchemaAbsent, QuotaExhausted, KeyReused, LaunchBusy, LaunchRefused, DagsterUnavailable, CatalogUnavailable.
        """
        # Checked first, because dropping the schemas holds the launch for a long time.
        await in_thread(self._require_schemas, tenant)
        # Of many concurrent calls of this bridge one launches. The others then look at the result together; one after the other
        # they would wait too long.
        deadline = time.monotonic() + _TRIED_FOR_S
        while (under_way := self._launching.get(tenant.id)) is not None:
            try:
                await asyncio.wait_for(under_way.wait(), deadline - time.monotonic())
            except TimeoutError:
                raise _busy(tenant) from None
            found, _ = await self._found(tenant, wish)
            if found is not None:
                return found
        self._launching[tenant.id] = ended = asyncio.Event()
        try:
            return await self._launch_alone(tenant, wish)
        finally:
            del self._launching[tenant.id]
            ended.set()

    async def foreseen(self, tenant: Tenant, wish: Wish) -> tuple[Launched | None, str | None]:
        """What `launch` would find now: the run that answers the request, or None and a remark on runs that do not. Nothing is
        launched. Errors as for `launch`, but for those of launching itself."""
        await in_thread(self._require_schemas, tenant)
        found, note = await self._found(tenant, wish)
        if found is None:
            await in_thread(self._platform.catalog.quotas.require, tenant)
        return found, note

    async def _launch_alone(self, tenant: Tenant, wish: Wish) -> Launched:
        async with self._held(tenant, wish.actor, wish.pipeline, wish.key, _LAUNCH_HOLD_S) as claim:
            # The schemas may have been dropped while this waited.
            await in_thread(self._require_schemas, tenant)
            found, note = await self._found(tenant, wish)
            if found is not None:
                return found
            # The run queue counts the run, and would cancel it.
            await in_thread(self._platform.catalog.quotas.require, tenant)
            launched = await self._launch_under(tenant, wish, claim, note)
            await self._withdraw_overtaken(tenant, wish)
            return launched

    async def _found(self, tenant: Tenant, wish: Wish) -> tuple[Launched | None, str | None]:
        """The existing run that answers the request; else a remark for the caller on runs that do not."""
        stood_for, note = await self._of_key(tenant, wish)
        if stood_for is not None:
            return Launched(stood_for, new=False), None
        active = await self._dagster.active_run(tenant.key, wish.pipeline)
        if active is None:
            return None, note
        if active.status == "CANCELING":
            waits = f"Run {active.run_id} is still being cancelled; this one starts when it has ended."
            return None, _joined(note, waits)
        if _waits_for_nobody(active):
            # Dagster's API has no way to move it forward, so a run is launched that goes first.
            return None, _joined(note, f"Run {active.run_id} was waiting in the queue; this one goes first.")
        return Launched(active, new=False, note=_ignored(wish, active)), None

    async def _withdraw_overtaken(self, tenant: Tenant, wish: Wish) -> None:
        """Cancel runs in the queue that nobody waits for and that the launched run makes needless. Where Dagster does not
        answer, they stay: the launch has succeeded, and they find nothing to do."""
        background = RunTags(run_class="background")
        with suppress(DagsterUnavailable):
            queued = await self._dagster.runs(
                partition=tenant.key, job=wish.pipeline, statuses=["QUEUED"], tags=background
            )
            for run in filter(wish.does_all_of, queued):
                # One that has begun meanwhile is interrupted, between two transactions; the launched run does its work.
                with suppress(UnknownRun, CancelRefused):
                    await self._dagster.stop(run.run_id)

    @asynccontextmanager
    async def nothing_launched(self, tenant: Tenant, actor: str) -> AsyncIterator[None]:
        """While the context is open, no bridge launches a run of the tenant. Raises: LaunchBusy, CatalogUnavailable."""
        async with self._held(tenant, actor, None, None, _TEARDOWN_HOLD_S):
            yield

    @asynccontextmanager
    async def _held(
        self, tenant: Tenant, actor: str, pipeline: str | None, key: str | None, hold_s: float
    ) -> AsyncIterator[Claim]:
        claim = await self._claim(tenant, actor, pipeline, key, hold_s)
        async with self._left_when_it_fails(claim):
            yield claim
        await _shielded(self._platform.catalog.launches.release, claim)

    @asynccontextmanager
    async def _left_when_it_fails(self, claim: Claim) -> AsyncIterator[None]:
        """After a failure Dagster may have a run that the catalog does not know. The next holder looks for it at once."""
        try:
            yield
        except BaseException:
            await _shielded(self._platform.catalog.launches.leave, claim)
            raise

    async def _claim(self, tenant: Tenant, actor: str, pipeline: str | None, key: str | None, hold_s: float) -> Claim:
        """Claim the tenant's launch row. What a dead bridge left there is cleared first."""
        launches = self._platform.catalog.launches
        deadline = time.monotonic() + _TRIED_FOR_S
        while time.monotonic() < deadline:
            claim = await in_thread(launches.claim, tenant, actor, pipeline, key, hold_s)
            if claim is None:
                await asyncio.sleep(_ASK_AGAIN_S)
            elif not claim.taken_over:
                return claim
            else:
                async with self._left_when_it_fails(claim):
                    if (left := await self._run_of(tenant, claim)) is not None:
                        await in_thread(launches.launched, claim, left.run_id, left.tags.idempotency_key)
                    elif await in_thread(launches.use, claim, actor, pipeline, key, hold_s):
                        return claim
        raise _busy(tenant)

    def _require_schemas(self, tenant: Tenant) -> None:
        """Blocks. Raises: SchemaAbsent, CatalogUnavailable."""
        schema = self._platform.catalog.schemas.get(tenant)
        state = schema.state
        if state in (State.ABSENT, State.TEARDOWN, State.PROVISIONING) and not schema.is_gone_for_now:
            raise SchemaAbsent(
                f"The schemas of {tenant.key} are {state.value}: there is nothing to load into.",
                next_step="Call provision_schema (scope schema:manage), then run_materialization again.",
            )

    async def _run_of(self, tenant: Tenant, claim: Claim) -> Run | None:
        """The run that was launched under the claim; if there are several, the first."""
        runs = await self._dagster.runs(partition=tenant.key, tags=RunTags(launch=str(claim.id)), limit=10)
        return runs[-1] if runs else None

    async def _of_key(self, tenant: Tenant, wish: Wish) -> tuple[Run | None, str | None]:
        """The run of the idempotency key if it is active or has succeeded; else a remark why another run is needed."""
        if wish.key is None:
            return None, None
        key = wish.key
        run_id = await in_thread(self._platform.catalog.launches.run_of, tenant, key)
        if run_id is None:
            return None, None
        try:
            run = await self._dagster.run(run_id)
        except UnknownRun:
            return None, f"Run {run_id} of this idempotency_key was deleted from Dagster; this is another."
        if run.status in ("FAILURE", "CANCELED", "CANCELING"):
            ended = {"FAILURE": "failed", "CANCELED": "was cancelled", "CANCELING": "is being cancelled"}[run.status]
            return None, f"Run {run_id} of this idempotency_key {ended}; this is another."
        if other := wish.differs_from(run):
            raise KeyReused(
                f"This idempotency_key stands for run {run_id}, which was asked for with other {' and '.join(other)}.",
                next_step="Repeat the arguments of the first call, or use another key for another launch.",
                details={"run_id": run_id, "status": run.status, "other": other},
            )
        return run, None

    async def _launch_under(self, tenant: Tenant, wish: Wish, claim: Claim, note: str | None) -> Launched:
        dagster, launches = self._dagster, self._platform.catalog.launches
        tags = RunTags(
            requested_by=wish.actor, launch=str(claim.id), full_refresh=wish.full_refresh, idempotency_key=wish.key
        )
        # Dagster would launch a run of an unknown partition, and its first step would fail. So a new tenant is registered here.
        await dagster.add_partition(tenant.key)
        held = await in_thread(launches.use, claim, wish.actor, wish.pipeline, wish.key, _LAUNCH_HOLD_S)
        if not held:
            raise LaunchBusy(
                f"Launching a run of {tenant.key} took so long that another bridge took it over.",
                next_step="Call again: it answers with the run that was launched.",
            )
        with span("launch", pipeline=wish.pipeline) as launching:
            traced = replace(tags, traceparent=traceparent())
            made = await dagster.launch(wish.pipeline, tenant.key, tags=traced, assets=_listed(wish.assets))
            launching.set_attribute("explorer.run", made.run_id)
        run = await self._settled(tenant, claim, made)
        await in_thread(launches.launched, claim, run.run_id, run.tags.idempotency_key)
        if run.run_id != made.run_id:
            return Launched(run, new=False, note=_ignored(wish, run))
        return Launched(run, new=True, note=note)

    async def _settled(self, tenant: Tenant, claim: Claim, made: Run) -> Run:
        """The only run of the launch. If a holder that seemed dead also launched, the first run stays and ours is cancelled."""
        first = await self._run_of(tenant, claim)
        if first is None or first.run_id == made.run_id:
            return made
        await self._dagster.stop(made.run_id)
        return first


async def _shielded(work: Callable[[Claim], None], claim: Claim) -> None:
    """Run `work` even when the caller is cancelled. If the catalog does not answer, the launch row expires by itself."""
    with CancelScope(shield=True), suppress(TransientError):
        await in_thread(work, claim)


def _waits_for_nobody(run: Run) -> bool:
    return run.status == "QUEUED" and run.tags.run_class == "background"


def _busy(tenant: Tenant) -> LaunchBusy:
    return LaunchBusy(
        f"Somebody has been launching a run of {tenant.key}, or dropping its schemas, for {_TRIED_FOR_S:.0f} s.",
        next_step="Look at list_runs, then try again.",
    )


def _ignored(wish: Wish, active: Run) -> str | None:
    """A remark on the arguments that the active run does not fulfil; None when it fulfils all."""
    asked = {"full_refresh": wish.full_refresh, "assets": wish.assets is not None}
    ignored = [name for name in wish.differs_from(active) if asked.get(name)]
    if wish.assets is None and active.assets is not None:
        names = ", ".join(sorted("/".join(key[1:]) for key in active.assets)[:5])
        return (
            f"Run {active.run_id} was at work already, of these assets only: {names}. Launch again when it has ended."
        )
    if not ignored:
        return None
    return (
        f"Ignored: {' and '.join(ignored)}. Run {active.run_id} was at work already, launched without. "
        "Launch again when it has ended."
    )


def _listed(assets: frozenset[tuple[str, ...]] | None) -> list[tuple[str, ...]] | None:
    return sorted(assets) if assets is not None else None


def _joined(*notes: str | None) -> str:
    return " ".join(note for note in notes if note)
