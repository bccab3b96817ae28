"""Reads one page of a validated statement, within the limits of size and time.

The server gets the caller's text twice. First alone, as `DECLARE ... CURSOR FOR <text>` over the extended protocol: this accepts
exactly one statement, only a query, and returns columns and types. Then inside a SELECT that cuts each cell on the server, so
that no value of unbounded size is sent.
"""

import asyncio
import contextlib
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import psycopg
import psycopg.errors
from psycopg import AsyncConnection

from mcp_bridge.sql.execution.failures import failure, out_of_time
from mcp_bridge.sql.execution.results import Column, QueryLimits, QueryResult, Truncation
from mcp_bridge.sql.validation import ValidatedQuery
from mcp_bridge.sql.values import JsonValue, document, reader

# One FETCH puts at most this much into the client's memory.
_FETCH_BYTES = 4 * 1024 * 1024
_FETCH_ROWS = 200
_CANCEL_S = 2.0
_DECLARE = "DECLARE {} NO SCROLL CURSOR FOR "
_TRANSACTION_TIMEOUT_SINCE = 170000
_TIMEOUTS = (
    psycopg.errors.QueryCanceled,
    psycopg.errors.TransactionTimeout,
    psycopg.errors.IdleInTransactionSessionTimeout,
)


class _Shape(NamedTuple):
    columns: list[Column]
    expressions: list[str]
    readers: list[Callable[[str], JsonValue]]


