"""How long does the bridge wait for a database or a Dagster that is frozen and does not answer?

A frozen server neither answers nor closes its sockets, and no connection option ends the wait on the same machine. So the
waiting side gives up. The request stays in its thread, which becomes free when the server continues.
"""

import asyncio
from collections.abc import Awaitable, Callable
from typing import TypeVar, TypeVarTuple

from anyio import CapacityLimiter, to_thread
from anyio.lowlevel import RunVar

from explorer.core.errors import TransientError

T = TypeVar("T")
Ts = TypeVarTuple("Ts")

# Limit of catalog queries, which take milliseconds.
CATALOG_S = 5.0
# Limit of queries about a tenant's tables. The server itself stops statements before this time is over.
METADATA_S = 15.0
# Limits of Dagster: in answers that list, and in answers to queries, after the query's own time.
LIST_S = 2.0
QUERY_S = 0.5


class Threads:
    """At most so many threads of one kind for each event loop, so that those that wait for a frozen server use up no others."""

    def __init__(self, name: str, most: int) -> None:
        self._limiters: RunVar[CapacityLimiter] = RunVar(name)
        self._most = most

    @property
    def limiter(self) -> CapacityLimiter:
        """The running event loop's limiter."""
        try:
            return self._limiters.get()
        except LookupError:
            limiter = CapacityLimiter(self._most)
            self._limiters.set(limiter)
            return limiter


_DATABASES = Threads("threads that ask databases", 100)


class DatabaseTimeout(TransientError):
    """The database did not answer in time."""

    code = "database_unavailable"


async def in_thread(
    work: Callable[[*Ts], T],
    *args: *Ts,
    within_s: float = METADATA_S,
    limiter: CapacityLimiter | None = None,
) -> T:
    """Run `work` in a thread and return its result.

    Raises:
        DatabaseTimeout: it took longer than `within_s`. The thread continues, but nobody waits for it.
    """
    asked = to_thread.run_sync(work, *args, abandon_on_cancel=True, limiter=limiter or _DATABASES.limiter)
    try:
        async with asyncio.timeout(within_s):
            return await asked
    except TimeoutError:
        raise DatabaseTimeout(
            f"The database has not answered for {within_s:g} s.",
            next_step="Try again in a moment; if it lasts, tell the operator (`explorer status`).",
        ) from None


async def or_none(asked: Awaitable[T], within_s: float) -> T | None:
    """The result if it comes within `within_s`; else the work is cancelled and the result is None."""
    try:
        async with asyncio.timeout(within_s):
            return await asked
    except TimeoutError:
        return None
