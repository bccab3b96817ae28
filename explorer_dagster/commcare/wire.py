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

from explorer_dagster.commcare import settings as constants
from explorer_dagster.commcare.address import Server
from explorer_dagster.settings import Settings


@dataclass(frozen=True)
class Answer:
    """`body` is decoded; `received` counts its bytes as they came over the wire."""

    status: int
    headers: Mapping[str, str]
    body: bytes
    received: int


class NoAnswer(Exception):
    """Nothing came, or not to the end. `why` continues a sentence that begins with the server; `kind`: the library's word."""

    def __init__(self, why: str, kind: str) -> None:
        super().__init__(why)
        self.why = why
        self.kind = kind


class AnswerRefused(Exception):
    """What came is not taken in. `why` continues a sentence; `may_pass`: another try may bring something else."""

    def __init__(self, status: int, why: str, *, may_pass: bool, received: int = 0) -> None:
        super().__init__(why)
        self.status = status
        self.why = why
        self.may_pass = may_pass
        self.received = received


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
        self._max_answer_s = settings.http_timeout_s * constants.ANSWER_PATIENCE
        self._max_mb = settings.http_max_response_mb
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
    ) -> Answer:
        """One request and its whole answer. Redirects are answers like others.

        Raises:
            NoAnswer, AnswerRefused.
        """
        deadline = _Deadline(self._max_answer_s, self._cut)
        try:
            if self.is_stopped:
                raise NoAnswer("was not asked, the client was stopped", "stopped")
            with (
                deadline,
                self._http.stream(
                    method,
                    url,
                    params=tuple(params) or None,
                    headers=headers,
                    data=form,
                    extensions={"trace": self._note_connection},
                ) as response,
            ):
                deadline.connection = response.extensions.get("network_stream")
                body = self._read(response)
            if deadline.passed:
                # A body without a length ends where its connection does, also when that was cut here.
                raise httpx.ReadTimeout("deadline")
            return Answer(response.status_code, response.headers, body, response.num_bytes_downloaded)
        except httpx.TransportError as error:
            why = "did not end its answer in time" if deadline.passed else _what_happened(error)
            raise NoAnswer(why, type(error).__name__) from None
        except httpx.DecodingError:
            raise AnswerRefused(200, "its compression is broken", may_pass=True) from None
        except RuntimeError:
            # httpx, when `stop` closed it between our look and the request.
            if not self.is_stopped:
                raise
            raise NoAnswer("was not asked, the client was stopped", "stopped") from None

    def _read(self, response: httpx.Response) -> bytes:
        """The decoded body, refused as soon as it grows beyond the limit."""
        status = response.status_code
        if response.headers.get("Content-Encoding", "").strip().lower() not in constants.ACCEPTED_ENCODINGS:
            raise AnswerRefused(status, "its compression was not asked for", may_pass=False)
        chunks, size = [], 0
        for chunk in response.iter_bytes():
            size += len(chunk)
            if size > self._max_mb * 1024 * 1024:
                received = response.num_bytes_downloaded
                raise AnswerRefused(status, f"it is larger than {self._max_mb} MB", may_pass=False, received=received)
            chunks.append(chunk)
        return b"".join(chunks)

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


def _what_happened(error: httpx.TransportError) -> str:
    if isinstance(error, httpx.RemoteProtocolError | httpx.ReadError):
        return "broke off its answer"
    return "did not answer in time" if isinstance(error, httpx.TimeoutException) else "cannot be reached"
