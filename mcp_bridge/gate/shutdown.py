"""How does the bridge end? In order, by SIGINT, SIGTERM and, over stdio, the end of input: one rule for all. A second signal ends
it at once.

Calls that are being served are given up, their statements cancelled; runs go on. A client that goes away has not cancelled what
it asked for: MCP has a message for that, and only who sends it means the run. (In the newest revision over HTTP the message is
that the client closes the answer's stream: there who goes away while the bridge serves on has cancelled.)
"""

import asyncio
import logging
import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

SIGNALS = (signal.SIGINT, signal.SIGTERM)
_CHUNK_BYTES = 64 * 1024
_BUFFERED_LINES = 16


@contextmanager
def on_signals(stop: Callable[[], None]) -> Iterator[None]:
    """Inside, the first signal calls `stop` in the running event loop; the next ends the process as it would any other."""
    loop = asyncio.get_running_loop()

    def first() -> None:
        let_the_next_end_it()
        stop()

    for number in SIGNALS:
        loop.add_signal_handler(number, first)
    try:
        yield
    finally:
        for number in SIGNALS:
            loop.remove_signal_handler(number)


def let_the_next_end_it() -> None:
    """From now on a signal has its ordinary effect."""
    for number in SIGNALS:
        signal.signal(number, signal.SIG_DFL)


def leave_nobody_waiting() -> None:
    """End the process now, with status 0, if a thread would keep it: one that waits for a frozen database."""
    if any(thread is not threading.main_thread() and not thread.daemon for thread in threading.enumerate()):
        logging.shutdown()
        os._exit(0)


class InputLines:
    """The lines of standard input, to be iterated once. `on_end` is called before the iteration ends.

    They are read in a thread that nobody waits for: a read that waits for its next line cannot be interrupted otherwise. From
    its making on nobody else finds anything in standard input.
    """

    def __init__(self, on_end: Callable[[], None]) -> None:
        self._on_end = on_end
        self._loop = asyncio.get_running_loop()
        self._lines: asyncio.Queue[str | None] = asyncio.Queue(_BUFFERED_LINES)
        self._fd = os.dup(0)
        nothing = os.open(os.devnull, os.O_RDONLY)
        os.dup2(nothing, 0)
        os.close(nothing)
        threading.Thread(target=self._read, name="stdin", daemon=True).start()

    def end(self) -> None:
        """Let the iteration end here, whatever was still to come."""
        while not self._lines.empty():
            self._lines.get_nowait()
        self._lines.put_nowait(None)

    def __aiter__(self) -> "InputLines":
        return self

    async def __anext__(self) -> str:
        line = await self._lines.get()
        if line is None:
            self._on_end()
            raise StopAsyncIteration
        return line

    def _read(self) -> None:
        # The loop may be gone when the last lines arrive.
        with suppress(RuntimeError, OSError):
            rest = b""
            while chunk := os.read(self._fd, _CHUNK_BYTES):
                *lines, rest = (rest + chunk).split(b"\n")
                for line in lines:
                    self._hand_over(line.decode(errors="replace") + "\n")
            if rest:
                self._hand_over(rest.decode(errors="replace"))
            self._hand_over(None)

    def _hand_over(self, line: str | None) -> None:
        asyncio.run_coroutine_threadsafe(self._lines.put(line), self._loop).result()
