"""Starts child processes, recognises them later and stops them; never signals a process that is not ours.

Every child leads its own session, so that a terminal's Ctrl-C reaches only the supervisor. It carries a mark in its
environment, so that processes that it forked into other sessions (Dagster runs) can be found. `platform` says which
children there are.
"""

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from explorer.core.processes import ProcessIdentity

MARK = "DATA_EXPLORER_INSTANCE"
POLL_S = 0.05
# The kernel may need this long to end a process after SIGKILL.
KILL_GRACE_S = 2.0


def spawn(argv: Sequence[str], *, env: Mapping[str, str], cwd: Path, log: Path) -> "subprocess.Popen[bytes]":
    """Start a child in its own session with stdout and stderr appended to `log` (mode 0600) and nothing on stdin.

    When the log cannot be opened (full disk, missing rights) the child still runs, and its output is lost. Files that the
    child writes are readable by their owner alone. Raises OSError when the child cannot be started.
    """
    try:
        fd = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
    except OSError:
        fd = os.open(os.devnull, os.O_WRONLY | os.O_CLOEXEC)
    try:
        return subprocess.Popen(
            list(argv),
            env=dict(env),
            cwd=cwd,
            stdin=subprocess.DEVNULL,
            stdout=fd,
            stderr=fd,
            start_new_session=True,
            umask=0o077,
        )
    finally:
        os.close(fd)


def stop_children(children: "Sequence[tuple[subprocess.Popen[bytes], int]]", grace_s: float) -> list[int]:
    """End children of this process together: each leader gets its signal; what is left of its group after `grace_s` gets SIGKILL.

    Returns the pids of the leaders that had to be killed.
    """
    for process, sign in children:
        if process.poll() is None:
            process.send_signal(sign)
            # A process stopped by SIGSTOP handles no other signal before SIGCONT.
            process.send_signal(signal.SIGCONT)
    wait_until(lambda: all(process.poll() is not None for process, _ in children), grace_s)
    late = [process.pid for process, _ in children if process.poll() is None]
    for process, _ in children:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, signal.SIGKILL)
    for process, _ in children:
        process.wait()
    return late


def stop_child(process: "subprocess.Popen[bytes]", sign: int, grace_s: float) -> None:
    """End one child of this process; see `stop_children`."""
    stop_children([(process, sign)], grace_s)


def stop_recorded_all(identities: Sequence[ProcessIdentity], grace_s: float, *, group: bool = True) -> list[bool]:
    """End processes that another process started, if they still are the recorded ones; returns whether there was one to end.

    With `group` each leads its own process group, and the group gets SIGKILL when the leader still runs after `grace_s`.
    """
    alive = [identity.alive() for identity in identities]
    found = [identity for identity, there in zip(identities, alive, strict=True) if there]
    for identity in found:
        for sign in (signal.SIGTERM, signal.SIGCONT):
            with contextlib.suppress(ProcessLookupError):
                os.kill(identity.pid, sign)
    if not wait_until(lambda: not any(identity.alive() for identity in found), grace_s):
        for identity in found:
            if identity.alive():
                with contextlib.suppress(ProcessLookupError):
                    (os.killpg if group else os.kill)(identity.pid, signal.SIGKILL)
        wait_until(lambda: not any(identity.alive() for identity in found), KILL_GRACE_S)
    return alive


def stop_recorded(identity: ProcessIdentity, grace_s: float, *, group: bool = True) -> bool:
    """End one process that another process started; see `stop_recorded_all`."""
    return stop_recorded_all([identity], grace_s, group=group)[0]


def stop_marked(instance: str, grace_s: float) -> list[int]:
    """End every process whose mark begins with `instance`, in any session; returns the pids that it found.

    Linux only: other systems do not let us read the environment of processes; there only process groups are ended.
    """
    found = marked(instance)
    for signs, timeout_s in (((signal.SIGTERM, signal.SIGCONT), grace_s), ((signal.SIGKILL,), KILL_GRACE_S)):
        for pid in marked(instance):
            for sign in signs:
                with contextlib.suppress(ProcessLookupError, PermissionError):
                    os.kill(pid, sign)
        if wait_until(lambda: not marked(instance), timeout_s):
            break
    return found


def marked(instance: str) -> list[int]:
    """Pids of the processes whose mark begins with `instance`, except this process."""
    if sys.platform != "linux":
        return []
    wanted = f"{MARK}={instance}".encode()
    pids = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and int(entry.name) != os.getpid():
            with contextlib.suppress(OSError):
                if any(each.startswith(wanted) for each in (entry / "environ").read_bytes().split(b"\0")):
                    pids.append(int(entry.name))
    return pids


def wait_until(condition: Callable[[], bool], timeout_s: float) -> bool:
    """Poll `condition` until it holds or the time is over; returns whether it held."""
    deadline = time.monotonic() + timeout_s
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(POLL_S)
    return True
