"""A pool of connections of the tenants' loader logins, so that a query does not need a new login.

A new backend costs PostgreSQL several times as much as one of the bridge's small queries. The server itself ends a connection
that was idle for a minute. The pool notices an ended connection (a restart, a teardown) before it lends it again.
"""

import logging
import threading
from collections import OrderedDict, defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import psycopg
from psycopg.pq import TransactionStatus

from explorer.core.errors import ExplorerError
from explorer.postgres.connections import Login, is_alive

Connection = psycopg.Connection[tuple[Any, ...]]
# Over all tenants. Each tenant gets two of the loader's own connections (`provisioning.RW_CONNECTIONS`).
_IDLE = 16
_IDLE_PER_LOGIN = 2
# At a time; further callers wait. A run needs the others of its login's connections.
_LENT_PER_LOGIN = 4
_OPENING_S = 2.0
_log = logging.getLogger(__name__)
_SESSION = {
    "default_transaction_read_only": "on",
    "idle_session_timeout": "60s",
    "lock_timeout": "2s",
    "timezone": "UTC",
    "datestyle": "ISO",
    "intervalstyle": "postgres",
    "bytea_output": "hex",
    "extra_float_digits": "1",
    "jit": "off",
    "max_parallel_workers_per_gather": "0",
}


class LoaderConnections:
    """Read-only connections in autocommit mode, by login name. Thread-safe."""

    def __init__(self, statement_timeout_s: float) -> None:
        self._options = " ".join(
            f"-c {name}={value}"
            for name, value in {**_SESSION, "statement_timeout": f"{int(statement_timeout_s * 1000)}ms"}.items()
        )
        self._idle: OrderedDict[Connection, str] = OrderedDict()
        self._opening: dict[str, threading.Event] = {}
        self._turns: defaultdict[str, threading.Semaphore] = defaultdict(lambda: threading.Semaphore(_LENT_PER_LOGIN))
        self._lock = threading.Lock()
        self._closed = False

    def prepare(self, role: str, login: Callable[[], Login]) -> None:
        """Open a connection of `role` in a thread of its own and keep it idle for the next caller. A failure is only logged."""
        with self._lock:
            if self._closed or role in self._opening or role in self._idle.values():
                return
            self._opening[role] = threading.Event()
        threading.Thread(target=self._open_idle, args=(role, login), name="loader-prepare", daemon=True).start()

    @contextmanager
    def lent(self, role: str, login: Callable[[], Login]) -> Iterator[Connection]:
        """A connection of `role`; `login` is called only when none is idle. Blocks.

        Raises:
            DatabaseUnreachable, and the errors of `login`.
        """
        with self._lock:
            turn = self._turns[role]
        with turn:
            if opening := self._opening.get(role):
                opening.wait(_OPENING_S)
            connection = self._take(role) or self._connect(login())
            try:
                yield connection
            except BaseException:
                connection.close()
                raise
            self._give_back(connection)

    def close(self) -> None:
        """Close the idle connections, and from now on each one that is returned."""
        with self._lock:
            self._closed = True
            idle, self._idle = list(self._idle), OrderedDict()
        for connection in idle:
            connection.close()

    def _open_idle(self, role: str, login: Callable[[], Login]) -> None:
        try:
            self._give_back(self._connect(login()))
        except ExplorerError as error:
            _log.info("A connection could not be prepared: %s", error.message)
        finally:
            self._opening.pop(role).set()

    def _connect(self, login: Login) -> Connection:
        own = login.options.get("options", "")
        return replace(login, options={**login.options, "options": f"{own} {self._options}".strip()}).connect(
            autocommit=True
        )

    def _take(self, role: str) -> Connection | None:
        """The connection used last, because its caches are warm. Connections that the server ended are closed."""
        while True:
            with self._lock:
                found = next((c for c, owner in reversed(self._idle.items()) if owner == role), None)
                if found is None:
                    return None
                del self._idle[found]
            if is_alive(found):
                return found
            found.close()

    def _give_back(self, connection: Connection) -> None:
        # The connection's own user name: when the schemas were made again meanwhile, it is not the role that was requested.
        role = connection.info.user
        surplus: list[Connection] = []
        with self._lock:
            self._idle[connection] = role
            same = [c for c, owner in self._idle.items() if owner == role]
            if self._closed or connection.info.transaction_status is not TransactionStatus.IDLE:
                surplus = [connection]
            elif len(same) > _IDLE_PER_LOGIN:
                surplus = same[:1]
            elif len(self._idle) > _IDLE:
                surplus = [next(iter(self._idle))]
            for other in surplus:
                del self._idle[other]
        for other in surplus:
            other.close()
