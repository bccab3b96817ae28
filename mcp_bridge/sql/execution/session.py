"""Opens a session of the tenant's reader for one statement: read-only, with limits set before the first statement.

Each statement has a new connection, so no state survives it. Connecting takes some 20 ms.
"""

from typing import Any

from psycopg import AsyncConnection, IsolationLevel

from explorer.postgres.connections import Login


async def connect(login: Login, search_path: tuple[str, ...], timeout_s: float) -> AsyncConnection[Any]:
    """A new session of `login` whose statements end after `timeout_s`. Raises psycopg's errors."""
    connection = await AsyncConnection.connect(
        **login.conninfo()
        | {
            "client_encoding": "UTF8",
            "application_name": "explorer-mcp",
            "options": _options(search_path, timeout_s),
        }
    )
    # Not REPEATABLE READ: with a snapshot from before a table swap, the new table would look empty after waiting for its lock.
    await connection.set_isolation_level(IsolationLevel.READ_COMMITTED)
    await connection.set_read_only(True)
    return connection


def _options(search_path: tuple[str, ...], timeout_s: float) -> str:
    """Settings from the start of the session. Constants are folded at plan time, so limits must be set before."""
    statement_ms = max(int(timeout_s * 1000), 1)
    settings = {
        "statement_timeout": statement_ms,
        "lock_timeout": 2000,
        "idle_in_transaction_session_timeout": statement_ms + 5000,
        "client_connection_check_interval": 500,
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
