"""When does a pipeline run by itself? As Dagster reports it now, else unknown.

A pipeline's file only defines the schedule's initial state; people switch it in Dagster. All answers take schedules from here,
so that they agree.
"""

import asyncio
import time
from contextlib import suppress

from explorer.contract.names import full_refresh_schedule_name, schedule_name
from explorer.core.errors import ExplorerError
from explorer.registry import Pipeline, Schedule
from mcp_bridge.clients.dagster.client import DagsterClient
from mcp_bridge.clients.timeouts import LIST_S
from mcp_bridge.facts.freshness import NO_SCHEDULE, FreshnessRule, ScheduleState, Status

_REFRESH_S = 10.0


class Schedules:
    """The schedules of each pipeline, queried from Dagster at most every ten seconds. For use inside one event loop.

    Each call waits for Dagster two seconds at most. A caller that needs several schedules makes the calls at once.
    """

    def __init__(self, dagster: DagsterClient) -> None:
        self._dagster = dagster
        self._known: dict[str, tuple[float, ScheduleState]] = {}
        self._tasks: dict[str, asyncio.Task[ScheduleState]] = {}

    async def of(self, pipeline: Pipeline) -> FreshnessRule:
        """The current rule."""
        state = await self.schedule(pipeline)
        return state.rule if state else NO_SCHEDULE

    def latest(self, pipeline: Pipeline) -> FreshnessRule:
        """The last known rule, for answers that do not wait for Dagster. An old rule is refreshed for the next call."""
        if pipeline.schedule is None:
            return NO_SCHEDULE
        name = schedule_name(pipeline.name)
        if not self._is_new(name):
            self._ask(name, pipeline.schedule)
        return (self._known[name][1] if name in self._known else _unknown(pipeline.schedule)).rule

    async def schedule(self, pipeline: Pipeline) -> ScheduleState | None:
        """The schedule that updates the pipeline's tables; None when its file has none."""
        return await self._state(schedule_name(pipeline.name), pipeline.schedule)

    async def full_refresh(self, pipeline: Pipeline) -> ScheduleState | None:
        """The schedule of the full refresh; None when its file has none."""
        return await self._state(full_refresh_schedule_name(pipeline.name), pipeline.full_refresh)

    def close(self) -> None:
        """Stop the pending requests."""
        for task in list(self._tasks.values()):
            task.cancel()

    async def _state(self, name: str, described: Schedule | None) -> ScheduleState | None:
        if described is None:
            return None
        if self._is_new(name):
            return self._known[name][1]
        # Shielded: one of several callers may be cancelled, and a late answer serves the next call.
        with suppress(TimeoutError):
            return await asyncio.wait_for(asyncio.shield(self._ask(name, described)), LIST_S)
        return _unknown(described)

    def _is_new(self, name: str) -> bool:
        return name in self._known and time.monotonic() - self._known[name][0] < _REFRESH_S

    def _ask(self, name: str, described: Schedule) -> "asyncio.Task[ScheduleState]":
        task = self._tasks.get(name)
        if task is None:
            task = self._tasks[name] = asyncio.create_task(self._fetch(name, described))
            task.add_done_callback(lambda _: self._tasks.pop(name, None))
        return task

    async def _fetch(self, name: str, described: Schedule) -> ScheduleState:
        try:
            found = await self._dagster.schedule(name)
        except ExplorerError:
            state = _unknown(described)
        else:
            # The loaded code location may not define this schedule; then nothing starts by itself.
            status: Status = "running" if found and found.running else "stopped"
            state = (
                ScheduleState(found.cron, found.timezone, status, found.interval_s)
                if found
                else ScheduleState(described.cron, described.timezone, status)
            )
        self._known[name] = (time.monotonic(), state)
        return state


def _unknown(described: Schedule) -> ScheduleState:
    return ScheduleState(described.cron, described.timezone, "unknown")
