"""Runs a validated statement as the tenant's read-only login, in one of the tenant's slots.

1. The call waits for the delay of its principal (`throttle`).
2. It waits for a slot of the tenant (`slots`), which it keeps until its session was reset or its backend is gone.
3. It takes a kept session (`kept`) or opens a new one (`session`) and reads one page (`page`), or the plan (`plan`).

Only the session of a statement that gave its page is kept. After an error, a cancel or a time-out it is closed.
`mcp_bridge.sql.validation` decides whether a statement may run at all.
"""

import asyncio
import random
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from functools import partial
from typing import Any, TypeVar

import psycopg

from explorer.postgres.connections import CASTS_SCHEMA, Login
from explorer.telemetry.traces import span
from mcp_bridge.sql.execution.failures import failure, is_full
from mcp_bridge.sql.execution.kept import KeptSessions
from mcp_bridge.sql.execution.page import PageReader, Shapes
from mcp_bridge.sql.execution.plan import Plan, PlanReader
from mcp_bridge.sql.execution.reading import Reading, SessionLost
from mcp_bridge.sql.execution.results import QueryLimits, QueryResult
from mcp_bridge.sql.execution.rows import RowStream, StreamedColumn, StreamLimits, not_read_in_time
from mcp_bridge.sql.execution.session import Session, connect
from mcp_bridge.sql.execution.slots import Slots, Tenants, Termination, busy
from mcp_bridge.sql.execution.throttle import OUTLIVED, TIMED_OUT, OverrunThrottle
from mcp_bridge.sql.validation import ValidatedQuery

T = TypeVar("T")

