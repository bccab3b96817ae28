"""The slots for statements of one tenant: how many run at a time, which is next, and when a slot is free again.

A slot is free when its backend is gone. The backend closes its socket at the very end of its process, so a client can wait for
that (comment of `socket_close` in PostgreSQL's pqcomm.c). Until then the session counts against the role's connection limit,
even if the caller already has an answer.
"""

import asyncio
import contextlib
import logging
import os
import socket
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Self

import psycopg
from psycopg import AsyncConnection

from mcp_bridge.sql.errors import QueryFailed

log = logging.getLogger(__name__)

MAX_WAITING = 200
# A backend notices within a second that we closed the socket, unless its code does not check for it.
_TERMINATE_AFTER_S = 3.0
_AGAIN_S = 5.0


@dataclass(frozen=True, slots=True)
class Termination:
    """Ends a backend that still runs after its statement was stopped. Both functions take its pid, block, and may fail.

    `last_resort` ends all sessions of the server, so it is called only after `last_resort_s` (0: never).
    """

    terminate: Callable[[int], None]
    last_resort: Callable[[int], None]
    last_resort_s: float = 0.0


@dataclass(frozen=True, slots=True)
class HeldBackend:
    """The backend of a slot, and a second handle of its socket, which stays open when libpq closes its own."""

    pid: int
    socket: socket.socket

    @classmethod
    def of(cls, connection: AsyncConnection[Any]) -> Self:
        handle = socket.socket(fileno=os.dup(connection.pgconn.socket))
        handle.setblocking(False)
        return cls(connection.info.backend_pid, handle)


class Slots:
    """The slots of one tenant, given in the order of requests."""

    def __init__(self, count: int, *, max_waiting: int = MAX_WAITING, termination: Termination | None = None) -> None:
        self._free = asyncio.Semaphore(count)  # wakes waiters in the order of their requests
        self._waiting = 0
        self._max_waiting = max_waiting
        self._termination = termination
        self._reapers: set[asyncio.Task[None]] = set()

    async def acquire(self, wait_s: float) -> None:
        """Wait for a slot. Raises `QueryFailed` (`busy`) when too many calls wait or it takes longer than `wait_s`."""
        if self._waiting >= self._max_waiting:
            raise busy(f"{self._waiting} calls for this tenant wait already.", 5)
        self._waiting += 1
        try:
            await asyncio.wait_for(self._free.acquire(), wait_s)
        except TimeoutError:
            raise busy(
                f"The call waited {wait_s:g} s for its turn; other queries of this tenant take that long.", 10
            ) from None
        finally:
            self._waiting -= 1

    def release(self) -> None:
        """Release a slot without a backend."""
        self._free.release()

    def release_after(self, held: HeldBackend, connection: AsyncConnection[Any], outlived: Callable[[], None]) -> None:
        """Close `connection` and release its slot when its backend is gone. Does not wait. `outlived` is called once if
        that takes long."""
        reaper = asyncio.create_task(self._reap(held, connection, outlived))
        self._reapers.add(reaper)
        reaper.add_done_callback(self._reapers.discard)

    async def _reap(self, held: HeldBackend, connection: AsyncConnection[Any], outlived: Callable[[], None]) -> None:
        try:
            with contextlib.suppress(psycopg.Error, OSError):
                await connection.close()
            # libpq's handle is closed, but ours keeps the socket open. The shutdown shows the server that nobody listens.
            with contextlib.suppress(OSError):
                held.socket.shutdown(socket.SHUT_WR)
            await self._until_gone(held.socket, held.pid, outlived)
        finally:
            held.socket.close()
            self.release()

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
