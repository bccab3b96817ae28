"""The lock that makes one supervisor per HOME, and what other processes read from it.

The supervisor touches `HOME/run/up.lock` while it watches its parts. This needs no disk space, so a supervisor that is alive
but stuck is detected even on a full disk.
"""

import contextlib
import json
import os
import time
from pathlib import Path

from explorer.core.files import read_json_object
from explorer.core.home import home_not_usable
from explorer.core.locks import open_lock, try_lock
from explorer.core.processes import ProcessIdentity
from explorer.core.runtime_state import read_state
from explorer_cli.errors import AlreadyRunning
from explorer_cli.supervision.home import write_problem
from explorer_cli.supervision.processes import wait_until

LOCK_FILE = Path("run") / "up.lock"
BEAT_S = 1.0
# The supervisor's loop waits only a few seconds for a part that hangs.
SILENT_AFTER_S = 20.0


class Lock:
    """`HOME/run/up.lock`: the supervisor holds it for its whole life, and the kernel releases it when the supervisor dies."""

    def __init__(self, home: Path) -> None:
        self._home = home
        self._path = home / LOCK_FILE
        self._fd: int | None = None

    def acquire(self, within_s: float = 0.0) -> None:
        """Become the owner of HOME. When nothing can be written the lock is held, but the file does not name the owner.

        `within_s`: how long to wait for an owner that is ending; the kernel releases the lock with its last thread.

        Raises:
            AlreadyRunning: with the owner's pid and its problem, if it has one.
            HomeNotUsable: the lock file cannot be opened.
        """
        fd = self._open()
        if not wait_until(lambda: try_lock(fd), within_s):
            os.close(fd)
            raise self._taken()
        me = ProcessIdentity.current()
        with contextlib.suppress(OSError):
            os.ftruncate(fd, 0)
            os.write(fd, json.dumps({"pid": me.pid, "started": me.started}).encode())
        self._fd = fd

    def beat(self) -> None:
        """Show that the owner is working."""
        if self._fd is not None:
            with contextlib.suppress(OSError):
                os.utime(self._fd)

    def intact(self) -> bool:
        """Whether the locked file is still the one at the lock's path."""
        if self._fd is None:
            return False
        try:
            return os.path.samestat(os.fstat(self._fd), self._path.stat())
        except OSError:
            return False

    def release(self) -> None:
        if self._fd is not None:
            with contextlib.suppress(OSError):
                os.ftruncate(self._fd, 0)
            os.close(self._fd)
            self._fd = None

    def _open(self) -> int:
        try:
            return open_lock(self._path)
        except OSError as error:
            raise home_not_usable(self._home, error) from error

    def _taken(self) -> AlreadyRunning:
        holder = holder_of(self._home)
        state = read_state(self._home)
        where = f" and serves {state['dagster_url']}" if state.get("dagster_url") else ""
        who = f"process {holder.pid}" if holder else "a process that did not say which"
        problem = problem_of(self._home)
        if problem:
            return AlreadyRunning(
                f"The platform already runs under {self._home}: {who}. But all is not well: {problem}.",
                next_step="Mend that, and it comes back by itself; or stop it with `explorer down` and start again.",
                details={"pid": holder.pid if holder else None, "problem": problem},
            )
        return AlreadyRunning(
            f"The platform already runs under {self._home}: {who}{where}.",
            next_step="`explorer status` shows it, `explorer down` stops it; EXPLORER_HOME chooses another one.",
            details={"pid": holder.pid if holder else None, "dagster_url": state.get("dagster_url")},
        )


def holder_of(home: Path) -> ProcessIdentity | None:
    """The process that holds HOME's lock, None when there is none."""
    try:
        record = read_json_object(home / LOCK_FILE)
        holder = ProcessIdentity(int(record["pid"]), str(record["started"]))
    except (OSError, ValueError, KeyError, TypeError):
        return _locker_of(home / LOCK_FILE)
    return holder if holder.alive() else _locker_of(home / LOCK_FILE)


def problem_of(home: Path) -> str | None:
    """The reason why the supervisor of `home` cannot work, without a full stop; None when it can."""
    hindered = write_problem(home / "run")
    if hindered:
        return f"{home} cannot be written: {hindered}"
    holder = holder_of(home)
    supervisor = read_state(home).get("supervisor") or {}
    if holder is None or supervisor.get("pid") != holder.pid:
        return None
    with contextlib.suppress(OSError):
        silent_s = time.time() - (home / LOCK_FILE).stat().st_mtime
        if silent_s > SILENT_AFTER_S:
            return f"process {holder.pid} has not looked after its parts for {silent_s:.0f} s"
    return None


def _locker_of(lock: Path) -> ProcessIdentity | None:
    """The lock's holder according to the kernel (Linux, proc(5) `locks`), because the file may be damaged."""
    with contextlib.suppress(OSError, ValueError, IndexError):
        status = lock.stat()
        wanted = f"{os.major(status.st_dev):02x}:{os.minor(status.st_dev):02x}:{status.st_ino}"
        for line in Path("/proc/locks").read_text().splitlines():
            fields = line.split()
            if fields[1] == "FLOCK" and fields[5] == wanted:
                holder = ProcessIdentity.of(int(fields[4]))
                return holder if holder.alive() else None
    return None