# Of one tenant in one bridge, below what its role may have.
MOST_SLOTS = 3
_CONNECT_S = 10.0
# After a session was given up, its place stays free for this time, so that the bridge that waits gets it. Longer than the
# pauses between its tries.
_FREE_FOR_S = 0.6
# Of a tenant's places, so many serve whole results, which take long: the others are for queries.
_STREAMS = 1
# What an operator changes at a role (its limits) reaches only new sessions.
_MAX_AGE_S = 600.0


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
        max_concurrent: int = MOST_SLOTS,
        throttle: OverrunThrottle | None = None,
        termination: Termination | None = None,
        kept: KeptSessions | None = None,
        keeps_sessions: bool = True,
        tenants: Tenants | None = None,
        want: Callable[[], Awaitable[None]] | None = None,
        waited: Callable[[float], None] = lambda _: None,
    ) -> None:
        """`login` is the tenant's read-only LOGIN role, which is a member of no other role. `search_path` has its readable
        schemas; the platform's casts are added after them. `keeps_sessions` False: each statement gets a session of its own.
        `tenants`: shared by the executors of all tenants.
        `want` asks the other bridges for a connection of the role, and they call `give_up`. `waited` is called with the seconds
        that a call waited for its turn and its session.
        """
        self._login = login
        self._search_path = (*search_path, CASTS_SCHEMA)
        self._limits = limits or QueryLimits()
        self._slots = Slots(max_concurrent, termination=termination, tenants=tenants)
        self._throttle = throttle or OverrunThrottle()
        self._kept, self._keeps_sessions = kept or KeptSessions(), keeps_sessions
        self._want, self._waited = want, waited
        self._owes = False
        self._shapes = Shapes()
        self._streams = asyncio.Semaphore(_STREAMS)
        self._is_closed = False
        self._resets: set[asyncio.Task[None]] = set()

    async def run(
        self,
        query: ValidatedQuery,
        *,
        offset: int = 0,
        limits: QueryLimits | None = None,
        principal: str = "",
        ran: Callable[[int], None] = lambda _: None,
    ) -> QueryResult:
        """The page of `query` that begins after `offset` rows, for `principal`. Raises `QueryFailed`. `ran` is called with the
        milliseconds that the statement ran, with an error too; waiting for its turn is not part of them.

        Cancelling the awaiting task stops the statement on the server: by a cancel request, and if that has no effect, by
        closing the connection, which makes the server end the backend.
        """
        limits = limits or self._limits

        def page(session: Session) -> PageReader:
            return PageReader(session.connection, query, offset, limits, time.monotonic(), self._shapes)

        return await self._read(page, query, limits, principal, ran)

    async def plan(
        self,
        query: ValidatedQuery,
        *,
        limits: QueryLimits | None = None,
        principal: str = "",
        ran: Callable[[int], None] = lambda _: None,
    ) -> Plan:
        """How the database would run `query`; it is not run. Turns, limits and errors as for `run`."""
        limits = limits or self._limits

        def plan(session: Session) -> PlanReader:
            return PlanReader(session.connection, query, limits, time.monotonic())

        return await self._read(plan, query, limits, principal, ran)

    async def _read(
        self,
        begin: Callable[[Session], Reading[T]],
        query: ValidatedQuery,
        limits: QueryLimits,
        principal: str,
        ran: Callable[[int], None],
    ) -> T:
        await self._throttle.wait(principal)
        asked = time.monotonic()
        try:
            await self._slots.acquire(limits.wait_s)
            session = await self._session(query, limits, asked + limits.wait_s)
        finally:
            self._waited(time.monotonic() - asked)
        while True:
            reading = begin(session)
            try:
                with span("statement"):
                    result = await reading.read()
            except SessionLost as lost:
                if not session.is_used:
                    self._close(session, reading, principal)
                    raise failure(lost.cause, query, 0) from None
                # It was ended while it was idle: by a restart, or by a bridge that waited for a connection.
                self._slots.end(session)
                session = await self._session(query, limits, asked + limits.wait_s)
            except BaseException:
                self._close(session, reading, principal)
                raise
            else:
                break
            finally:
                ran(reading.elapsed_ms)
                self._slots.took(reading.elapsed_ms / 1000)
        if reading.timed_out or not self._keeps_sessions or self._is_closed:
            self._close(session, reading, principal)
        elif reading.is_reset and self._may_keep(session):
            session.is_used = True
            self._kept.put(self, session, self._slots.end)
            self._slots.release()
        else:
            resetting = asyncio.create_task(self._reset(session))
            self._resets.add(resetting)
            resetting.add_done_callback(self._resets.discard)
        return result

    @asynccontextmanager
    async def stream(self, query: ValidatedQuery, limits: StreamLimits, principal: str) -> AsyncIterator[RowStream]:
        """All rows of `query`, for `principal`: they are read within the block, at whose end the statement is stopped on the
        server. One at a time for each tenant. Raises `QueryFailed`."""
        try:
            async with asyncio.timeout(limits.wait_s):
                await self._streams.acquire()
        except TimeoutError:
            raise busy("Another export of this tenant is being read.", 10) from None
        try:
            async with self._described(query, limits, principal) as rows:
                yield rows
        finally:
            self._streams.release()

    async def describe(self, query: ValidatedQuery, limits: StreamLimits, principal: str) -> list[StreamedColumn]:
        """The columns of `query`, which is parsed and not run. Raises `QueryFailed`."""
        async with self._described(query, limits, principal) as rows:
            return rows.columns

    @asynccontextmanager
    async def _described(self, query: ValidatedQuery, limits: StreamLimits, principal: str) -> AsyncIterator[RowStream]:
        await self._throttle.wait(principal)
        deadline = time.monotonic() + limits.wait_s
        await self._slots.acquire(limits.wait_s)
        session = await self._session(query, QueryLimits(timeout_s=limits.timeout_s), deadline)
        try:
            # The server's own time-outs do not end a backend that waits for its client to read.
            async with asyncio.timeout(limits.timeout_s), RowStream(session.connection, query, limits) as rows:
                yield rows
        except TimeoutError:
            raise not_read_in_time(limits.timeout_s) from None
        finally:
            self._slots.release_after(session, partial(self._throttle.record, principal, OUTLIVED))

    def give_up(self) -> None:
        """Leave a connection of the role to another bridge: an idle session now, or else the next one that is no longer used."""
        if not self._kept.drop_oldest(self):
            self._owes = True

    def close(self) -> None:
        """End the idle sessions, and from now on each one that is no longer used."""
        self._is_closed = True
        self._kept.drop_all(self)

    def _close(self, session: Session, reading: Reading[Any], principal: str) -> None:
        if reading.timed_out:
            self._throttle.record(principal, TIMED_OUT)
        self._slots.release_after(session, partial(self._throttle.record, principal, OUTLIVED))

    async def _reset(self, session: Session) -> None:
        """Make the session ready for the next call and release its slot; or close it."""
        try:
            is_clean = await session.reset()
            if is_clean and self._may_keep(session):
                self._kept.put(self, session, self._slots.end)
            else:
                owed, self._owes = self._owes, False
                await self._slots.end(session)
                await asyncio.sleep(_FREE_FOR_S if owed else 0)
        finally:
            self._slots.release()

    def _may_keep(self, session: Session) -> bool:
        """Whether the session can be used for the next call: no other bridge waits for it, and it is not too old."""
        is_old = asyncio.get_running_loop().time() - session.opened_s > _MAX_AGE_S
        return not (self._owes or is_old or self._is_closed)

    async def _session(self, query: ValidatedQuery, limits: QueryLimits, deadline: float) -> Session:
        """A kept session or a new one. Without one the slot is released."""
        try:
            return self._kept.take(self) or await self._connect_before(query, limits, deadline)
        except BaseException:
            self._slots.release()
            raise

    async def _connect_before(self, query: ValidatedQuery, limits: QueryLimits, deadline: float) -> Session:
        """A new session. While other sessions hold all connections of the role or the server, it retries until `deadline`."""
        pause_s = 0.05
        while True:
            try:
                return await asyncio.wait_for(
                    connect(self._login, self._search_path, limits.timeout_s), timeout=min(_CONNECT_S, limits.timeout_s)
                )
            except (psycopg.Error, TimeoutError) as error:
                if not is_full(error):
                    raise failure(error, query, 0) from None
            self._kept.drop_oldest()
            if self._want is not None:
                await self._want()
            if time.monotonic() + pause_s > deadline:
                raise busy("All connections that this tenant may have are taken, by other bridges too.", 10) from None
            await asyncio.sleep(pause_s * random.uniform(0.5, 1.0))  # noqa: S311 (spreads retries)
            pause_s = min(pause_s * 1.6, 0.5)
