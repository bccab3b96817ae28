"""Waits for runs, and stops a run whose caller has cancelled."""

import asyncio
import logging
import time

from explorer.core.errors import ExplorerError
from mcp_bridge.clients.dagster.client import DagsterClient
from mcp_bridge.clients.dagster.errors import DagsterUnavailable, UnknownRun
from mcp_bridge.clients.dagster.records import Run, RunEvent
from mcp_bridge.runs.progress import ProgressSender, Send

_STOP_TRIED_S = 15.0
_STOP_AGAIN_S = 0.5
_log = logging.getLogger(__name__)


class RunFollower:
    """Follows runs for the calls that launched them or wait for them."""

    def __init__(self, dagster: DagsterClient) -> None:
        self._dagster = dagster

    async def wait(self, run_id: str, wait_s: int, send: Send) -> tuple[Run, list[RunEvent]]:
        """Follow the run until it ends or the time is up. Sends progress at each step and at least every ten seconds."""
        if wait_s == 0:
            return await self._dagster.run(run_id), await self._dagster.events(run_id)
        deadline = time.monotonic() + wait_s
        sender = ProgressSender(send)
        events: list[RunEvent] = []
        async with self._dagster.watch(run_id) as watch:
            while not watch.done and (left := deadline - time.monotonic()) > 0:
                fresh = await watch.events(timeout_s=min(left, 1.0))
                events += fresh
                await sender.send(fresh)
            run = watch.run
        return run or await self._dagster.run(run_id), events

    async def stop(self, run_id: str) -> bool:
        """Stop the run and return whether that worked. Retries for a while, because no caller is left to try again."""
        deadline = time.monotonic() + _STOP_TRIED_S
        while True:
            try:
                await self._dagster.stop(run_id)
                return True
            except UnknownRun:
                return False
            except ExplorerError as error:
                if time.monotonic() > deadline:
                    _log.warning("Run %s goes on although its call was cancelled: %s", run_id, error.message)
                    return False
                await asyncio.sleep(_STOP_AGAIN_S)

    async def why_it_waits(self) -> list[str]:
        """Why a queued run does not start, as far as is known."""
        try:
            health = await self._dagster.health()
        except DagsterUnavailable:
            return []
        if health.unhealthy_daemons:
            return [
                "Dagster's daemon is not running, so queued runs do not start: `explorer status` and `explorer up`."
            ]
        return []
