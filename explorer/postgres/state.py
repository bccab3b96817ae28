"""Where are server address, passwords and ownership stored? Under HOME: `connection.json` (0600) and the locks beside it.

Only files; `embedded` and `bootstrap` know what the values mean.
"""

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from explorer.core import locks
from explorer.core.files import write_private
from explorer.core.processes import ProcessIdentity
from explorer.postgres.errors import DatabaseNotReady, PostgresNotStartable

CONNECTION_FILE = "connection.json"
# The embedded server's.
SUPERUSER = "postgres"
LOCK_TIMEOUT_S = 180.0
# What the address of a Unix socket has room for on all systems, with its last zero byte.
_SOCKET_PATH_BYTES = 103


class ConnectionRecord(BaseModel):
    """Content of `connection.json`. `roles` maps service logins to their passwords; `password` is the embedded superuser's. Of an
    external server, host, port and `options` (of libpq) are here too, but not its administrator."""

    model_config = ConfigDict(extra="forbid")

    mode: str = "embedded"
    host: str = "127.0.0.1"
    port: int = 0
    options: dict[str, str] = Field(default_factory=dict, repr=False)
    password: str = Field(default="", repr=False)
    cluster_dir: Path | None = None
    initialized: bool = False
    owner: ProcessIdentity | None = None
    roles: dict[str, str] = Field(default_factory=dict, repr=False)


def read_record(home: Path) -> ConnectionRecord | None:
    """The record under `home`, or None when there is none yet.

    Raises:
        DatabaseNotReady: the file is damaged or belongs to another account.
    """
    path = home / CONNECTION_FILE
    try:
        return ConnectionRecord.model_validate_json(path.read_bytes())
    except FileNotFoundError:
        return None
    except PermissionError:
        raise DatabaseNotReady(
            f"{path} belongs to another account.", next_step="Run as the account that first started the platform there."
        ) from None
    except ValidationError:
        raise DatabaseNotReady(
            f"{path} is damaged.",
            next_step="Restore it from a backup, or remove it: the next start makes new passwords and keeps the data.",
        ) from None


def socket_folder(cluster_dir: Path, port: int) -> Path | None:
    """The folder of the embedded server's Unix socket; None where its path is too long for one."""
    folder = cluster_dir / "socket"
    return folder if len(bytes(socket_path(folder, port))) <= _SOCKET_PATH_BYTES else None


def socket_path(folder: Path, port: int) -> Path:
    """The socket itself, as PostgreSQL names it."""
    return folder / f".s.PGSQL.{port}"


def record_mark(home: Path) -> tuple[int, int] | None:
    """A mark that changes when the record is replaced; None when there is none."""
    try:
        found = (home / CONNECTION_FILE).stat()
    except OSError:
        return None
    return found.st_ino, found.st_mtime_ns


def update_record(home: Path, change: Callable[[ConnectionRecord], None]) -> ConnectionRecord:
    """Read, change and atomically replace the record; concurrent updates wait for each other."""
    with home_lock(home, "connection"):
        record = read_record(home) or ConnectionRecord()
        before = record.model_copy(deep=True)
        change(record)
        if record != before:
            write_private(home / CONNECTION_FILE, record.model_dump_json(indent=2), durable=True)
        return record


@contextlib.contextmanager
def home_lock(home: Path, name: str, timeout_s: float = LOCK_TIMEOUT_S) -> Iterator[None]:
    """Hold `HOME/.<name>.lock`; the kernel releases it if the holder dies.

    Raises:
        PostgresNotStartable: another process has held it for `timeout_s`.
    """
    path = home / f".{name}.lock"
    with contextlib.ExitStack() as stack:
        try:
            stack.enter_context(locks.file_lock(path, timeout_s))
        except TimeoutError:
            raise PostgresNotStartable(
                f"Another process has held {path} for {timeout_s:.0f} s.",
                next_step="Look for an `explorer` process that hangs, end it and try again.",
            ) from None
        yield
