"""How long does the bridge wait for what it cannot hurry: a database or a Dagster that is frozen, and says nothing at all?

A frozen server neither answers nor closes its sockets, and no option of a connection ends the wait on the same machine: the one
who waits gives up. What was asked goes on in its thread and frees it when the server goes on.
"""

import asyncio
from collections.abc import Awaitable, Callable
from typing import TypeVar, TypeVarTuple

from anyio import CapacityLimiter, to_thread
from anyio.lowlevel import RunVar

from explorer.core.errors import TransientError

T = TypeVar("T")
Ts = TypeVarTuple("Ts")

# Of the catalog's questions, which take milliseconds.
CATALOG_S = 5.0
# Of questions about a tenant's tables; beyond the server's own limit on a statement there is nothing to wait for.
METADATA_S = 15.0
# Of making and dropping schemas, which may hold hundreds of tables.
SCHEMAS_S = 120.0
# Of Dagster in the answers to lists, and beyond its own time in those to queries.
LIST_S = 2.0
QUERY_S = 0.5
_MAX_THREADS = 100
# Of each event loop.
_THREADS: RunVar[CapacityLimiter] = RunVar("threads of the bridge")


class DatabaseTimeout(TransientError):
    """The database was asked and said nothing in time."""

    code = "database_unavailable"


async def in_thread(
    work: Callable[[*Ts], T],
    *args: *Ts,
    within_s: float = METADATA_S,
    limiter: CapacityLimiter | None = None,
) -> T:
    """What `work` gives, run in a thread.

    Raises:
        DatabaseTimeout: it took longer than `within_s`; it goes on without anybody waiting.
    """
    asked = to_thread.run_sync(work, *args, abandon_on_cancel=True, limiter=limiter or _limiter())
    try:
        async with asyncio.timeout(within_s):
            return await asked
    except TimeoutError:
        raise DatabaseTimeout(
            f"The database has not answered for {within_s:g} s.",
            next_step="Try again in a moment; if it lasts, tell the operator (`explorer status`).",
        ) from None


async def or_none(asked: Awaitable[T], within_s: float) -> T | None:
    """What comes within `within_s`, else None; what was asked is cancelled then."""
    try:
        async with asyncio.timeout(within_s):
            return await asked
    except TimeoutError:
        return None


def _limiter() -> CapacityLimiter:
    """Of this event loop; threads that wait for a frozen server must not be all there are."""
    try:
        return _THREADS.get()
    except LookupError:
        limiter = CapacityLimiter(_MAX_THREADS)
        _THREADS.set(limiter)
        return limiter
