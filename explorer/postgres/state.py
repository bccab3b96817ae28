"""How server address, passwords and ownership are kept under HOME: `connection.json` (0600) and the locks beside it.

Only files; what the values mean is the business of `embedded` and `bootstrap`.
"""

import contextlib
import errno
import fcntl
import os
import platform
import secrets
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from explorer.core import private
from explorer.postgres.errors import DatabaseNotReady, PostgresNotStartable

CONNECTION_FILE = "connection.json"
LOCK_TIMEOUT_S = 180.0
LINUX = platform.system() == "Linux"


class ProcessIdentity(BaseModel):
    """A process that cannot be confused with a later one of the same number."""

    model_config = ConfigDict(frozen=True)

    pid: int
    started: str

    @classmethod
    def current(cls) -> Self:
        """The calling process."""
        return cls(pid=os.getpid(), started=_start_time(os.getpid()) or "")

    def alive(self) -> bool:
        """Whether this very process still runs (a reused pid does not count)."""
        return _start_time(self.pid) == self.started


class ConnectionRecord(BaseModel):
    """Content of `connection.json`. `roles` maps service logins to their passwords; `password` is the embedded superuser's."""

    model_config = ConfigDict(extra="forbid")

    mode: str = "embedded"
    host: str = "127.0.0.1"
    port: int = 0
    password: str = Field(default="", repr=False)
    cluster_dir: Path | None = None
    initialized: bool = False
    owner: ProcessIdentity | None = None
    roles: dict[str, str] = Field(default_factory=dict, repr=False)


def make_home(home: Path) -> None:
    """As `private.make_home`.

    Raises:
        DatabaseNotReady: it cannot be made.
    """
    try:
        private.make_home(home)
    except OSError as error:
        raise DatabaseNotReady(
            f"{home} cannot be made: {error.strerror}.",
            next_step="Set EXPLORER_HOME to a folder that the account you run as may make and write.",
        ) from error


def read_record(home: Path) -> ConnectionRecord | None:
    """The record under `home`, or None when there is none yet.

    Raises:
        DatabaseNotReady: the file is damaged or belongs to somebody else.
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


def record_mark(home: Path) -> tuple[int, int] | None:
    """What differs when the record was replaced; None when there is none."""
    try:
        found = (home / CONNECTION_FILE).stat()
    except OSError:
        return None
    return found.st_ino, found.st_mtime_ns


def update_record(home: Path, change: Callable[[ConnectionRecord], None]) -> ConnectionRecord:
    """Read, change and atomically replace the record; concurrent updates wait for each other."""
    with file_lock(home, "connection"):
        record = read_record(home) or ConnectionRecord()
        before = record.model_copy(deep=True)
        change(record)
        if record != before:
            _replace_private(home / CONNECTION_FILE, record.model_dump_json(indent=2).encode())
        return record


@contextlib.contextmanager
def file_lock(home: Path, name: str, timeout_s: float = LOCK_TIMEOUT_S) -> Iterator[None]:
    """Hold `HOME/.<name>.lock`; released by the kernel if the holder dies.

    Raises:
        PostgresNotStartable: somebody else has held it for `timeout_s`.
    """
    path = home / f".{name}.lock"
    fd = _open_lock(path)
    try:
        with contextlib.suppress(OSError):
            _own_like_home(fd, home)
        deadline = time.monotonic() + timeout_s
        while not try_lock(fd):
            if time.monotonic() > deadline:
                raise PostgresNotStartable(
                    f"Another process has held {path} for {timeout_s:.0f} s.",
                    next_step="Look for an `explorer` process that hangs, end it and try again.",
                )
            time.sleep(0.02)
        yield
    finally:
        os.close(fd)


def _open_lock(path: Path) -> int:
    """Also where nothing can be written any more: to stop a server, of all things, must still be possible then."""
    try:
        return os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    except OSError as error:
        if error.errno != errno.EROFS:
            raise
        return os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)


def try_lock(fd: int) -> bool:
    """Whether the open file is locked for this process alone now; nobody is waited for."""
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _replace_private(path: Path, content: bytes) -> None:
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    try:
        with os.fdopen(fd, "wb") as file:
            _own_like_home(file.fileno(), path.parent)
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def _own_like_home(fd: int, home: Path) -> None:
    """Root working in somebody's HOME leaves files that its owner can still read."""
    if os.geteuid() == 0:
        status = home.stat()
        os.fchown(fd, status.st_uid, status.st_gid)


def _start_time(pid: int) -> str | None:
    if LINUX:
        try:
            stat = Path(f"/proc/{pid}/stat").read_text()
        except (FileNotFoundError, ProcessLookupError):
            return None
        fields = stat.rpartition(")")[2].split()
        return None if fields[0] == "Z" else fields[19]
    answer = subprocess.run(["/bin/ps", "-o", "lstart=", "-p", str(pid)], capture_output=True, text=True, check=False)
    return answer.stdout.strip() or None
