"""Limits how many connections may wait with an incomplete request head, how large a head may be, and for how long. Late
connections are closed.

uvicorn itself waits forever for the rest of a request's head, and takes one of any size. `http_authentication` limits bodies.
"""

import asyncio
from collections import OrderedDict
from typing import ClassVar

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

# Time limit for a connection's first byte, and then for a whole head.
HEAD_S = 10.0
MAX_WAITING = 128
# Size limit of a head. A longer head gets status 400.
MAX_HEAD_BYTES = 32 * 1024


class TimedProtocol(HttpToolsProtocol):
    """uvicorn's HTTP/1.1 with limits. When too many connections wait, the oldest is closed."""

    _waiting: ClassVar["OrderedDict[TimedProtocol, asyncio.TimerHandle]"] = OrderedDict()
    _in_head = False
    # What has come since the head began.
    _head_bytes = 0

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._wait()

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        if self.cycle is not None and not self.cycle.response_complete:
            self._wait_no_more()
        else:
            self._wait()
        if self._in_head:
            self._head_bytes += len(data)
            if self._head_bytes > MAX_HEAD_BYTES and not self.transport.is_closing():
                self.send_400_response("The head of the request is too large.")

    def on_message_begin(self) -> None:
        self._in_head, self._head_bytes = True, 0
        super().on_message_begin()

    def on_headers_complete(self) -> None:
        self._in_head = False
        super().on_headers_complete()

    def on_header(self, name: bytes, value: bytes) -> None:
        # RFC 9110 excludes white space around a value; the parser leaves it at the end.
        super().on_header(name, value.strip(b" \t"))

    def connection_lost(self, exc: Exception | None) -> None:
        self._wait_no_more()
        super().connection_lost(exc)

    def _wait(self) -> None:
        if self in self._waiting or self.transport.is_closing():
            return
        self._waiting[self] = self.loop.call_later(HEAD_S, self._hang_up)
        if len(self._waiting) > MAX_WAITING:
            next(iter(self._waiting))._hang_up()

    def _wait_no_more(self) -> None:
        timer = self._waiting.pop(self, None)
        if timer is not None:
            timer.cancel()

    def _hang_up(self) -> None:
        self._wait_no_more()
        self.transport.abort()
