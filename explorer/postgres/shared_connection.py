"""One connection for the short statements of all tasks of an event loop: what they ask in the same moment shares a round trip.

Statements are prepared once, go out together by libpq's pipeline mode (`psycopg.pq`), and each gives one text: JSON, which
msgspec reads in one step. A statement costs a tenth of what it costs through a pool and a cursor.

A lost connection is opened again by the next who asks, so the first call after an outage is served.
"""

import asyncio
from collections import deque
from collections.abc import Callable, Iterable
from typing import Any

import psycopg
from psycopg import sql
from psycopg.errors import error_from_result
from psycopg.pq import ExecStatus
from psycopg.pq.abc import PGresult

from explorer.postgres.connections import Login

AsyncConnection = psycopg.AsyncConnection[tuple[Any, ...]]
Answer = asyncio.Future[bytes | None]


class SharedConnection:
    """A connection in autocommit mode: what is asked in the same moment is one transaction. `within_s`: the most that one
    waits."""

    def __init__(
        self,
        login: Login,
        *,
        application_name: str,
        within_s: float,
        channel: str | None = None,
        on_notice: Callable[[str], None] = lambda _: None,
    ) -> None:
        """`on_notice` is called with what is notified on `channel` while the connection is open."""
        self._login, self._name, self._within_s = login, application_name, within_s
        self._channel, self._on_notice = channel, on_notice
        self._line: _Line | None = None
        self._opening: asyncio.Task[_Line] | None = None

    async def ask(self, statement: bytes, *values: bytes | None) -> bytes | None:
        """The first value of the first row, as text; None where it is null or there is no row. `values`: the statement's `$1`
        and so on, as text.

        Raises:
            psycopg.Error: the statement failed, or another one of the same moment did.
            TimeoutError: there was no answer in time.
        """
        try:
            async with asyncio.timeout(self._within_s):
                line = self._line
                if line is None or line.is_lost:
                    line = await self._opened()
                return await line.ask(statement, values)
        except TimeoutError:
            # Whatever is asked next would wait behind this.
            self.close()
            raise

    def close(self) -> None:
        """Close the connection; who waits for it gets psycopg.OperationalError."""
        if self._line is not None:
            self._line.close()
            self._line = None

    async def _opened(self) -> "_Line":
        """A new line, the same one for all who wait for it."""
        if self._opening is None:
            self._opening = asyncio.create_task(self._open())
            self._opening.add_done_callback(self._forget_opening)
        return await asyncio.shield(self._opening)

    def _forget_opening(self, opening: "asyncio.Task[_Line]") -> None:
        self._opening = None
        if not opening.cancelled():
            opening.exception()  # marks it as retrieved: those who waited have it

    async def _open(self) -> "_Line":
        own = self._login.options.get("options", "")
        milliseconds = int(self._within_s * 1000)
        # Every statement finds its rows by a key: there is nothing to plan anew for other values.
        limits = (
            f"-c statement_timeout={milliseconds} -c lock_timeout={milliseconds} -c timezone=UTC"
            " -c plan_cache_mode=force_generic_plan"
        )
        async with asyncio.timeout(self._within_s):
            connection = await psycopg.AsyncConnection.connect(
                **self._login.conninfo() | {"application_name": self._name, "options": f"{own} {limits}".strip()},
                autocommit=True,
            )
            try:
                if self._channel is not None:
                    await connection.execute(sql.SQL("LISTEN {}").format(sql.Identifier(self._channel)))
            except BaseException:
                # psycopg waits for nothing when it closes.
                await connection.close()
                raise
        self._line = _Line(connection, self._on_notice)
        return self._line


class _Line:
    """An open connection in pipeline mode."""

    def __init__(self, connection: AsyncConnection, on_notice: Callable[[str], None]) -> None:
        # psycopg closes a connection that nobody holds.
        self._connection, self._pgconn, self._on_notice = connection, connection.pgconn, on_notice
        self._socket = self._pgconn.socket
        self._loop = asyncio.get_running_loop()
        self._prepared: dict[bytes, bytes] = {}
        self._next: list[tuple[bytes, tuple[bytes | None, ...], Answer]] = []
        # Those who wait, in the order of the results; None: for a statement to be prepared.
        self._waiting: deque[Answer | None] = deque()
        self._syncs = 0
        self.is_lost = False
        self._pgconn.enter_pipeline_mode()
        self._loop.add_reader(self._socket, self._read)

    def ask(self, statement: bytes, values: tuple[bytes | None, ...]) -> Answer:
        if not self._next:
            self._loop.call_soon(self._send)
        answer: Answer = self._loop.create_future()
        self._next.append((statement, values, answer))
        return answer

    def close(self) -> None:
        self._lose(psycopg.OperationalError("the connection was closed"))

    def _send(self) -> None:
        asked, self._next = self._next, []
        try:
            if self.is_lost:
                raise psycopg.OperationalError("the connection is lost")
            for statement, values, answer in asked:
                name = self._prepared.get(statement)
                if name is None:
                    name = self._prepared[statement] = b"asked_%d" % len(self._prepared)
                    self._pgconn.send_prepare(name, statement)
                    self._waiting.append(None)
                self._pgconn.send_query_prepared(name, values)
                self._waiting.append(answer)
            self._pgconn.pipeline_sync()
            self._syncs += 1
            self._flush()
        except psycopg.Error as error:
            self._lose(error)
            _fail((answer for _, _, answer in asked), error)

    def _flush(self) -> None:
        """Send what did not fit into the socket's buffer when it has room."""
        if self._pgconn.flush():
            self._loop.add_writer(self._socket, self._flush)
        else:
            self._loop.remove_writer(self._socket)

    def _read(self) -> None:
        try:
            self._pgconn.consume_input()
            while self._syncs and not self._pgconn.is_busy():
                result = self._pgconn.get_result()
                if result is None:
                    continue
                if result.status == ExecStatus.PIPELINE_SYNC:
                    self._syncs -= 1
                else:
                    self._give(result)
            while notice := self._pgconn.notifies():
                self._on_notice(notice.extra.decode())
        except psycopg.Error as error:
            self._lose(error)

    def _give(self, result: PGresult) -> None:
        """Give the result to the first who waits. Raises the error of a statement that could not be prepared."""
        answer = self._waiting.popleft()
        error: psycopg.Error | None = None
        if result.status == ExecStatus.FATAL_ERROR:
            error = error_from_result(result)
        elif result.status == ExecStatus.PIPELINE_ABORTED:
            error = psycopg.OperationalError("another statement of the same moment failed")
        if answer is None and error is not None:
            raise error
        if answer is None or answer.done():
            return  # a statement was prepared, or the task was cancelled
        if error is not None:
            answer.set_exception(error)
        else:
            answer.set_result(result.get_value(0, 0) if result.ntuples else None)

    def _lose(self, error: psycopg.Error) -> None:
        if self.is_lost:
            return
        self.is_lost = True
        self._loop.remove_reader(self._socket)
        self._loop.remove_writer(self._socket)
        self._pgconn.finish()
        _fail(self._waiting, error)


def _fail(answers: Iterable[Answer | None], error: psycopg.Error) -> None:
    for answer in answers:
        if answer is not None and not answer.done():
            answer.set_exception(error)
