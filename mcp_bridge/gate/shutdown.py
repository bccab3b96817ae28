"""How does the bridge end? SIGINT, SIGTERM and, over stdio, the end of input all start an orderly stop. A second signal ends it
at once.

The stop cancels calls that are being served, and their statements; runs continue. A client that disconnects does not cancel its
run: MCP has a message for that, and only this message cancels the run. (In MCP's newest revision over HTTP, a client cancels by
closing the response stream. So a disconnect while the bridge keeps serving is a cancel there.)
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
    """While the context is open, the first signal calls `stop` in the running event loop. The next one ends the process."""
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
    """Give signals their default effect again."""
    for number in SIGNALS:
        signal.signal(number, signal.SIG_DFL)


def leave_nobody_waiting() -> None:
    """End the process now, with status 0, if a thread (which waits for a frozen database) would keep it alive."""
    if any(thread is not threading.main_thread() and not thread.daemon for thread in threading.enumerate()):
        logging.shutdown()
        os._exit(0)


class InputLines:
    """The lines of standard input, to be iterated once. `on_end` is called before the iteration ends.

    A daemon thread reads them, because a read that waits for its next line cannot be interrupted. Once this object exists,
    nothing else can read from standard input.
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
        """End the iteration now, even if more lines would come."""
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
        # The event loop may be closed when the last lines arrive.
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
