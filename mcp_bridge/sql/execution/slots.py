"""The slots for statements of one tenant: how many run at a time, which is next, and when a slot is free again.

Tenants share the database's processors. A tenant whose statements take long gets one slot at a time while others are served, so
that its queries wait for each other and not the others for them.

A slot is free when its session was reset, or when its backend is gone. The backend closes its socket at the very end of its
process, so a client can wait for that (comment of `socket_close` in PostgreSQL's pqcomm.c). Until then the session counts against
the role's connection limit, even if the caller already has an answer.
"""

import asyncio
import contextlib
import logging
import socket
import time
from collections.abc import Callable
from dataclasses import dataclass

import psycopg

from mcp_bridge.sql.errors import QueryFailed
from mcp_bridge.sql.execution.session import Session

log = logging.getLogger(__name__)

MAX_WAITING = 200
# A backend notices within a second that we closed the socket, unless its code does not check for it.
_TERMINATE_AFTER_S = 3.0
_AGAIN_S = 5.0
# Statements of this length make a tenant slow, by a mean in which the latest counts a fifth.
_SLOW_S = 0.25
_LATEST_COUNTS = 0.2
# After its latest call a tenant is being served for this time.
_SERVED_S = 1.0
_LOOK_EVERY_S = 0.05


@dataclass(frozen=True, slots=True)
class Termination:
    """Ends a backend that still runs after its statement was stopped. Both functions take its pid, block, and may fail.

    `last_resort` ends all sessions of the server, so it is called only after `last_resort_s` (0: never).
    """

    terminate: Callable[[int], None]
    last_resort: Callable[[int], None]
    last_resort_s: float = 0.0


class Tenants:
    """When each tenant was served last. For use inside one event loop."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._served_at: dict[object, float] = {}

    def is_served(self, tenant: object) -> None:
        """A call of the tenant has come."""
        self._served_at[tenant] = self._clock()

    def others_are_served(self, tenant: object) -> bool:
        """Whether a call of another tenant came lately."""
        since = self._clock() - _SERVED_S
        for other in [other for other, at in self._served_at.items() if at < since]:
            del self._served_at[other]
        return any(other is not tenant for other in self._served_at)


class Slots:
    """The slots of one tenant, given in the order of requests."""

    def __init__(
        self,
        count: int,
        *,
        max_waiting: int = MAX_WAITING,
        termination: Termination | None = None,
        tenants: Tenants | None = None,
    ) -> None:
        self._free = asyncio.Semaphore(count)  # wakes waiters in the order of their requests
        self._tenants = tenants or Tenants()
        self._used, self._mean_s = 0, 0.0
        self._waiting = 0
        self._max_waiting = max_waiting
        self._termination = termination
        self._reapers: set[asyncio.Task[None]] = set()

    async def acquire(self, wait_s: float) -> None:
        """Wait for a slot. Raises `QueryFailed` (`busy`) when too many calls wait or it takes longer than `wait_s`."""
        if self._waiting >= self._max_waiting:
            raise busy(f"{self._waiting} calls for this tenant wait already.", 5)
        self._waiting += 1
        self._tenants.is_served(self)
        try:
            async with asyncio.timeout(wait_s):
                await self._acquire()
        except TimeoutError:
            raise busy(
                f"The call waited {wait_s:g} s for its turn; other queries of this tenant take that long.", 10
            ) from None
        finally:
            self._waiting -= 1

    async def _acquire(self) -> None:
        await self._free.acquire()
        try:
            while self._used and self._mean_s > _SLOW_S and self._tenants.others_are_served(self):
                await asyncio.sleep(_LOOK_EVERY_S)
        except BaseException:
            self._free.release()
            raise
        self._used += 1

    def took(self, seconds: float) -> None:
        """A statement of the tenant took so long."""
        self._mean_s += (seconds - self._mean_s) * _LATEST_COUNTS

    def release(self) -> None:
        """Release a slot that holds no session in use."""
        self._used -= 1
        self._free.release()

    def end(self, session: Session, outlived: Callable[[], None] = lambda: None) -> "asyncio.Task[None]":
        """Close a session; the task ends when its backend is gone. `outlived` is called once if that takes long."""
        reaper = asyncio.create_task(self._reap(session, outlived))
        self._reapers.add(reaper)
        reaper.add_done_callback(self._reapers.discard)
        return reaper

    def release_after(self, session: Session, outlived: Callable[[], None]) -> None:
        """Close the session and release its slot when its backend is gone. Does not wait."""
        self.end(session, outlived).add_done_callback(lambda _: self.release())

    async def _reap(self, session: Session, outlived: Callable[[], None]) -> None:
        watched = session.backend.socket
        try:
            with contextlib.suppress(psycopg.Error, OSError):
                await session.connection.close()
            # libpq's handle is closed, but ours keeps the socket open. The shutdown shows the server that nobody listens.
            with contextlib.suppress(OSError):
                watched.shutdown(socket.SHUT_WR)
            await self._until_gone(watched, session.backend.pid, outlived)
        finally:
            watched.close()

    async def _until_gone(self, watched: socket.socket, pid: int, outlived: Callable[[], None]) -> None:
        gone = asyncio.create_task(_closed(watched))
        started = asyncio.get_running_loop().time()
        forced = False
        try:
            done, _ = await asyncio.wait({gone}, timeout=_TERMINATE_AFTER_S)
            if not done:
                outlived()
                log.warning("The backend %s goes on after its statement was stopped", pid)
            while not done:
                elapsed = asyncio.get_running_loop().time() - started
                if self._termination is not None:
                    due = 0 < self._termination.last_resort_s <= elapsed and not forced
                    await asyncio.to_thread(
                        _tried, self._termination.last_resort if due else self._termination.terminate, pid
                    )
                    forced = forced or due
                done, _ = await asyncio.wait({gone}, timeout=_AGAIN_S)
        finally:
            gone.cancel()


def busy(reason: str, retry_after_s: int) -> QueryFailed:
    return QueryFailed(
        "busy",
        f"The query did not get its turn. {reason}",
        next_step=f"Try again in {retry_after_s} s; send fewer queries at the same time, and cheaper ones.",
        details={"retry_after_s": retry_after_s},
    )


async def _closed(watched: socket.socket) -> None:
    loop = asyncio.get_running_loop()
    with contextlib.suppress(OSError):
        while await loop.sock_recv(watched, 65536):
            pass  # the rest of a response that is not needed


def _tried(end: Callable[[int], None], pid: int) -> None:
    try:
        end(pid)
    except Exception:
        log.exception("The backend %s could not be ended", pid)
