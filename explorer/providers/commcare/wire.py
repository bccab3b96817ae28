"""How is one answer brought in, whatever the server sends? Bounded in time, size and encodings, and ended from outside at once.

What to ask and what an answer means is the business of `client` and `authorization`.
"""

import contextlib
import socket
import ssl
import threading
import weakref
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from importlib.metadata import version
from typing import Any, Self

import httpx

from explorer.core.settings import Settings
from explorer.providers.commcare import settings as constants
from explorer.providers.commcare.address import Server

_PIECE_BYTES = 256 * 1024


@dataclass(frozen=True)
class Answer:
    """`body` is decoded; `received` counts its bytes as they came over the wire."""

    status: int
    headers: Mapping[str, str]
    body: bytes
    received: int


class NoAnswer(Exception):
    """Nothing came, or not to the end. `why` continues a sentence that begins with the server; `kind`: the library's word;
    `may_pass`: another try may bring something."""

    def __init__(self, why: str, kind: str, *, may_pass: bool = True) -> None:
        super().__init__(why)
        self.why = why
        self.kind = kind
        self.may_pass = may_pass


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
        self._large = threading.Semaphore()
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
        json: object = None,
    ) -> Answer:
        """One request, with `form` or `json` as its body, and its whole answer. Redirects are answers like others.

        Raises:
            NoAnswer, AnswerRefused.
        """
        deadline = _Deadline(self._max_answer_s, self._cut)
        try:
            if self.is_stopped:
                raise _stopped()
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
                body = self._read(response)
            if deadline.passed:
                # A body without a length ends where its connection does, also when that was cut here.
                raise httpx.ReadTimeout("deadline")
            return Answer(response.status_code, response.headers, body, response.num_bytes_downloaded)
        except httpx.TransportError as error:
            if deadline.passed:
                raise _too_slow(type(error).__name__) from None
            raise _failed(error, is_stopped=self.is_stopped) from None
        except AnswerRefused as refused:
            if deadline.passed and refused.may_pass:
                raise _too_slow("ReadTimeout") from None
            raise
        except RuntimeError:
            # httpx, when `stop` closed it between our look and the request.
            if not self.is_stopped:
                raise
            raise _stopped() from None

    def _read(self, response: httpx.Response) -> bytes:
        """The decoded body, refused as soon as it grows beyond the limit."""
        status, encoding = response.status_code, response.headers.get("Content-Encoding", "").strip().lower()
        if encoding not in constants.ACCEPTED_ENCODINGS:
            raise AnswerRefused(status, "its compression was not asked for", may_pass=False)
        chunks, size, limit = [], 0, self._max_mb * 1024 * 1024
        # One at a time: the threads of a load must not fill memory together before each has reached its own limit.
        is_large = False
        announced = response.headers.get("Content-Length", "")
        if response.is_stream_consumed:
            # A transport that hands over whole answers has unpacked them.
            pieces: Iterator[bytes] = iter([response.content])
        else:
            pieces = response.iter_raw() if encoding in ("", "identity") else _unpacked(response, encoding)
        if announced.isdigit() and int(announced) > limit:
            raise AnswerRefused(status, f"it is larger than {self._max_mb} MB", may_pass=False)
        try:
            for piece in pieces:
                size += len(piece)
                received = response.num_bytes_downloaded
                if size > limit:
                    raise AnswerRefused(
                        status, f"it is larger than {self._max_mb} MB", may_pass=False, received=received
                    )
                if encoding and size > constants.BOMB_BYTES and size > constants.BOMB_RATIO * received:
                    why = f"it unpacks to more than {constants.BOMB_RATIO} times its size"
                    raise AnswerRefused(status, why, may_pass=False, received=received)
                if not is_large and size > constants.LARGE_ANSWER_BYTES:
                    is_large = self._large.acquire(timeout=self._max_answer_s)
                chunks.append(piece)
        except zlib.error:
            received = response.num_bytes_downloaded
            raise AnswerRefused(status, "its compression is broken", may_pass=False, received=received) from None
        except EOFError:
            received = response.num_bytes_downloaded
            raise AnswerRefused(status, "its compression breaks off", may_pass=True, received=received) from None
        finally:
            if is_large:
                self._large.release()
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


def _unpacked(response: httpx.Response, encoding: str) -> Iterator[bytes]:
    """The decoded body in pieces of a bounded size, whatever a piece on the wire unpacks to. gzip may have several members.

    Raises:
        zlib.error: it is not what its header says.
        EOFError: it breaks off.
    """
    unpacker: Any = None
    for left in response.iter_raw():
        while left:
            if unpacker is None or (unpacker.eof and encoding == "gzip"):
                # Under the name of deflate comes a zlib stream or, from some servers, a bare one: the first byte tells.
                bits = 31 if encoding == "gzip" else 15 if left[0] & 0x0F == 8 else -15
                unpacker = zlib.decompressobj(bits)
            elif unpacker.eof:
                raise zlib.error("data behind the end")
            yield unpacker.decompress(left, _PIECE_BYTES)
            left = unpacker.unused_data if unpacker.eof else unpacker.unconsumed_tail
    # What came last may have more inside than one piece.
    while unpacker is not None and not unpacker.eof:
        more = unpacker.decompress(b"", _PIECE_BYTES)
        if not more:
            raise EOFError
        yield more


def _too_slow(kind: str) -> NoAnswer:
    return NoAnswer("did not end its answer in time", kind)


def _stopped() -> NoAnswer:
    return NoAnswer("was not asked, the client was stopped", "stopped", may_pass=False)


def _failed(error: httpx.TransportError, *, is_stopped: bool) -> NoAnswer | AnswerRefused:
    """What an error of the HTTP library means, and whether another try is worth it."""
    kind = type(error).__name__
    if isinstance(error, httpx.RemoteProtocolError):
        text = str(error)
        # h11 holds no more than so much of one header, status or chunk line.
        if "too long" in text:
            return AnswerRefused(0, "its headers or one of its lines are too long", may_pass=False)
        if any(word in text for word in ("closed", "disconnected", "terminated")):
            return NoAnswer("broke off its answer", kind, may_pass=not is_stopped)
        return NoAnswer("sent something that is not HTTP", kind, may_pass=False)
    if isinstance(error, httpx.UnsupportedProtocol | httpx.LocalProtocolError):
        return NoAnswer("cannot be asked like this", kind, may_pass=False)
    for cause in _causes(error):
        if isinstance(cause, ssl.SSLCertVerificationError):
            return NoAnswer(f"shows a certificate that is not trusted ({cause.verify_message})", kind, may_pass=False)
        if isinstance(cause, ssl.SSLError) and not isinstance(cause, _PASSING_TLS):
            return NoAnswer("does not agree on an encrypted connection", kind, may_pass=False)
        if isinstance(cause, socket.gaierror):
            return NoAnswer("has no address that is known here", kind, may_pass=cause.errno == socket.EAI_AGAIN)
    if isinstance(error, httpx.ReadError):
        return NoAnswer("broke off its answer", kind, may_pass=not is_stopped)
    why = "did not answer in time" if isinstance(error, httpx.TimeoutException) else "cannot be reached"
    return NoAnswer(why, kind, may_pass=not is_stopped)


# Connections that were cut while they were being encrypted.
_PASSING_TLS = (ssl.SSLEOFError, ssl.SSLZeroReturnError, ssl.SSLSyscallError)


def _causes(error: BaseException) -> Iterator[BaseException]:
    cause: BaseException | None = error
    while cause is not None:
        yield cause
        cause = cause.__cause__ or cause.__context__
