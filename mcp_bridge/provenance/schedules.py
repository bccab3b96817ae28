"""When does a pipeline run by itself? Whether its schedule runs is Dagster's; the turns are those of its file, or what was chosen
for a tenant in the catalog.

A pipeline's file only defines the schedule's initial state; people switch it in Dagster. All answers take schedules from here,
so that they agree.
"""

import asyncio
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from uuid import UUID

from explorer.catalog import CatalogUnavailable, Sync, Tenant
from explorer.contract.names import full_refresh_schedule_name, schedule_name
from explorer.core.errors import ExplorerError
from explorer.registry import Pipeline, Schedule, moments
from mcp_bridge.clients.dagster.client import DagsterClient
from mcp_bridge.clients.timeouts import CATALOG_S, LIST_S, in_thread
from mcp_bridge.facts.freshness import NO_SCHEDULE, STALE_AFTER_S, FreshnessRule, ScheduleState, Status

_REFRESH_S = 10.0
Syncs = Mapping[UUID, Sync]


@dataclass(frozen=True)
class _Known:
    """What was found at `at_s` by the monotonic clock."""

    status: Status = "unknown"
    syncs: Syncs = field(default_factory=dict)
    at_s: float = -_REFRESH_S

    @property
    def is_new(self) -> bool:
        return time.monotonic() - self.at_s < _REFRESH_S


class Schedules:
    """The schedules of each pipeline, queried at most every ten seconds. For use inside one event loop.

    Each call waits for Dagster two seconds at most. A caller that needs several schedules makes the calls at once.
    """

    def __init__(
        self,
        dagster: DagsterClient,
        syncs_of: Callable[[str], Syncs] = lambda pipeline: {},
        *,
        trusted_s: int = STALE_AFTER_S,
    ) -> None:
        """`syncs_of`: reads what was chosen for tenants, by pipeline; blocks. `trusted_s`: as in `ScheduleState`."""
        self._dagster, self._syncs_of, self._trusted_s = dagster, syncs_of, trusted_s
        self._known: dict[str, _Known] = {}
        self._tasks: dict[str, asyncio.Task[_Known]] = {}

    async def of(self, pipeline: Pipeline, tenant: Tenant | None = None) -> FreshnessRule:
        """The current rule."""
        state = await self.schedule(pipeline, tenant)
        return state.rule if state else NO_SCHEDULE

    def latest(self, pipeline: Pipeline, tenant: Tenant) -> FreshnessRule:
        """The last known rule, for answers that do not wait for Dagster. An old rule is refreshed for the next call."""
        if pipeline.schedule is None:
            return NO_SCHEDULE
        name = schedule_name(pipeline.name)
        known = self._known.get(name, _Known())
        if not known.is_new:
            self._ask(name, pipeline.name)
        return self._state(known, pipeline, pipeline.schedule, tenant, full_refresh=False).rule

    async def schedule(self, pipeline: Pipeline, tenant: Tenant | None = None) -> ScheduleState | None:
        """The schedule that updates the pipeline's tables, or those of one tenant; None when its file has none."""
        return await self._now(schedule_name(pipeline.name), pipeline, pipeline.schedule, tenant, full_refresh=False)

    async def full_refresh(self, pipeline: Pipeline, tenant: Tenant | None = None) -> ScheduleState | None:
        """The schedule of the full refresh; None when its file has none."""
        name = full_refresh_schedule_name(pipeline.name)
        return await self._now(name, pipeline, pipeline.full_refresh, tenant, full_refresh=True)

    def close(self) -> None:
        """Stop the pending requests."""
        for task in list(self._tasks.values()):
            task.cancel()

    async def _now(
        self, name: str, pipeline: Pipeline, described: Schedule | None, tenant: Tenant | None, *, full_refresh: bool
    ) -> ScheduleState | None:
        if described is None:
            return None
        known = self._known.get(name, _Known())
        if not known.is_new:
            # Shielded: one of several callers may be cancelled, and a late answer serves the next call.
            known = _Known(syncs=known.syncs)
            with suppress(TimeoutError):
                known = await asyncio.wait_for(asyncio.shield(self._ask(name, pipeline.name)), LIST_S)
        return self._state(known, pipeline, described, tenant, full_refresh=full_refresh)

    def _state(
        self, known: _Known, pipeline: Pipeline, described: Schedule, tenant: Tenant | None, *, full_refresh: bool
    ) -> ScheduleState:
        chosen = known.syncs.get(tenant.id) if tenant is not None else None
        own = chosen.schedule(described, full_refresh=full_refresh) if chosen is not None else described
        followed = own or described
        status: Status = known.status if own is not None else "stopped"
        interval_s = moments.interval_s(followed)
        target_s = (chosen or Sync(pipeline.name)).target_s(described)
        return ScheduleState(followed.cron, followed.timezone, status, interval_s, self._trusted_s, target_s)

    def _ask(self, name: str, pipeline: str) -> "asyncio.Task[_Known]":
        task = self._tasks.get(name)
        if task is None:
            task = self._tasks[name] = asyncio.create_task(self._fetch(name, pipeline))
            task.add_done_callback(lambda _: self._tasks.pop(name, None))
        return task

    async def _fetch(self, name: str, pipeline: str) -> _Known:
        syncs = self._known.get(name, _Known()).syncs
        with suppress(CatalogUnavailable):
            syncs = await in_thread(self._syncs_of, pipeline, within_s=CATALOG_S)
        status: Status = "unknown"
        with suppress(ExplorerError):
            found = await self._dagster.schedule(name)
            # The loaded code location may not define this schedule; then nothing starts by itself.
            status = "running" if found and found.running else "stopped"
        self._known[name] = known = _Known(status, syncs, time.monotonic())
        return known
