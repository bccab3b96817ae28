"""One bridge as several processes on one port.

The first process serves nothing: it starts the others and starts one again that has ended. Each of them listens at the port
itself, and the kernel shares the connections out, so that one that is gone gets none. They share what bridges on several
machines share: the catalog. Over a Unix socket each tells the others its numbers for `/metrics`.
"""

import asyncio
import logging
import os
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

import httpx

from explorer.core.ports import listen_beside
from explorer.telemetry.metrics_token import METRICS_PATH
from mcp_bridge.gate.shutdown import SIGNALS, let_the_next_end_it

_log = logging.getLogger("mcp_bridge")
_LOOK_EVERY_S = 0.2
# One that ended soon after its start is started again later each time.
_SOON_S = 10.0
_PAUSE_S, _LONGEST_PAUSE_S = 0.5, 30.0
# Longer than an orderly stop takes.
_STOP_S = 15.0
_ASK_S = 2.0


@dataclass(frozen=True)
class Sibling:
    """What one of the processes knows of the others. `number`: its own, from 0; `alive`: a pipe that ends with the first process;
    `folder`: of the sockets."""

    number: int
    alive: int
    folder: Path

    @classmethod
    def parse(cls, text: str) -> Self:
        """From the argument that `as_argument` made. Raises: ValueError."""
        number, alive, folder = text.split(":", 2)
        return cls(int(number), int(alive), Path(folder))

    @property
    def as_argument(self) -> str:
        return f"{self.number}:{self.alive}:{self.folder}"

    @property
    def place(self) -> Path:
        """Its Unix socket, which is there while it serves."""
        return self.folder / f"{self.number}.sock"

    def listen(self, host: str, port: int) -> list[socket.socket]:
        """The sockets to serve. Raises OSError."""
        shared = listen_beside(host, port)
        own = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        own.bind(str(self.place))
        own.listen()
        return [shared, own]

    def end_with_the_first(self) -> None:
        """Stop as by a signal when the first process is gone. For the event loop."""
        loop = asyncio.get_running_loop()

        def is_gone() -> None:
            loop.remove_reader(self.alive)
            with suppress(OSError):
                self.place.unlink()
                # Of the last one.
                self.folder.rmdir()
            os.kill(os.getpid(), signal.SIGTERM)

        loop.add_reader(self.alive, is_gone)

    async def metrics_of_all(self, own: bytes, authorization: str) -> dict[str, str]:
        """The text of `/metrics` of each process that answers, by number. `authorization`: the header of who asks."""
        numbers = sorted(int(found.stem) for found in self.folder.glob("*.sock") if found != self.place)
        asked = await asyncio.gather(*(self._asked(number, authorization) for number in numbers))
        found = {str(number): text for number, text in zip(numbers, asked, strict=True) if text is not None}
        return {str(self.number): own.decode(), **found}

    async def _asked(self, number: int, authorization: str) -> str | None:
        way = httpx.AsyncHTTPTransport(uds=str(self.folder / f"{number}.sock"))
        try:
            async with httpx.AsyncClient(transport=way, timeout=_ASK_S, base_url="http://sibling") as client:
                answer = await client.get(METRICS_PATH, params={"of": "one"}, headers={"Authorization": authorization})
        except httpx.HTTPError:
            return None
        return answer.text if answer.status_code == httpx.codes.OK else None


@dataclass
class _Process:
    """One of the processes. `start_s`: when to start it, by the monotonic clock; `has_served`: since it was first started."""

    sibling: Sibling
    running: "subprocess.Popen[bytes] | None" = None
    started_s: float = 0.0
    start_s: float = 0.0
    pause_s: float = _PAUSE_S
    has_served: bool = False


@dataclass
class Processes:
    """Keeps the processes running until a signal. `command`: arguments of this program for one of them; `ready` is called once,
    when all serve."""

    count: int
    command: Callable[[Sibling], Sequence[str]]
    ready: Callable[[], object]
    _stop: threading.Event = field(default_factory=threading.Event)

    def run(self) -> bool:
        """Returns after the processes have ended: False when one could not start at all, which has said why, or had to be
        killed."""
        # Its length must leave room for a socket's name.
        with tempfile.TemporaryDirectory(prefix="explorer-bridge-", dir="/tmp") as folder:
            read, write = os.pipe()
            processes = [_Process(Sibling(number, read, Path(folder))) for number in range(self.count)]
            for number in SIGNALS:
                signal.signal(number, self._asked_to_stop)
            try:
                started = self._keep(processes)
            finally:
                ended = self._end(processes)
                os.close(write)
                os.close(read)
            return started and ended

    def _asked_to_stop(self, number: int, frame: Any) -> None:
        let_the_next_end_it()
        self._stop.set()

    def _keep(self, processes: list[_Process]) -> bool:
        told = False
        while not self._stop.is_set():
            now_s = time.monotonic()
            for process in processes:
                if process.running is None:
                    if now_s >= process.start_s:
                        self._start(process, now_s)
                elif (status := process.running.poll()) is None:
                    process.has_served = process.has_served or process.sibling.place.exists()
                elif status == 1 and not process.has_served:
                    return False
                else:
                    self._ended(process, status, now_s)
            if not told and all(process.has_served for process in processes):
                told = True
                self.ready()
            self._stop.wait(_LOOK_EVERY_S)
        return True

    def _start(self, process: _Process, now_s: float) -> None:
        sibling = process.sibling
        # A group of its own: a signal of the terminal reaches this process, which passes it on once.
        process.running = subprocess.Popen(
            [sys.executable, "-m", "mcp_bridge", *self.command(sibling)],
            pass_fds=[sibling.alive],
            start_new_session=True,
        )
        process.started_s = now_s

    def _ended(self, process: _Process, status: int, now_s: float) -> None:
        _log.error("Process %s of the bridge ended with status %s and is started again", process.sibling.number, status)
        process.running = None
        process.sibling.place.unlink(missing_ok=True)
        lived_long = now_s - process.started_s > _SOON_S
        process.pause_s = _PAUSE_S if lived_long else min(2 * process.pause_s, _LONGEST_PAUSE_S)
        process.start_s = now_s + process.pause_s

    def _end(self, processes: list[_Process]) -> bool:
        running = [process.running for process in processes if process.running is not None]
        for each in running:
            each.send_signal(signal.SIGTERM)
        deadline = time.monotonic() + _STOP_S
        orderly = True
        for each in running:
            try:
                each.wait(max(0.0, deadline - time.monotonic()))
            except subprocess.TimeoutExpired:
                each.kill()
                each.wait()
                orderly = False
        return orderly
