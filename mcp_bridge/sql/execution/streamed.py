"""The rows of one statement as the server makes them: neither side holds the whole result.

libpq's single-row mode through `psycopg.pq`. The server waits while nobody reads, because the socket is full then.
"""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import psycopg
from psycopg import AsyncConnection
from psycopg.errors import error_from_result
from psycopg.pq import ExecStatus

Row = tuple[bytes | None, ...]


async def streamed(connection: AsyncConnection[Any], statement: bytes, batch_bytes: int) -> AsyncIterator[list[Row]]:
    """The rows in batches, as text of the server. A batch ends with the row that reaches `batch_bytes`, so that it takes no more
    than that and one row. Whoever does not read to the end can only close the connection.

    Raises:
        psycopg.Error: also after some rows.
    """
    pgconn = connection.pgconn
    pgconn.send_query_params(statement, None)
    pgconn.set_single_row_mode()
    loop, readable = asyncio.get_running_loop(), asyncio.Event()
    socket = pgconn.socket
    batch: list[Row] = []
    size = 0

    async def more() -> None:
        """Wait for the server, with an eye on the socket only meanwhile: it is readable while nobody reads."""
        readable.clear()
        loop.add_reader(socket, readable.set)
        try:
            await readable.wait()
        finally:
            loop.remove_reader(socket)

    while pgconn.flush():
        await more()
        pgconn.consume_input()
    while True:
        while pgconn.is_busy():
            await more()
            pgconn.consume_input()
        result = pgconn.get_result()
        if result is None:
            break
        if result.status == ExecStatus.SINGLE_TUPLE:
            row = tuple(result.get_value(0, column) for column in range(result.nfields))
            batch.append(row)
            # The cells' own memory counts, too: most are much smaller than their object.
            size += sum(len(cell) for cell in row if cell is not None) + 64 * len(row)
            result.clear()
            if size >= batch_bytes:
                yield batch
                batch, size = [], 0
        elif result.status == ExecStatus.FATAL_ERROR:
            raise error_from_result(result)
        elif pgconn.status != psycopg.pq.ConnStatus.OK:
            raise psycopg.OperationalError("the connection is lost")
    if batch:
        yield batch
