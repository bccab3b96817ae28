"""A session of the tenant's reader: read-only, with limits set before the first statement, reset between two calls.

A login takes some 20 ms, several times as long as a small query, so a session is kept for the tenant's next call. Nothing of a
call may be seen by the next one: `DISCARD ALL` takes back what a session can hold (settings, role, prepared statements and
their plans, cursors, temporary tables, advisory locks, LISTEN, what sequences gave last). It leaves the seed of `random()` and
the names of made-up settings. Where readers may call what changes these, because the database is not hardened, no session is
kept (`explorer.postgres.hardening.lets_readers_leave_traces`).
"""

import asyncio
import os
import socket
from dataclasses import dataclass
from typing import Any, Self

import psycopg
from psycopg import AsyncConnection
from psycopg.pq import TransactionStatus

from explorer.postgres.connections import Login, is_alive
from explorer.postgres.pipelined import pipelined

# The server itself ends a session that nobody has used for this time, in case the bridge cannot.
_IDLE_TIMEOUT_S = 120
_RESET_S = 2.0
# In one pipeline: the end of the transaction lets `DISCARD ALL` begin one of its own.
RESET = (b"ROLLBACK", b"DISCARD ALL")


@dataclass(frozen=True, slots=True)
class HeldBackend:
    """The server process of a session, and a second handle of its socket, which stays open when libpq closes its own."""

    pid: int
    socket: socket.socket

    @classmethod
    def of(cls, connection: AsyncConnection[Any]) -> Self:
        handle = socket.socket(fileno=os.dup(connection.pgconn.socket))
        handle.setblocking(False)
        return cls(connection.info.backend_pid, handle)


@dataclass(slots=True, eq=False)
class Session:
    """A session in autocommit mode. `opened_s`: by the loop's clock; `is_used`: it has served a call before."""

    connection: AsyncConnection[Any]
    backend: HeldBackend
    opened_s: float
    is_used: bool = False

    @property
    def is_ready(self) -> bool:
        """Whether the next call can use it: the server has not ended it."""
        return is_alive(self.connection)

    async def reset(self) -> bool:
        """End the transaction and take back all that the call left. False when that failed: the session must be closed then."""
        connection = self.connection
        try:
            async with asyncio.timeout(_RESET_S):
                await pipelined(connection, RESET)
        except (psycopg.Error, TimeoutError):
            return False
        self.is_used = True
        return connection.info.transaction_status is TransactionStatus.IDLE


async def connect(login: Login, search_path: tuple[str, ...], timeout_s: float) -> Session:
    """A new session of `login` whose statements end after `timeout_s`. Raises psycopg's errors."""
    connection = await AsyncConnection.connect(
        **login.conninfo()
        | {
            "client_encoding": "UTF8",
            "application_name": "explorer-mcp",
            "options": _options(search_path, timeout_s),
        },
        autocommit=True,
        # A reset takes prepared statements away, and psycopg would go on to use those that it made by itself.
        prepare_threshold=None,
    )
    return Session(connection, HeldBackend.of(connection), asyncio.get_running_loop().time())


def _options(search_path: tuple[str, ...], timeout_s: float) -> str:
    """Settings from the start of the session, to which a reset returns. Constants are folded at plan time, so limits must be set
    before."""
    statement_ms = max(int(timeout_s * 1000), 1)
    settings = {
        "statement_timeout": statement_ms,
        "lock_timeout": 2000,
        "idle_in_transaction_session_timeout": statement_ms + 5000,
        "idle_session_timeout": _IDLE_TIMEOUT_S * 1000,
        "client_connection_check_interval": 500,
        # Not REPEATABLE READ: with a snapshot from before a table swap, the new table would look empty after waiting for it.
        "default_transaction_isolation": "read committed",
        "default_transaction_read_only": "on",
        "search_path": ",".join('"' + name.replace('"', '""') + '"' for name in search_path) or '""',
        "work_mem": "16MB",
        "hash_mem_multiplier": 1,
        "max_parallel_workers_per_gather": 0,
        "jit": "off",
        "client_min_messages": "error",
        "standard_conforming_strings": "on",
        "timezone": "UTC",
        "datestyle": "ISO,MDY",
        "intervalstyle": "postgres",
        "bytea_output": "hex",
        "extra_float_digits": 1,
    }
    return " ".join(f"-c {name}={_escaped(str(value))}" for name, value in settings.items())


def _escaped(value: str) -> str:
    return value.replace("\\", "\\\\").replace(" ", "\\ ")