class PageReader:
    """Reads one page of a statement over a connection. `timed_out`: the statement had to be stopped."""

    def __init__(
        self,
        connection: AsyncConnection[Any],
        query: ValidatedQuery,
        offset: int,
        limits: QueryLimits,
        started: float,
    ) -> None:
        self._connection = connection
        self._query = query
        self._text = query.text
        self.timed_out = False
        self._offset = offset
        self._limits = limits
        self._started = started
        self._shape: _Shape | None = None
        self._rows: list[list[JsonValue]] = []
        self._cells_truncated = 0
        self._bytes = 0
        self._shift = 0  # characters that precede the caller's text in what the server reads

    async def read(self) -> QueryResult:
        """Read within the time limit. The work is a separate task, so that a cancelled caller can still stop the
        server first.
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
            return self._result_at_timeout()
        try:
            truncated = work.result()
        except _TIMEOUTS:
            return self._result_at_timeout()
        except (psycopg.Error, UnicodeError) as error:
            raise failure(error, self._query, self._shift) from None
        return self._result(truncated)

    async def _stop(self, work: asyncio.Task[Truncation | None]) -> None:
        """Ask the server to cancel; if the statement does not end, close the connection, which the server notices
        within a second.
        """
        with contextlib.suppress(psycopg.Error, OSError):
            await self._connection.cancel_safe(timeout=_CANCEL_S)
        await asyncio.wait({work}, timeout=_CANCEL_S)
        if not work.done():
            self._connection.pgconn.finish()
            work.cancel()
        await asyncio.wait({work}, timeout=_CANCEL_S)
        if work.done() and not work.cancelled():
            work.exception()  # marks it as retrieved: the caller gets the cancel or the timeout, not this error

    async def _read(self) -> Truncation | None:
        cursor = self._connection.cursor()
        if self._connection.info.server_version >= _TRANSACTION_TIMEOUT_SINCE:
            await cursor.execute(f"SET LOCAL transaction_timeout = {int(self._limits.timeout_s * 1000) + 2000}")
        declare = _DECLARE.format("plain")
        self._shift = len(declare)
        await cursor.execute((declare + self._text).encode(), prepare=True)
        self._shape = shape = await self._describe(cursor)
        await cursor.execute("CLOSE plain")
        head, tail = _capped(shape.expressions, self._limits)
        declare = _DECLARE.format("capped") + head
        self._shift = len(declare)
        await cursor.execute((declare + self._text + tail).encode(), prepare=True)
        if self._offset:
            await cursor.execute(f"MOVE FORWARD {int(self._offset)} FROM capped")
        return await self._fetch(cursor, shape)

    async def _describe(self, cursor: psycopg.AsyncCursor[Any]) -> _Shape:
        await cursor.execute("FETCH 0 FROM plain")
        described = cursor.description or []
        known = [self._connection.adapters.types.get(column.type_code) for column in described]
        own = [] if all(known) else await self._own_type_names(cursor, len(described))
        columns, expressions, readers = [], [], []
        for number, (column, info) in enumerate(zip(described, known, strict=True), start=1):
            scalar = info is not None and info.oid == column.type_code and info.name != "record"
            columns.append(Column(column.name, column.type_display if info is not None else own[number - 1]))
            expressions.append(f"concat(c{number})" if scalar else f"to_json(c{number})::text")
            readers.append(reader(info.name) if info is not None and scalar else document)
        return _Shape(columns, expressions, readers)

    async def _own_type_names(self, cursor: psycopg.AsyncCursor[Any], width: int) -> list[str]:
        """The columns' types when some are not built in (the tenant's enums, row types). The statement is planned for
        this, not run.
        """
        names = ",".join(f"pg_typeof(c{number})::text" for number in range(1, width + 1))
        aliases = ",".join(f"c{number}" for number in range(1, width + 1))
        asked = f"SELECT {names} FROM (VALUES (1)) AS one LEFT JOIN (\n{self._text}\n) AS q({aliases}) ON false"  # noqa: S608 (validated text, names of our own)
        await cursor.execute(asked.encode(), prepare=True)
        row = await cursor.fetchone()
        return [str(name).rpartition(".")[2] for name in row or ()]

    async def _fetch(self, cursor: psycopg.AsyncCursor[Any], shape: _Shape) -> Truncation | None:
        row_bytes = max(len(shape.columns) * _cell_cap(len(shape.columns), self._limits), 1)
        largest = min(max(_FETCH_BYTES // row_bytes, 1), _FETCH_ROWS)
        batch = 4
        while True:
            # The first batch is small, so that a slow statement has some rows when its time is over.
            batch = min(2 * batch, largest)
            wanted = min(batch, self._limits.max_rows + 1 - len(self._rows))
            await cursor.execute(f"FETCH FORWARD {wanted} FROM capped")
            raw_rows = await cursor.fetchall() if shape.columns else [()] * cursor.rowcount
            for raw in raw_rows:
                if len(self._rows) == self._limits.max_rows:
                    return "rows"
                size = sum(len(cell.encode()) for cell in raw if cell is not None) + 3 * len(raw)
                if self._rows and self._bytes + size > self._limits.max_bytes:
                    return "bytes"
                self._bytes += size
                self._rows.append([self._cell(cell, read) for cell, read in zip(raw, shape.readers, strict=True)])
            if len(raw_rows) < wanted:
                return None

    def _cell(self, cell: str | None, read: Callable[[str], JsonValue]) -> JsonValue:
        """Read a cell as `_capped` sends it: `=<value>`, or `<size in bytes>:<preview>` if it is too large."""
        if cell is None:
            return None
        if cell[0] == "=":
            return read(cell[1:])
        size_bytes, _, preview = cell.partition(":")
        self._cells_truncated += 1
        return f"{preview}... [cut: the value has {int(size_bytes):,} bytes]"

    def _result_at_timeout(self) -> QueryResult:
        self.timed_out = True
        if not self._rows:
            raise out_of_time(self._limits.timeout_s) from None
        return self._result("time")

    def _result(self, truncated: Truncation | None) -> QueryResult:
        return QueryResult(
            columns=self._shape.columns if self._shape else [],
            rows=self._rows,
            row_count=len(self._rows),
            truncated=truncated,
            cells_truncated=self._cells_truncated,
            elapsed_ms=int((time.monotonic() - self._started) * 1000),
            offset=self._offset,
        )


def _cell_cap(columns: int, limits: QueryLimits) -> int:
    """The byte limit of a cell, so that a row with this many columns stays below `max_bytes`."""
    return max(min(limits.max_cell_bytes, limits.max_bytes // max(columns, 1)), 64)


def _capped(expressions: list[str], limits: QueryLimits) -> tuple[str, str]:
    """The text before and after the caller's text in the statement that cuts cells.

    `concat` gives a value's own output form where a cast to text would not (`char(n)` keeps its blanks, `inet` its
    missing mask). `IS DISTINCT FROM NULL` tells a row of nulls from null. OFFSET 0 stops the planner from computing an
    expression twice. The newline ends a comment.
    """
    cap = _cell_cap(len(expressions), limits)
    preview = min(limits.preview_chars, cap // 4)
    numbers = range(1, len(expressions) + 1)
    outer = ",".join(
        f"CASE WHEN octet_length(t{n})<={cap} THEN '='||t{n} ELSE octet_length(t{n})||':'||left(t{n},{preview}) END"
        for n in numbers
    )
    inner = ",".join(
        f"CASE WHEN c{n} IS DISTINCT FROM NULL THEN {expression} END AS t{n}"
        for n, expression in zip(numbers, expressions, strict=True)
    )
    aliases = f"({','.join(f'c{n}' for n in numbers)})" if expressions else ""
    return f"SELECT {outer} FROM (SELECT {inner} FROM (\n", f"\n) AS q{aliases} OFFSET 0) AS r"  # noqa: S608 (validated text goes between)
