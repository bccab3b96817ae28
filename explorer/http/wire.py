"""How is one answer received? Bounded in time, size and encodings, and stoppable from other threads.

`client` and `authorization` decide what to request and what an answer means.
"""

import contextlib
import socket
import threading
import weakref
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from importlib.metadata import version
from typing import Any, Self

import httpx

from explorer.core.settings import Settings
from explorer.core.tls import tls_context
from explorer.http import constants
from explorer.http.address import Server
from explorer.http.body import BodyReader
from explorer.http.failures import AnswerRefused, failed, stopped, too_slow


@dataclass(frozen=True)
class Answer:
    """`body`: decoded; `received`: bytes over the wire."""

    status: int
    headers: Mapping[str, str]
    body: bytes
    received: int


class Wire:
    """The connections to one server. Thread-safe. `transport`: replaces the network."""

    def __init__(self, server: Server, settings: Settings, transport: httpx.BaseTransport | None = None) -> None:
        self._stopped = threading.Event()
        self._lock = threading.Lock()
        self._sockets: weakref.WeakSet[socket.socket] = weakref.WeakSet()
        self._max_answer_s = settings.http_timeout_s * constants.ANSWER_TIMEOUTS
        self._body = BodyReader(settings.http_max_response_mb, self._max_answer_s)
        self._http = httpx.Client(
            headers={
                "User-Agent": f"data-explorer/{version('data-explorer')}",
                "Accept": "application/json",
                "Accept-Encoding": "gzip, deflate",
            },
            timeout=httpx.Timeout(
                settings.http_timeout_s, connect=min(constants.CONNECT_TIMEOUT_S, settings.http_timeout_s)
            ),
            limits=httpx.Limits(
                max_connections=constants.MAX_CONNECTIONS, max_keepalive_connections=constants.MAX_CONNECTIONS
            ),
            follow_redirects=False,
            verify=tls_context(),
            # Proxies of the environment are used only where the content is encrypted for the tenant's server.
            trust_env=server.scheme == "https" and not server.is_loopback,
            transport=transport,
        )

    @property
    def is_stopped(self) -> bool:
        return self._stopped.is_set()

    def rest(self, duration_s: float) -> None:
        """Sleep until stopped, at most `duration_s`."""
        self._stopped.wait(duration_s)

    def close(self) -> None:
        """Close the connections."""
        self._http.close()

    def stop(self) -> None:
        """End all requests and sleeps in all threads; later ones fail at once."""
        self._stopped.set()
        self._cut(None)
        self._http.close()

    def send(
        self,
        method: str,
        url: str,
        *,
        params: Iterable[tuple[str, str]] = (),
        headers: Mapping[str, str] | None = None,
        form: Mapping[str, str] | None = None,
        json: object = None,
    ) -> Answer:
        """Send one request, with `form` or `json` as its body, and return its whole answer. Redirects are not followed.

        Raises:
            NoAnswer, AnswerRefused.
        """
        deadline = _Deadline(self._max_answer_s, self._cut)
        try:
            if self.is_stopped:
                raise stopped()
            with (
                deadline,
                self._http.stream(
                    method,
                    url,
                    params=tuple(params) or None,
                    headers=headers,
                    data=form,
                    json=json,
                    extensions={"trace": self._note_connection},
                ) as response,
            ):
                deadline.connection = response.extensions.get("network_stream")
                body = self._body.read(response)
            if deadline.passed:
                # A body without a length ends with its connection, also when we cut that.
                raise httpx.ReadTimeout("deadline")
            return Answer(response.status_code, response.headers, body, response.num_bytes_downloaded)
        except httpx.TransportError as error:
            if deadline.passed:
                raise too_slow(type(error).__name__) from None
            raise failed(error, is_stopped=self.is_stopped) from None
        except AnswerRefused as refused:
            if deadline.passed and refused.may_pass:
                raise too_slow("ReadTimeout") from None
            raise
        except RuntimeError:
            # httpx raised this because `stop` closed it between our check and the request.
            if not self.is_stopped:
                raise
            raise stopped() from None

    def _note_connection(self, event: str, facts: Mapping[str, Any]) -> None:
        """Trace hook of httpcore: remember the socket of each new connection for `_cut`."""
        if event.endswith((".connect_tcp.complete", ".start_tls.complete")):
            connection = facts["return_value"].get_extra_info("socket")
            if connection is not None:
                with self._lock:
                    self._sockets.add(connection)

    def _cut(self, connection: socket.socket | None) -> None:
        """Break one connection, or all: which one sends slow headers is unknown. Requests on the others are retried."""
        with self._lock:
            found = [connection] if connection is not None else list(self._sockets)
        for each in found:
            # Closing does not wake a thread that reads; a shutdown does.
            with contextlib.suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)


class _Deadline:
    """Calls `cut(socket)` when the block takes longer than `limit_s`; `passed` says afterwards whether it did.

    The HTTP library's own limits restart with every byte. `connection`: the answer's, once its headers are read.
    """

    def __init__(self, limit_s: float, cut: Callable[[socket.socket | None], None]) -> None:
        self.passed = False
        self.connection: Any = None
        self._cut = cut
        self._timer = threading.Timer(limit_s, self._expire)
        self._timer.daemon = True

    def __enter__(self) -> Self:
        self._timer.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._timer.cancel()

    def _expire(self) -> None:
        self.passed = True
        self._cut(self.connection.get_extra_info("socket") if self.connection is not None else None)
