"""A pool of warm workers without the slow imports."""

import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from explorer.core.processes import ProcessIdentity

DEADLINE_S = 60.0


def until(is_true: Callable[[], object]) -> None:
    """Waits; fails after a minute."""
    deadline = time.monotonic() + DEADLINE_S
    while not is_true():
        assert time.monotonic() < deadline
        time.sleep(0.02)


@dataclass
class Pool:
    """A running fork server. `era`: as long as the file is there its code has not changed."""

    process: "subprocess.Popen[bytes]"
    socket: Path
    era: Path

    def ask(self, request: bytes) -> bytes:
        """The answer to one request."""
        with socket.socket(socket.AF_UNIX) as connection:
            connection.settimeout(DEADLINE_S)
            connection.connect(os.fspath(self.socket))
            connection.sendall(request)
            connection.shutdown(socket.SHUT_WR)
            return connection.recv(32)

    def worker(self, request: bytes) -> ProcessIdentity:
        """The worker that a request is given to."""
        return ProcessIdentity.of(int(self.ask(request)))


def start(path: Path, era: Path) -> "subprocess.Popen[bytes]":
    command = [sys.executable, str(Path(__file__).with_name("pool_process.py")), str(path), str(era)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)


@pytest.fixture
def pool() -> Iterator[Pool]:
    # Not pytest's folder, whose path may be too long for a socket.
    with tempfile.TemporaryDirectory(prefix="pool-") as folder:
        path, era = Path(folder) / "run" / "warm.sock", Path(folder) / "era"
        era.touch()
        running = Pool(start(path, era), path, era)
        assert running.process.stdout is not None
        assert running.process.stdout.readline().startswith(b"warm, listening on ")
        yield running
        running.process.send_signal(signal.SIGTERM)
        running.process.wait(DEADLINE_S)
