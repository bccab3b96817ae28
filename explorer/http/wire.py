"""How is one answer brought in, whatever the server sends? Bounded in time, size and encodings, and ended from outside at once.

What to ask and what an answer means is the business of `client` and `authorization`.
"""

import contextlib
import socket
import ssl
import threading
import weakref
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from importlib.metadata import version
from typing import Any, Self

import httpx

from explorer.core.settings import Settings
from explorer.http import constants
from explorer.http.address import Server
from explorer.http.body import BodyReader
from explorer.http.failures import AnswerRefused, failed, stopped, too_slow


@dataclass(frozen=True)
class Answer:
    """`body` is decoded; `received` counts its bytes as they came over the wire."""

    status: int
    headers: Mapping[str, str]
    body: bytes
    received: int


@cache
def tls_context() -> ssl.SSLContext:
    """What all connections of this process trust: reading the certificates takes 50 ms or more, so it is done once. The bundle of
    `SSL_CERT_FILE` or `SSL_CERT_DIR`, if the environment names one."""
    return httpx.create_ssl_context()


class Wire:
    """The connections to one server. Thread-safe. `transport` carries requests instead of the network."""

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
            # Proxies of the environment: only where what they carry is encrypted for the tenant's own server.
            trust_env=server.scheme == "https" and not server.is_loopback,
            transport=transport,
        )

    @property
    def is_stopped(self) -> bool:
        return self._stopped.is_set()

    def rest(self, duration_s: float) -> None:
        """Sleep, unless and until stopped."""
        self._stopped.wait(duration_s)

    def close(self) -> None:
        """Close the connections."""
        self._http.close()

    def stop(self) -> None:
        """End all requests and rests, in whatever threads they are; later ones fail at once."""
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
        """One request, with `form` or `json` as its body, and its whole answer. Redirects are answers like others.

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
                # A body without a length ends where its connection does, also when that was cut here.
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
            # httpx, when `stop` closed it between our look and the request.
            if not self.is_stopped:
                raise
            raise stopped() from None

    def _note_connection(self, event: str, facts: Mapping[str, Any]) -> None:
        """httpcore's trace: keep the socket of each connection that is made, for `_cut`."""
        if event.endswith((".connect_tcp.complete", ".start_tls.complete")):
            connection = facts["return_value"].get_extra_info("socket")
            if connection is not None:
                with self._lock:
                    self._sockets.add(connection)

    def _cut(self, connection: socket.socket | None) -> None:
        """Break a connection, or all of them: whose headers trickle cannot be known. Requests on the others are tried again."""
        with self._lock:
            found = [connection] if connection is not None else list(self._sockets)
        for each in found:
            # Closing does not wake a thread that reads; shutting down does.
            with contextlib.suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)


class _Deadline:
    """While the block runs, `cut(socket)` is called once it takes longer than `limit_s`; `passed` tells afterwards.

    The HTTP library's own limits start anew with every byte that comes in. `connection`: the answer's, once its headers are here.
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
