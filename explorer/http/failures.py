"""Why is there no usable answer, and is a retry worth it? Errors of the HTTP library in our own types."""

import socket
import ssl
from collections.abc import Iterator

import httpx


class NoAnswer(Exception):
    """No answer, or only a part. `why` continues a sentence that begins with the server; `kind`: the library's name for it;
    `may_pass`: a retry may succeed."""

    def __init__(self, why: str, kind: str, *, may_pass: bool = True) -> None:
        super().__init__(why)
        self.why = why
        self.kind = kind
        self.may_pass = may_pass


class AnswerRefused(Exception):
    """An answer that is not read. `why` continues a sentence; `may_pass`: a retry may succeed."""

    def __init__(self, status: int, why: str, *, may_pass: bool, received: int = 0) -> None:
        super().__init__(why)
        self.status = status
        self.why = why
        self.may_pass = may_pass
        self.received = received


def too_slow(kind: str) -> NoAnswer:
    return NoAnswer("did not end its answer in time", kind)


def stopped() -> NoAnswer:
    return NoAnswer("was not asked, the client was stopped", "stopped", may_pass=False)


def failed(error: httpx.TransportError, *, is_stopped: bool) -> NoAnswer | AnswerRefused:
    """The meaning of an error of the HTTP library, and whether a retry is worth it."""
    kind = type(error).__name__
    if isinstance(error, httpx.RemoteProtocolError):
        text = str(error)
        # h11's limit for one header, status or chunk line.
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


# Connections that broke during the TLS handshake or transfer.
_PASSING_TLS = (ssl.SSLEOFError, ssl.SSLZeroReturnError, ssl.SSLSyscallError)


def _causes(error: BaseException) -> Iterator[BaseException]:
    cause: BaseException | None = error
    while cause is not None:
        yield cause
        cause = cause.__cause__ or cause.__context__
