"""Which process is meant? A pid alone may have been reused."""

import os
import socket
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Self

LINUX = sys.platform == "linux"
# The name that this machine had when the process began: a laptop that is called otherwise in another network is still the same.
_HOST = socket.gethostname()


@dataclass(frozen=True)
class ProcessIdentity:
    """A process, distinct from any later one with the same pid. As text: `pid:start time`."""

    pid: int
    started: str

    @classmethod
    def of(cls, pid: int) -> Self:
        """The process that has this pid now. For a process that has ended, an identity that is never alive."""
        return cls(pid, _start_time(pid) or "gone")

    @classmethod
    def current(cls) -> Self:
        """The calling process."""
        return cls.of(os.getpid())

    @classmethod
    def parse(cls, text: str) -> Self:
        """The identity of a text that `str` made. Raises ValueError."""
        pid, _, started = text.partition(":")
        return cls(int(pid), started)

    def __str__(self) -> str:
        return f"{self.pid}:{self.started}"

    def alive(self) -> bool:
        """Whether this process still runs. A reused pid and a zombie do not count."""
        return _start_time(self.pid) == self.started


@dataclass(frozen=True)
class WorkerIdentity:
    """A process of one of several machines. As text: `host/pid:start time`; without a host, as older versions wrote it, of this
    one."""

    host: str
    process: ProcessIdentity

    @classmethod
    def of(cls, pid: int) -> Self:
        """The process of this machine that has this pid now."""
        return cls(_HOST, ProcessIdentity.of(pid))

    @classmethod
    def parse(cls, text: str) -> Self:
        """The identity of a text that `str` made. Raises ValueError."""
        host, _, process = text.rpartition("/")
        return cls(host or _HOST, ProcessIdentity.parse(process))

    def __str__(self) -> str:
        return f"{self.host}/{self.process}"

    def alive(self) -> bool | None:
        """Whether it still runs; None: it is another machine's, and from here nobody can say."""
        return self.process.alive() if self.host == _HOST else None


def _start_time(pid: int) -> str | None:
    """Start time in ticks since boot (Linux, proc(5) field 22) or as `ps` prints it; None when the process has ended."""
    if not LINUX:
        return _start_time_by_ps(pid)
    try:
        fields = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError, PermissionError):
        return None
    return None if fields[0] in "ZX" else fields[19]


def _start_time_by_ps(pid: int) -> str | None:
    command = ["/bin/ps", "-o", "stat=,lstart=", "-p", str(pid)]
    answer = subprocess.run(command, capture_output=True, text=True, check=False)
    state, _, started = answer.stdout.strip().partition(" ")
    return None if state.startswith("Z") else started.strip() or None
