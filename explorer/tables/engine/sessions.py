"""Over which sessions does the engine work? A few of the tenant's writer, in parallel; an interrupt cancels their queries."""

from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import contextmanager
from queue import Empty, SimpleQueue
from typing import Any, Protocol, TypeVar

from psycopg import sql

from explorer.contract.schemas import TenantSchemas
from explorer.postgres.connections import Connection, Login

T = TypeVar("T")

SESSION: Mapping[str, str] = {
    # Queries of a killed process end within a second.
    "client_connection_check_interval": "1000",
    "TimeZone": "UTC",
    "IntervalStyle": "postgres",
    "DateStyle": "ISO,YMD",
    # Tables are joined and sorted as a whole; the default is meant for a hundred sessions.
    "work_mem": "32MB",
}
"""Settings of sessions that build tables, also by dbt: the same SQL gives the same values in each."""
POLL_S = 0.2
"""How long one wait for work lasts: without a time limit it would block interrupts."""
_CANCEL_EVERY_S = 0.05
_SESSIONS = 4


class Pool(Protocol):
    """Runs work in one of a few sessions."""

    def __call__(self, work: Callable[[Connection], T]) -> Future[T]: ...


def result_of(future: "Future[T]") -> T:
    """The result of work, once it has ended."""
    while wait((future,), timeout=POLL_S).not_done:
        continue
    return future.result()


def open_session(login: Login, schemas: TenantSchemas) -> Connection:
    """A session in autocommit mode that finds the tenant's raw tables and tables by their names alone.

    Raises:
        DatabaseUnreachable: the server does not answer or refuses the login.
    """
    connection = login.connect(autocommit=True)
    path = sql.SQL(", ").join(map(sql.Identifier, (schemas.raw, schemas.marts, "pg_temp")))
    settings = [sql.SQL("set search_path = {}").format(path)]
    settings += [sql.SQL("set {} = {}").format(sql.Identifier(name), sql.Literal(SESSION[name])) for name in SESSION]
    connection.execute(sql.SQL("; ").join(settings))
    return connection


@contextmanager
def open_pool(login: Login, schemas: TenantSchemas) -> Iterator[Pool]:
    """Sessions that are opened when there is work; an exception cancels their queries."""
    idle: SimpleQueue[Connection] = SimpleQueue()
    opened: list[Connection] = []
    begun: list[Future[Any]] = []

    def do(work: Callable[[Connection], T]) -> T:
        try:
            connection = idle.get_nowait()
        except Empty:
            connection = open_session(login, schemas)
            opened.append(connection)
            # As in `update`: a later commit waits for the disk.
            connection.execute("set synchronous_commit = off")
        try:
            return work(connection)
        finally:
            idle.put(connection)

    def submit(work: Callable[[Connection], T]) -> Future[T]:
        future = executor.submit(do, work)
        begun.append(future)
        return future

    executor = ThreadPoolExecutor(_SESSIONS, thread_name_prefix="tables")
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
