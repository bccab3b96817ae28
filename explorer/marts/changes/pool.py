"""A few connections over which changes are applied and tested in parallel."""

from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import contextmanager
from queue import Empty, SimpleQueue
from typing import Any, Protocol, TypeVar

from psycopg import sql

from explorer.marts.dbt.environment import SESSION
from explorer.postgres.connections import Connection, Login

T = TypeVar("T")

# How long one wait for work lasts: without a time limit it would block interrupts.
POLL_S = 0.2
_CANCEL_EVERY_S = 0.05
# As many threads as dbt has.
_CONNECTIONS = 4
# The last commit, of the builds' records, waits for the disk; the commits before need not.
_SET_SESSION = sql.SQL("; ").join(
    sql.SQL("set {} = {}").format(sql.Identifier(name), sql.Literal(value))
    for name, value in {**SESSION, "synchronous_commit": "off"}.items()
)


class Pool(Protocol):
    """Runs work on one of a few connections."""

    def __call__(self, work: Callable[[Connection], T]) -> Future[T]: ...


@contextmanager
def open_pool(database: Login) -> Iterator[Pool]:
    """Connections to `database`; an exception cancels their queries."""
    idle: SimpleQueue[Connection] = SimpleQueue()
    opened: list[Connection] = []
    begun: list[Future[Any]] = []

    def do(work: Callable[[Connection], T]) -> T:
        try:
            connection = idle.get_nowait()
        except Empty:
            connection = database.connect(autocommit=True)
            opened.append(connection)
            connection.execute(_SET_SESSION)
        try:
            return work(connection)
        finally:
            idle.put(connection)

    def submit(work: Callable[[Connection], T]) -> Future[T]:
        future = executor.submit(do, work)
        begun.append(future)
        return future

    executor = ThreadPoolExecutor(_CONNECTIONS, thread_name_prefix="changes")
    try:
        yield submit
    except BaseException:
        executor.shutdown(wait=False, cancel_futures=True)
        # Repeatedly: a statement may be about to begin.
        while wait(begun, timeout=_CANCEL_EVERY_S).not_done:
            for connection in list(opened):
                connection.cancel()
        raise
    finally:
        executor.shutdown(cancel_futures=True)
        for connection in opened:
            connection.close()
