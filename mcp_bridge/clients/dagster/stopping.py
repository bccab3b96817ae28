"""How is a run stopped in any state? Dagster refuses while a run is between two states."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Protocol

from mcp_bridge.clients.dagster.errors import CancelRefused
from mcp_bridge.clients.dagster.records import Run, RunStatus

# Dagster does not try to stop runs in these states: the run is about to be queued, or its worker is starting.
_COMING_UP: tuple[RunStatus, ...] = ("NOT_STARTED", "STARTING", "MANAGED", "SUSPENDED")
# Dagster refuses to stop a run whose worker is starting. We retry for this long, then mark the run cancelled.
_STOP_ASKED_S = 2.0
_STOP_AGAIN_S = 0.1
# A worker that read the run's state just before that still starts the run.
_STOP_WATCHED_S = 1.5


class Terminate(Protocol):
    """Tells Dagster once to stop a run; `force` marks it cancelled at once. Raises: CancelRefused, UnknownRun."""

    def __call__(self, run_id: str, *, force: bool) -> Awaitable[None]: ...


async def stop_run(read: Callable[[str], Awaitable[Run]], terminate: Terminate, run_id: str, *, force: bool) -> Run:
    """Stop a run in any state and return it as it is then: CANCELING or ended.

    Dagster refuses while the run is not queued yet and while its worker is starting, so the request is repeated. After two
    seconds the run is marked cancelled, and the worker sees the mark before its first step. `force`: mark it at once, even
    when it is already being cancelled.

    Raises:
        UnknownRun: no such run.
        CancelRefused: Dagster kept refusing.
    """
    started = time.monotonic()
    ended_at: float | None = None
    refused: CancelRefused | None = None
    while True:
        run = await read(run_id)
        now = time.monotonic()
        if run.finished:
            # A run that was marked just as it left the queue, or as its worker began, becomes active again.
            if run.status != "CANCELED" or ended_at is None or now - ended_at > _STOP_WATCHED_S:
                return run
        elif run.status == "CANCELING" and not force:
            return run
        elif now - started > _STOP_ASKED_S + 3 * _STOP_WATCHED_S:
            raise refused or CancelRefused(
                f"Run {run_id} goes on although it was marked cancelled.", next_step="Ask for it once more."
            )
        else:
            coming_up = run.status in _COMING_UP
            mark = force or (coming_up and now - started > _STOP_ASKED_S)
            try:
                if mark or not coming_up:
                    await terminate(run_id, force=mark)
                    ended_at = now if mark or run.status == "QUEUED" else None
                    force = False
            except CancelRefused as error:
                refused = error
        await asyncio.sleep(_STOP_AGAIN_S)
