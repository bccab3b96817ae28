"""Turns Ctrl-C, `kill` and a closed terminal into one orderly stop."""

import signal
import threading
from types import FrameType, TracebackType
from typing import Any, Self

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class StopRequested(BaseException):
    """A signal asked for an orderly end. It is no Exception, so that no handler on the way swallows it."""


class Interrupts:
    """Inside the block the first signal raises StopRequested in the main thread. Further signals do nothing, so that a second
    Ctrl-C cannot interrupt the stop. Outside the main thread the block changes nothing."""

    def __init__(self) -> None:
        self._seen = False
        self._previous: dict[signal.Signals, Any] = {}

    def __enter__(self) -> Self:
        if threading.current_thread() is threading.main_thread():
            for sign in SIGNALS:
                self._previous[sign] = signal.signal(sign, self._handle)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for sign, handler in self._previous.items():
            signal.signal(sign, handler)

    def ignore(self) -> None:
        """Ignore all signals from now on."""
        self._seen = True

    def _handle(self, number: int, frame: FrameType | None) -> None:
        if not self._seen:
            self._seen = True
            raise StopRequested
