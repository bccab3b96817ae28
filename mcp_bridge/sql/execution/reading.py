"""What all readings of a statement share: they end at the time limit, and nothing runs on when their caller is gone."""

import asyncio
import contextlib
import time
from abc import ABC, abstractmethod
from typing import Any, Generic, TypeVar

import psycopg
import psycopg.errors
from psycopg import AsyncConnection

from explorer.postgres.pipelined import Described
from mcp_bridge.sql.execution.failures import failure, out_of_time
from mcp_bridge.sql.execution.results import QueryLimits
from mcp_bridge.sql.validation import ValidatedQuery

T = TypeVar("T")

_CANCEL_S = 2.0
_TRANSACTION_TIMEOUT_SINCE = 170000
TIMEOUTS = (
    psycopg.errors.QueryCanceled,
    psycopg.errors.TransactionTimeout,
    psycopg.errors.IdleInTransactionSessionTimeout,
)
_SESSION_ENDS = (psycopg.errors.AdminShutdown, psycopg.errors.CrashShutdown, psycopg.errors.IdleSessionTimeout)


class SessionLost(Exception):
    """The server ended the session before the statement gave anything. `cause`: psycopg's error."""

    def __init__(self, cause: psycopg.Error) -> None:
        super().__init__(str(cause))
        self.cause = cause


class Reading(ABC, Generic[T]):
    """Reads something of a statement over a connection. `timed_out`: the statement had to be stopped; `is_reset`: the session was
    reset together with what was read."""

    def __init__(
        self, connection: AsyncConnection[Any], query: ValidatedQuery, limits: QueryLimits, started: float
    ) -> None:
        self._connection = connection
        self._query = query
        self._text = query.whole
        self._limits = limits
        self._started = started
        self._shift = 0  # characters that precede the caller's text in what the server reads
        self.timed_out = self.is_reset = False

    @property
    def elapsed_ms(self) -> int:
        """Milliseconds since the statement was sent."""
        return int((time.monotonic() - self._started) * 1000)

    async def read(self) -> T:
        """Read within the time limit. The work is a separate task, so that a cancelled caller can still stop the
        server first. Raises `QueryFailed`, `SessionLost`.
        """
        work = asyncio.create_task(self._read())
        remaining = max(self._started + self._limits.timeout_s - time.monotonic(), 0.001)
        try:
            done, _ = await asyncio.wait({work}, timeout=remaining)
        except asyncio.CancelledError:
            await asyncio.shield(self._stop(work))
            raise
        if not done:
            await self._stop(work)
            return self._stopped()
        try:
            return work.result()
        except TIMEOUTS:
            return self._stopped()
        except psycopg.OperationalError as error:
            if (self._connection.closed or isinstance(error, _SESSION_ENDS)) and not self._has_something:
                raise SessionLost(error) from None
            raise failure(error, self._query, self._shift) from None
        except (psycopg.Error, UnicodeError) as error:
            raise failure(error, self._query, self._shift) from None

    @property
    def _has_something(self) -> bool:
        """Whether a part of the result is there already."""
        return False

    @abstractmethod
    async def _read(self) -> T: ...

    def _at_timeout(self) -> T:
        """What there is when the time is over. Raises: QueryFailed."""
        raise out_of_time(self._limits.timeout_s) from None

    def _stopped(self) -> T:
        self.timed_out = True
        return self._at_timeout()

    async def _stop(self, work: asyncio.Task[T]) -> None:
        """Ask the server to cancel. If the statement does not end, wait for it no longer: its connection is closed next, which
        the server notices within a second. The socket stays open for reading, because its end tells that the backend is gone.
        """
        with contextlib.suppress(psycopg.Error, OSError):
            await self._connection.cancel_safe(timeout=_CANCEL_S)
        await asyncio.wait({work}, timeout=_CANCEL_S)
        if not work.done():
            work.cancel()
            await asyncio.wait({work})
        if work.done() and not work.cancelled():
            work.exception()  # marks it as retrieved: the caller gets the cancel or the timeout, not this error

    def _declaring(self) -> list[bytes]:
        """Statements that begin the transaction and tell the columns."""
        timeout_ms = max(int(self._limits.timeout_s * 1000), 1)
        statements = [
            b"BEGIN ISOLATION LEVEL READ COMMITTED READ ONLY",
            b"SET LOCAL statement_timeout = %d" % timeout_ms,
            Described(self._text.encode()),
        ]
        if self._connection.info.server_version >= _TRANSACTION_TIMEOUT_SINCE:
            statements.insert(2, b"SET LOCAL transaction_timeout = %d" % (timeout_ms + 2000))
        return statements
