"""Reads one page of a validated statement, within the limits of size and time.

The server gets the caller's text twice. First alone, over the extended protocol and only to be parsed: this accepts exactly one
statement, whole by itself, and returns columns and types. Then inside a SELECT that cuts each cell on the server, so that no
value of unbounded size is sent; a cursor takes only a query. Each time all statements go together: two round trips for a small
page, and one for a statement whose columns are known, as of a next page. If its rows came in one trip the last time, the reset of
the session goes along, so that the session is free with the page.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import psycopg
from psycopg import AsyncConnection
from psycopg.pq import TransactionStatus
from psycopg.pq.abc import PGresult

from explorer.postgres.pipelined import FLUSH, pipelined
from mcp_bridge.sql.execution.cells import capped
from mcp_bridge.sql.execution.reading import TIMEOUTS, Reading
from mcp_bridge.sql.execution.results import Column, QueryLimits, QueryResult, Truncation
from mcp_bridge.sql.execution.session import RESET
from mcp_bridge.sql.validation import ValidatedQuery
from mcp_bridge.sql.values import JsonValue, document, reader

# One FETCH puts at most this much into the client's memory; the first two go together.
_FETCH_BYTES = 4 * 1024 * 1024
_FETCH_ROWS = 200
_FIRST_ROWS = 8
_CAPPED = "DECLARE capped NO SCROLL CURSOR FOR "
# Statements whose columns are remembered.
_SHAPES = 200


class _Shape(NamedTuple):
    """The columns of a statement's rows, and how they are read. `signature`: as the server describes them; `short_page`: the
    page, by its place and limits, that ended with the first batches the last time."""

    columns: list[Column]
    expressions: list[str]
    readers: list[Callable[[str], JsonValue]]
    signature: list[tuple[bytes, int, int]]
    short_page: tuple[int, ...] = ()

    def is_of(self, described: PGresult) -> bool:
        """Whether these are the columns of the described result."""
        return self.signature == _signature(described)


class Shapes:
    """The columns of the statements that were read lately, by text. They are held against the server's description each time."""

    def __init__(self) -> None:
        self._known: dict[str, _Shape] = {}

    def get(self, text: str) -> _Shape | None:
        return self._known.get(text)

    def remember(self, text: str, shape: _Shape) -> None:
        if len(self._known) >= _SHAPES:
            self.forget(next(iter(self._known)))
        self._known[text] = shape

    def forget(self, text: str) -> None:
        self._known.pop(text, None)


