"""Runs a validated statement as the tenant's read-only login, in one of the tenant's slots.

1. The call waits for the delay of its principal (`throttle`).
2. It waits for a slot of the tenant (`slots`), which it keeps until its backend is gone.
3. It opens a new session (`session`) and reads one page (`page`).

`mcp_bridge.sql.validation` decides whether a statement may run at all.
"""

import asyncio
import random
import time
from functools import partial
from typing import Any

import psycopg
from psycopg import AsyncConnection

from explorer.postgres.connections import CASTS_SCHEMA, Login
from mcp_bridge.sql.execution.failures import failure, is_full
from mcp_bridge.sql.execution.page import PageReader
from mcp_bridge.sql.execution.results import QueryLimits, QueryResult
from mcp_bridge.sql.execution.session import connect
from mcp_bridge.sql.execution.slots import HeldBackend, Slots, Termination, busy
from mcp_bridge.sql.execution.throttle import OUTLIVED, TIMED_OUT, OverrunThrottle
from mcp_bridge.sql.validation import ValidatedQuery

_CONNECT_S = 10.0


class Executor:
    """Runs validated statements of one tenant, at most `max_concurrent` at a time (keep it below the role's connection
    limit); the others wait for their turn.
    """

    def __init__(
        self,
        login: Login,
        search_path: tuple[str, ...],
        limits: QueryLimits | None = None,
        *,
        max_concurrent: int = 3,
        throttle: OverrunThrottle | None = None,
        termination: Termination | None = None,
    ) -> None:
        """`login` is the tenant's read-only LOGIN role, which is a member of no other role. `search_path` has its readable
        schemas; the platform's casts are added after them.
        """
        self._login = login
        self._search_path = (*search_path, CASTS_SCHEMA)
        self._limits = limits or QueryLimits()
        self._slots = Slots(max_concurrent, termination=termination)
        self._throttle = throttle or OverrunThrottle()

    async def run(
        self, query: ValidatedQuery, *, offset: int = 0, limits: QueryLimits | None = None, principal: str = ""
    ) -> QueryResult:
        """The page of `query` that begins after `offset` rows, for `principal`. Raises `QueryFailed`.

        Cancelling the awaiting task stops the statement on the server: by a cancel request, and if that has no effect, by
        closing the connection, which makes the server end the backend.
        """
        limits = limits or self._limits
        await self._throttle.wait(principal)
        asked = time.monotonic()
        await self._slots.acquire(limits.wait_s)
        try:
            connection = await self._connect_before(query, limits, asked + limits.wait_s)
            held = HeldBackend.of(connection)
        except BaseException:
            self._slots.release()
            raise
        page = PageReader(connection, query, offset, limits, time.monotonic())
        try:
            return await page.read()
        finally:
            if page.timed_out:
                self._throttle.record(principal, TIMED_OUT)
            self._slots.release_after(held, connection, partial(self._throttle.record, principal, OUTLIVED))

    async def _connect_before(
        self, query: ValidatedQuery, limits: QueryLimits, deadline: float
    ) -> AsyncConnection[Any]:
        """A connection. While other processes hold all connections of the role, it retries until `deadline`."""
        pause_s = 0.05
        while True:
            try:
                return await asyncio.wait_for(
                    connect(self._login, self._search_path, limits.timeout_s), timeout=min(_CONNECT_S, limits.timeout_s)
                )
            except (psycopg.Error, TimeoutError) as error:
                if not is_full(error):
                    raise failure(error, query, 0) from None
            if time.monotonic() + pause_s > deadline:
                raise busy("All connections that this tenant may have are taken, by other bridges too.", 10) from None
            await asyncio.sleep(pause_s * random.uniform(0.5, 1.0))  # noqa: S311 (spreads retries)
            pause_s = min(pause_s * 1.6, 0.5)
