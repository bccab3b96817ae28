"""Several statements in one round trip, by libpq's pipeline mode through `psycopg.pq`.

psycopg's own pipeline takes three times the CPU for this, because each statement passes a cursor and its conversions. Here
statements have no parameters, and results stay libpq's: text, as the server sent it. In pipeline mode the server takes exactly
one statement in each text.
"""

import asyncio
from collections.abc import AsyncIterator, Sequence
from typing import Any

import psycopg
from psycopg import AsyncConnection
from psycopg.errors import error_from_result
from psycopg.pq import ExecStatus
from psycopg.pq.abc import PGconn, PGresult

# In the place of a statement: the server sends what it has so far, and goes on.
FLUSH = b"flush"


class Described(bytes):
    """A statement that is only parsed: its result tells the columns of its rows."""


async def pipelined(
    connection: AsyncConnection[Any], *groups: Sequence[bytes], into: list[PGresult] | None = None
) -> list[PGresult]:
    """Execute the statements; their results in order. Each group is followed by a sync, which is a packet of its own. After an
    error the rest of its group is not executed.

    What must not be run inside a pipeline (`DISCARD ALL`) begins a group or follows the end of a transaction.

    `into`: a list for the results as they come, for who wants those before an error too. When it is cancelled, the connection
    can only be closed.

    Raises:
        psycopg.Error: of the first statement that failed.
    """
    pgconn = connection.pgconn
    pgconn.enter_pipeline_mode()
    sent, parsed = 0, set[int]()
    for group in groups:
        for statement in group:
            if statement is FLUSH:
                pgconn.send_flush_request()
                continue
            if isinstance(statement, Described):
                pgconn.send_prepare(b"", statement)
                pgconn.send_describe_prepared(b"")
                parsed.add(sent)
                sent += 1
            else:
                pgconn.send_query_params(statement, None)
            sent += 1
        pgconn.pipeline_sync()
    results, came = [] if into is None else into, 0
    async for result in _results(pgconn, len(groups)):
        # That a statement was parsed is no result of its own, unless it failed.
        if came not in parsed or result.status != ExecStatus.COMMAND_OK:
            results.append(result)
        came += 1
    pgconn.exit_pipeline_mode()
    for result in results:
        if result.status == ExecStatus.FATAL_ERROR:
            raise error_from_result(result)
    return results


async def _results(pgconn: PGconn, syncs: int) -> AsyncIterator[PGresult]:
    """The results until as many syncs have come."""
    loop, wake = asyncio.get_running_loop(), asyncio.Event()
    socket = pgconn.socket
    loop.add_reader(socket, wake.set)
    try:
        if pgconn.flush():
            await _flushed(pgconn, wake)
        while syncs:
            while pgconn.is_busy():
                wake.clear()
                await wake.wait()
                pgconn.consume_input()
            result = pgconn.get_result()
            if result is None:
                if pgconn.status != psycopg.pq.ConnStatus.OK:
                    raise psycopg.OperationalError("the connection is lost")
            elif result.status == ExecStatus.PIPELINE_SYNC:
                syncs -= 1
            else:
                yield result
    finally:
        loop.remove_reader(socket)


async def _flushed(pgconn: PGconn, wake: asyncio.Event) -> None:
    """Send what did not fit into the socket's buffer."""
    loop, socket = asyncio.get_running_loop(), pgconn.socket
    loop.add_writer(socket, wake.set)
    try:
        while pgconn.flush():
            wake.clear()
            await wake.wait()
            # The server may wait for its answers to be read.
            pgconn.consume_input()
    finally:
        loop.remove_writer(socket)