class PageReader(Reading[QueryResult]):
    """Reads one page of a statement over a connection."""

    def __init__(
        self,
        connection: AsyncConnection[Any],
        query: ValidatedQuery,
        offset: int,
        limits: QueryLimits,
        started: float,
        shapes: Shapes,
    ) -> None:
        super().__init__(connection, query, limits, started)
        self._offset = offset
        self._page = (offset, limits.max_rows, limits.max_bytes)
        self._shapes = shapes
        self._shape: _Shape | None = None
        self._rows: list[list[JsonValue]] = []
        self._cells_truncated = 0
        self._bytes = 0

    @property
    def _has_something(self) -> bool:
        return bool(self._rows)

    async def _read(self) -> QueryResult:
        return self._result(await self._read_rows())

    async def _read_rows(self) -> Truncation | None:
        shape, fetched = await self._read_again() or await self._read_first()
        batches = self._first_batches(shape)
        ends, truncated = self._take_all(fetched, batches, shape)
        if ends and shape.short_page != self._page:
            self._shapes.remember(self._text, shape._replace(short_page=self._page))
        if self.is_reset and not ends:
            # There are more rows than the last time, and the cursor is gone.
            self.is_reset = False
            self._forget()
            shape, fetched = await self._read_first()
            batches = self._first_batches(shape)
            ends, truncated = self._take_all(fetched, batches, shape)
        while not ends:
            batches = [self._next_batch(shape, batches[-1], len(self._rows))]
            fetched = await pipelined(self._connection, [_fetch(batches[0])])
            ends, truncated = self._take_all(fetched, batches, shape)
        return truncated

    def _take_all(self, fetched: list[PGresult], batches: list[int], shape: _Shape) -> tuple[bool, Truncation | None]:
        """Add the rows of batches to the page: whether it ends with them, and the limit that ended it."""
        for rows, batch in zip(fetched, batches, strict=True):
            truncated = self._take(rows, shape)
            if truncated is not None or rows.ntuples < batch:
                return True, truncated
        return False, None

    def _forget(self) -> None:
        """Begin again, without what is known of the statement."""
        self._shapes.forget(self._text)
        self._rows, self._bytes, self._cells_truncated = [], 0, 0

    async def _read_again(self) -> tuple[_Shape, list[PGresult]] | None:
        """Read a statement whose columns are known in one round trip; None when they are not known, or no longer true."""
        known = self._shapes.get(self._text)
        if known is None:
            return None
        self._shape = known
        try:
            fetched = await self._fetch_first(self._declaring(), known)
        except (psycopg.OperationalError, *TIMEOUTS):
            raise
        except psycopg.Error:
            fetched = None
        if fetched is not None:
            return known, fetched
        # The statement fails, or a table has changed.
        self.is_reset = False
        self._forget()
        await pipelined(self._connection, [b"ROLLBACK"])
        return None

    async def _read_first(self) -> tuple[_Shape, list[PGresult]]:
        self._shift = 0
        *_, described = await pipelined(self._connection, self._declaring())
        self._shape = shape = await self._shape_of(described)
        head, _ = self._cut_on_the_server(shape)
        self._shift = len(_CAPPED) + len(head)
        fetched = await self._fetch_first([], shape)
        # Not of a statement that fails: it would be run twice each time.
        self._shapes.remember(self._text, shape)
        return shape, fetched or []

    async def _fetch_first(self, declaring: list[bytes], shape: _Shape) -> list[PGresult] | None:
        """The first batches of rows, in one round trip with `declaring`; None when that told other columns than `shape`. The
        server sends a batch as soon as it is there, and rows that came before an error are taken.
        """
        opening = [*declaring, *self._opening(shape)]
        batches = self._first_batches(shape)
        fetching = [part for batch in batches for part in (_fetch(batch), FLUSH)][:-1]
        end = len(opening) + len(batches)
        resetting = RESET if shape.short_page == self._page else ()
        results: list[PGresult] = []

        def is_told() -> bool:
            return not declaring or shape.is_of(results[len(declaring) - 1])

        try:
            await pipelined(self._connection, [*opening, *fetching, *resetting], into=results)
        except psycopg.Error:
            if len(results) > len(opening) and is_told():
                self._take(results[len(opening)], shape)
            raise
        idle = self._connection.info.transaction_status is TransactionStatus.IDLE
        self.is_reset = bool(resetting) and idle
        return results[len(opening) : end] if is_told() else None

    def _opening(self, shape: _Shape) -> list[bytes]:
        """Statements after which the page's first row is the next."""
        head, tail = self._cut_on_the_server(shape)
        statements = [(_CAPPED + head + self._text + tail).encode()]
        return [*statements, b"MOVE FORWARD %d FROM capped" % self._offset] if self._offset else statements

    def _cut_on_the_server(self, shape: _Shape) -> tuple[str, str]:
        cap = _cell_cap(len(shape.expressions), self._limits)
        return capped(shape.expressions, cap, min(self._limits.preview_chars, cap // 4))

    async def _shape_of(self, described: PGresult) -> _Shape:
        types = [self._connection.adapters.types.get(oid) for _, oid, _ in _signature(described)]
        own = [] if all(types) else await self._own_type_names(described.nfields)
        columns, expressions, readers = [], [], []
        for number, (name, oid, modifier) in enumerate(_signature(described)):
            info = types[number]
            scalar = info is not None and info.oid == oid and info.name != "record"
            columns.append(Column(name.decode(), own[number] if info is None else info.get_type_display(oid, modifier)))
            expressions.append(f"concat(c{number + 1})" if scalar else f"to_json(c{number + 1})::text")
            readers.append(reader(info.name) if info is not None and scalar else document)
        return _Shape(columns, expressions, readers, _signature(described))

    async def _own_type_names(self, width: int) -> list[str]:
        """The columns' types when some are not built in (the tenant's enums, row types). The statement is planned for
        this, not run.
        """
        names = ",".join(f"pg_typeof(c{number})::text" for number in range(1, width + 1))
        aliases = ",".join(f"c{number}" for number in range(1, width + 1))
        asked = f"SELECT {names} FROM (VALUES (1)) AS one LEFT JOIN (\n{self._text}\n) AS q({aliases}) ON false"  # noqa: S608 (validated text, names of our own)
        (named,) = await pipelined(self._connection, [asked.encode()])
        return [(named.get_value(0, number) or b"").decode().rpartition(".")[2] for number in range(width)]

    def _first_batches(self, shape: _Shape) -> list[int]:
        """How many rows to fetch at first. The first batch is small, so that a slow statement has some rows when its time is
        over."""
        first = self._next_batch(shape, 0, 0)
        second = self._next_batch(shape, first, first)
        return [first, second] if second > 0 else [first]

    def _next_batch(self, shape: _Shape, last: int, rows: int) -> int:
        """How many rows to fetch after a batch of `last`, when there are `rows`."""
        row_bytes = max(len(shape.columns) * _cell_cap(len(shape.columns), self._limits), 1)
        largest = min(max(_FETCH_BYTES // row_bytes, 1), _FETCH_ROWS)
        return min(4 * last or _FIRST_ROWS, largest, self._limits.max_rows + 1 - rows)

    def _take(self, fetched: PGresult, shape: _Shape) -> Truncation | None:
        """Add the rows to the page; the limit that ends it, if one does."""
        width = range(fetched.nfields)
        for number in range(fetched.ntuples):
            if len(self._rows) == self._limits.max_rows:
                return "rows"
            cells = [fetched.get_value(number, column) for column in width]
            size = sum(len(cell) for cell in cells if cell is not None) + 3 * len(cells)
            if self._rows and self._bytes + size > self._limits.max_bytes:
                return "bytes"
            self._bytes += size
            self._rows.append([self._cell(cell, read) for cell, read in zip(cells, shape.readers, strict=True)])
        return None

    def _cell(self, cell: bytes | None, read: Callable[[str], JsonValue]) -> JsonValue:
        """Read a cell as `capped` sends it: `=<value>`, or `<size in bytes>:<preview>` if it is too large."""
        if cell is None:
            return None
        text = cell.decode()
        if text[0] == "=":
            return read(text[1:])
        size_bytes, _, preview = text.partition(":")
        self._cells_truncated += 1
        return f"{preview}... [cut: the value has {int(size_bytes):,} bytes]"

    def _at_timeout(self) -> QueryResult:
        return self._result("time") if self._rows else super()._at_timeout()

    def _result(self, truncated: Truncation | None) -> QueryResult:
        return QueryResult(
            columns=self._shape.columns if self._shape else [],
            rows=self._rows,
            row_count=len(self._rows),
            truncated=truncated,
            cells_truncated=self._cells_truncated,
            elapsed_ms=self.elapsed_ms,
            offset=self._offset,
        )


def _fetch(rows: int) -> bytes:
    return b"FETCH FORWARD %d FROM capped" % rows


def _signature(described: PGresult) -> list[tuple[bytes, int, int]]:
    """Name, type and type modifier of each column."""
    return [(described.fname(n) or b"", described.ftype(n), described.fmod(n)) for n in range(described.nfields)]


def _cell_cap(columns: int, limits: QueryLimits) -> int:
    """The byte limit of a cell, so that a row with this many columns stays below `max_bytes`."""
    return max(min(limits.max_cell_bytes, limits.max_bytes // max(columns, 1)), 64)
