"""Which processes belong to a data folder, and how are they ended? Only PostgreSQL's processes that work in it."""

import contextlib
import os
import re
import signal
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from explorer.core.processes import LINUX

# Signals, each with the seconds until the next.
END_STEPS = ((signal.SIGTERM, 5.0), (signal.SIGQUIT, 5.0), (signal.SIGKILL, 5.0))
# `postgres: user database 127.0.0.1(41234) SELECT`, or a parallel worker of such a session.
_SESSION_TITLE = re.compile(rb"postgres: (?:.*\(\d+\) |parallel worker)")


def in_folder(data: Path, main_process: Callable[[], int | None]) -> set[int]:
    """Pids of the server's processes. `main_process`: called where the system has no /proc."""
    if LINUX:
        return {int(entry.name) for entry in Path("/proc").iterdir() if entry.name.isdigit() and _works_in(data, entry)}
    pid = main_process()
    return set() if pid is None else {pid}


def sessions_among(pids: set[int]) -> list[int]:
    """Pids of processes that serve a client: their titles show its address (source: PostgreSQL's ps display)."""
    found = []
    for pid in pids:
        with contextlib.suppress(OSError):
            if _SESSION_TITLE.match(Path(f"/proc/{pid}/cmdline").read_bytes()):
                found.append(pid)
    return found


def end(
    pids: set[int],
    alive: Callable[[], set[int]],
    steps: Sequence[tuple[signal.Signals | None, float]] = END_STEPS,
) -> None:
    """Send each signal (None: none) and wait so many seconds for the processes to disappear from `alive`."""
    for sign, timeout_s in steps:
        for pid in pids & alive():
            if sign is not None:
                kill(pid, sign)
        deadline = time.monotonic() + timeout_s
        while pids & alive():
            if time.monotonic() > deadline:
                break
            time.sleep(0.02)
        else:
            return


def kill(pid: int, sign: signal.Signals = signal.SIGKILL) -> None:
    """Send a signal; a process that has ended is no error. Raises PermissionError."""
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, sign)


def _works_in(data: Path, process: Path) -> bool:
    try:
        return (process / "cwd").readlink() == data and (process / "exe").readlink().name.startswith("postgres")
    except OSError:
        return False
