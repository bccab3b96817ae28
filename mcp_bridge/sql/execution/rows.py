"""Reads all rows of a validated statement, however many there are, with memory for one batch.

The server gets the caller's text twice, as for a page: alone, to be parsed and described, and inside a SELECT that sends each
cell as text. A cell that is too large ends the result with an error, because a cut one would be another value.
"""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any, Self

import psycopg
import psycopg.errors
from psycopg import AsyncConnection

from explorer.postgres.pipelined import Described, pipelined
from mcp_bridge.sql.errors import QueryFailed
from mcp_bridge.sql.execution.cells import capped
from mcp_bridge.sql.execution.failures import failure
from mcp_bridge.sql.execution.streamed import streamed
from mcp_bridge.sql.validation import ValidatedQuery

_CANCEL_S = 2.0
_PREVIEW_CHARS = 20
_TRANSACTION_TIMEOUT_SINCE = 170000
_TIMEOUTS = (psycopg.errors.QueryCanceled, psycopg.errors.TransactionTimeout)


@dataclass(frozen=True, slots=True)
class StreamLimits:
    """Limits of a whole result. `timeout_s`: from the statement's start to its last row, the reader's time included; `wait_s`:
    until its turn comes; `batch_bytes`: of rows that are held at a time."""

    timeout_s: float
    wait_s: float = 20.0
    max_cell_bytes: int = 1_000_000
    batch_bytes: int = 512 * 1024


@dataclass(frozen=True, slots=True)
class StreamedColumn:
    """A column of the result. `type`: as PostgreSQL displays it; `base`: PostgreSQL's internal name of the type, of the elements
    for an array; `modifier`: the type's own (precision, scale), -1 without. Values of arrays and of types that are not built in
    (`base` is empty) come as JSON."""

    name: str
    type: str
    base: str
    modifier: int
    is_array: bool


class RowStream:
    """The rows of one statement over one connection. `ran_ms`: how long it has run."""

    def __init__(self, connection: AsyncConnection[Any], query: ValidatedQuery, limits: StreamLimits) -> None:
        self._connection, self._query, self._limits = connection, query, limits
        self._started = time.monotonic()
        self._under_way = False
        self.columns: list[StreamedColumn] = []

    @property
    def ran_ms(self) -> int:
        """Milliseconds since the statement was sent."""
        return int((time.monotonic() - self._started) * 1000)

    async def __aenter__(self) -> Self:
        """Parse the statement on the server: `columns` are known afterwards. Raises `QueryFailed`."""
        timeout_ms = max(int(self._limits.timeout_s * 1000), 1)
        statements = [
            b"BEGIN ISOLATION LEVEL READ COMMITTED READ ONLY",
            b"SET LOCAL statement_timeout = %d" % timeout_ms,
            Described(self._query.text.encode()),
        ]
        if self._connection.info.server_version >= _TRANSACTION_TIMEOUT_SINCE:
            statements.insert(2, b"SET LOCAL transaction_timeout = %d" % (timeout_ms + 2000))
        try:
            *_, described = await pipelined(self._connection, statements)
        except (psycopg.Error, UnicodeError) as error:
            raise failure(error, self._query, 0) from None
        self.columns = [
            self._column((described.fname(n) or b"").decode(), described.ftype(n), described.fmod(n))
            for n in range(described.nfields)
        ]
        return self

    async def __aexit__(self, *_: object) -> None:
        """Stop the statement, if it still runs."""
        if self._under_way:
            with contextlib.suppress(psycopg.Error, OSError):
                await asyncio.shield(self._connection.cancel_safe(timeout=_CANCEL_S))

    async def batches(self) -> AsyncIterator[list[tuple[str | None, ...]]]:
        """The rows, as PostgreSQL writes their values. Raises `QueryFailed`, also after some rows."""
        expressions = [
            f"concat(c{n})" if column.base and not column.is_array else f"to_json(c{n})::text"
            for n, column in enumerate(self.columns, 1)
        ]
        head, tail = capped(expressions, self._limits.max_cell_bytes, _PREVIEW_CHARS)
        text = (head + self._query.text + tail).encode()
        self._under_way = True
        try:
            async for batch in streamed(self._connection, text, self._limits.batch_bytes):
                yield [tuple(None if cell is None else self._value(cell) for cell in row) for row in batch]
        except _TIMEOUTS:
            raise not_read_in_time(self._limits.timeout_s) from None
        except (psycopg.Error, UnicodeError) as error:
            raise failure(error, self._query, len(head)) from None
        self._under_way = False

    def _column(self, name: str, oid: int, modifier: int) -> StreamedColumn:
        info = self._connection.adapters.types.get(oid)
        if info is None:
            return StreamedColumn(name, "json", "", -1, is_array=False)
        is_array = info.oid != oid
        base = "" if info.name == "record" else info.name
        return StreamedColumn(name, info.get_type_display(oid, modifier), base, modifier, is_array)

    def _value(self, cell: bytes) -> str:
        text = cell.decode()
        if text[0] == "=":
            return text[1:]
        raise QueryFailed(
            "cell_too_large",
            f"A value has {int(text.partition(':')[0]):,} bytes; an export takes values of up to "
            f"{self._limits.max_cell_bytes:,}.",
            next_step="Select a part of the value, or leave the column out.",
            details={"max_cell_bytes": self._limits.max_cell_bytes},
        )


def not_read_in_time(timeout_s: float) -> QueryFailed:
    """The error of a result that took too long: in the database, or because whoever reads it is slow."""
    return QueryFailed(
        "timeout",
        f"The result was not read to its end within {timeout_s:g} s.",
        next_step="Export fewer rows or columns at a time, by a WHERE on a date or key; an operator exports whole tables with "
        "`explorer export`.",
        details={"timeout_s": timeout_s},
    )
