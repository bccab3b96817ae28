"""How is a run stopped, whatever state it is in? Dagster itself refuses while a run is between two states."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Protocol

from mcp_bridge.clients.dagster.errors import CancelRefused
from mcp_bridge.clients.dagster.records import Run, RunStatus

# What Dagster does not try to stop: the run is on its way to the queue, or its worker is coming up.
_COMING_UP: tuple[RunStatus, ...] = ("NOT_STARTED", "STARTING", "MANAGED", "SUSPENDED")
# Dagster refuses to stop a run whose worker is coming up: it is asked again for so long, then the run is marked cancelled.
_STOP_ASKED_S = 2.0
_STOP_AGAIN_S = 0.1
# A worker that had looked at its run just before that still starts it.
_STOP_WATCHED_S = 1.5


class Terminate(Protocol):
    """Asks Dagster once to stop a run; `force` marks it cancelled at once. Raises: CancelRefused, UnknownRun."""

    def __call__(self, run_id: str, *, force: bool) -> Awaitable[None]: ...


async def stop_run(read: Callable[[str], Awaitable[Run]], terminate: Terminate, run_id: str, *, force: bool) -> Run:
    """See to it that a run ends; the run as it then is: CANCELING or ended.

    Dagster refuses while the run's worker is coming up, and while the run is not queued yet: it is asked again until it can, and
    after two seconds the run is marked cancelled, which the worker sees before its first step. `force`: marked at once, also
    when it is being cancelled already.

    Raises:
        UnknownRun: no such run.
        CancelRefused: Dagster went on refusing.
    """
    started = time.monotonic()
    ended_at: float | None = None
    refused: CancelRefused | None = None
    while True:
        run = await read(run_id)
        now = time.monotonic()
        if run.finished:
            # One that was marked in the moment when it left the queue, or when its worker began, comes back.
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
