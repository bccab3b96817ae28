"""How is a run followed? One poller per run reads its log while there are watchers."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable

from mcp_bridge.clients.dagster.errors import DagsterUnavailable
from mcp_bridge.clients.dagster.records import Run, RunEvent

_POLL_S = 0.25
# (run id, cursor) -> the run, a page of its log, the next cursor, whether there is more.
ReadLog = Callable[[str, str | None], Awaitable[tuple[Run, list[RunEvent], str | None, bool]]]
# Gets each run that somebody followed to its end, and its whole log.
OnFinished = Callable[[Run, list[RunEvent]], object]


class RunWatch:
    """One caller's view of a followed run; made by `RunWatches.watch`."""

    def __init__(self, poller: "RunPoller") -> None:
        self._poller = poller
        self._returned = 0

    @property
    def run(self) -> Run | None:
        """The run as last read; None before the first answer."""
        return self._poller.run

    @property
    def done(self) -> bool:
        """Whether the run has ended and this caller has all of its events."""
        return self._poller.complete and self._returned == len(self._poller.log)

    async def events(self, timeout_s: float) -> list[RunEvent]:
        """Events since the last call; waits for one at most `timeout_s`, then returns an empty list.

        Raises:
            UnknownRun, DagsterUnavailable, or any other error that stopped the poller.
        """
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(timeout_s):
                await self._poller.wait_beyond(self._returned)
        self._poller.raise_failure()
        fresh = self._poller.log[self._returned :]
        self._returned += len(fresh)
        return fresh


class RunPoller:
    """The only poller of a run. It reads the log every quarter of a second while there are watchers."""

    _MAX_FAILURES = 20

    def __init__(self, read: ReadLog, run_id: str, on_finished: OnFinished) -> None:
        self.watchers = 0
        self.run: Run | None = None
        self.log: list[RunEvent] = []
        self.complete = False
        self._failure: Exception | None = None
        self._changed = asyncio.Condition()
        self._task = asyncio.create_task(self._follow(read, run_id, on_finished), name=f"follow {run_id}")

    @property
    def stopped(self) -> bool:
        return self._task.done() and not self.complete

    def stop(self) -> None:
        self._task.cancel()

    def raise_failure(self) -> None:
        if self._failure is not None:
            raise self._failure

    async def wait_beyond(self, known: int) -> None:
        async with self._changed:
            await self._changed.wait_for(lambda: len(self.log) > known or self.complete or self._failure is not None)

    async def _follow(self, read: ReadLog, run_id: str, on_finished: OnFinished) -> None:
        cursor: str | None = None
        failures = 0
        while not self.complete and self._failure is None:
            try:
                run, page, cursor, more = await read(run_id, cursor)
                failures = 0
                # Events may still arrive just after the status changed. Only an empty page after the end is the end.
                self.complete = run.finished and not page and self.run is not None and self.run.finished
                self.run = run
                self.log += page
                if self.complete:
                    on_finished(run, self.log)
            except DagsterUnavailable as error:
                failures, more = failures + 1, False
                self._failure = error if failures >= self._MAX_FAILURES else None
            except Exception as error:
                # Watchers must learn of any error, because nobody reads the log for them any more.
                self._failure, more = error, False
            async with self._changed:
                self._changed.notify_all()
            if not more and not self.complete:
                await asyncio.sleep(_POLL_S)


class RunWatches:
    """The pollers of all runs that have watchers. For use inside one event loop."""

    def __init__(self, read: ReadLog, on_finished: OnFinished) -> None:
        self._read, self._on_finished = read, on_finished
        self._pollers: dict[str, RunPoller] = {}

    def close(self) -> None:
        """Stop all pollers."""
        for poller in list(self._pollers.values()):
            poller.stop()

    @contextlib.asynccontextmanager
    async def watch(self, run_id: str) -> AsyncIterator[RunWatch]:
        """Follow a run from its first event. Watchers of one run share one poller."""
        poller = self._pollers.get(run_id)
        if poller is None or poller.stopped:
            poller = self._pollers[run_id] = RunPoller(self._read, run_id, self._on_finished)
        poller.watchers += 1
        try:
            yield RunWatch(poller)
        finally:
            poller.watchers -= 1
            if poller.watchers == 0:
                poller.stop()
                if self._pollers.get(run_id) is poller:
                    del self._pollers[run_id]
