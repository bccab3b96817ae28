"""How one request to a CommCare server is made: to its own host only, authorised, paced, retried, bounded and judged.

What the server's refusals mean is in `refusals`; which requests make up a resource is the business of `explorer_dagster.loading`.
"""

import contextlib
import random
import socket
import threading
import weakref
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from importlib.metadata import version
from types import TracebackType
from typing import Any, Self, TypeVar

import httpx
import msgspec

from explorer_dagster.commcare import settings as constants
from explorer_dagster.commcare.address import Server
from explorer_dagster.commcare.authorization import Authorization, Credential, Refresh
from explorer_dagster.commcare.errors import (
    CommCareError,
    CredentialsInvalid,
    NotCommCare,
    ResponseMalformed,
    Unreachable,
)
from explorer_dagster.commcare.limiter import shared_limiter
from explorer_dagster.commcare.refusals import is_retryable, retry_after_s, to_error
from explorer_dagster.settings import Settings

T = TypeVar("T")
Params = Iterable[tuple[str, str]]


@dataclass
class Usage:
    """What a resource has cost so far: `requests` sent (retries too) and `bytes` received as they came over the wire."""

    requests: int = 0
    bytes: int = 0


@dataclass(frozen=True)
class _Target:
    """One request's address and how errors name it. `token`: access token that it was sent with."""

    url: str
    resource: str
    page: int

    @property
    def details(self) -> dict[str, Any]:
        return {"resource": self.resource, "page": self.page}


class CommCareClient:
    """A project space's API. A context manager; usable from many threads at once.

    `credential`: the catalog's ApiKeyCredential or OAuthCredential. `refresh(stale_access_token, renew)` keeps a renewed token
    and returns the credential in force; without it a renewed token lives as long as the client. `sleep`: how to wait.
    `transport`: what carries requests instead of the network.

    Raises:
        NotCommCare: the server's address cannot be used.
    """

    def __init__(
        self,
        server: str,
        domain: str,
        credential: Credential,
        *,
        settings: Settings,
        refresh: Refresh | None = None,
        sleep: Callable[[float], object] | None = None,
        transport: httpx.BaseTransport | None = None,
        max_attempts: int | None = None,
    ) -> None:
        self.server = Server.parse(server)
        self.domain = domain
        self._settings = settings
        self._stopped = threading.Event()
        self._sockets: weakref.WeakSet[socket.socket] = weakref.WeakSet()
        self._sleep = sleep or self._stopped.wait
        self._max_attempts = max_attempts or settings.http_max_attempts
        self._max_bytes = settings.http_max_response_mb * 1024 * 1024
        self._limiter = shared_limiter(self.server.base, domain, settings.requests_per_second)
        self._usage: dict[str, Usage] = {}
        self._usage_lock = threading.Lock()
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
            trust_env=not self.server.is_loopback,
            transport=transport,
        )
        self._authorization = Authorization(self.server, credential, refresh, self._http)

    def __repr__(self) -> str:
        return f"CommCareClient({self.server.base!r}, {self.domain!r})"

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections."""
        self._http.close()

    def stop(self) -> None:
        """End all requests and all waiting, in whatever threads they are; later requests fail at once."""
        self._stopped.set()
        for connection in list(self._sockets):
            # Closing does not wake a thread that reads; shutting down does.
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)
        self._http.close()

    def usage(self, resource: str) -> Usage:
        """Requests and bytes spent on `resource` by this client."""
        with self._usage_lock:
            return self._usage.setdefault(resource, Usage())

    def get_json(self, endpoint: str, *, resource: str, params: Params = (), in_domain: bool = True) -> Any:
        """One answer as plain Python values. Raises what `get` raises."""
        return self.get(endpoint, params, resource=resource, decode=msgspec.json.decode, in_domain=in_domain)

    def get(
        self,
        endpoint: str,
        params: Params = (),
        *,
        resource: str,
        decode: Callable[[bytes], T],
        page: int = 1,
        in_domain: bool = True,
    ) -> T:
        """`decode(body)` of the endpoint's answer, `endpoint` relative to `{server}/a/{domain}/api/` (or `{server}/api/`).

        Throttling, server faults, cut connections and truncated JSON are tried again. `decode` raises msgspec.DecodeError for
        JSON that breaks off (tried again) and msgspec.ValidationError for JSON of another shape (not tried again).

        Raises:
            CommCareError: the subclass says what the server meant; resource and page are in its details.
        """
        target = _Target(self.server.api_url(endpoint, self.domain if in_domain else None), resource, page)
        attempt, waited_s, renewed_token = 0, 0.0, None
        while True:
            header, token = self._authorization.header()
            try:
                return self._try_once(target, tuple(params), header, decode)
            except _Refused as refused:
                status, error = refused.status, refused.error
                if status == 429:
                    waited_s += self._wait_for_allowance(refused, waited_s, attempt)
                    attempt += 1
                    continue
                if (
                    status == 401
                    and isinstance(error, CredentialsInvalid)
                    and token is not None
                    and renewed_token is None
                ):
                    renewed_token = token
                    self._authorization.renew(token)
                    continue
                attempt += 1
                if not refused.retryable or attempt >= self._max_attempts:
                    raise error from None
                self._sleep(_backoff_s(attempt))

    def next_params(
        self, link: str, *, endpoint: str, resource: str, page: int, in_domain: bool = True
    ) -> list[tuple[str, str]]:
        """Parameters of the page that `link` (the answer's `next`) names.

        Raises:
            ResponseMalformed: the link leads to another host or nowhere.
        """
        found = self.server.next_params(self.server.api_url(endpoint, self.domain if in_domain else None), link)
        if found is None:
            raise ResponseMalformed(
                f"{resource}: page {page} names a next page that is not on {self.server.host}.",
                next_step="Nothing was sent there. Check the server's own address settings (or a proxy in between).",
                details={"resource": resource, "page": page},
            )
        return found

    def _try_once(
        self, target: _Target, params: tuple[tuple[str, str], ...], header: str, decode: Callable[[bytes], T]
    ) -> T:
        self._limiter.wait(self._sleep)
        if self._stopped.is_set():
            stopped = Unreachable(
                f"{target.resource}: the client was stopped.", next_step="Start again.", details=target.details
            )
            raise _Refused(None, stopped, retryable=False)
        try:
            with self._http.stream(
                "GET",
                target.url,
                params=params or None,
                headers={"Authorization": header},
                extensions={"trace": self._note_connection},
            ) as response:
                body = self._read(target, response)
        except httpx.TransportError as error:
            self._count(target.resource, 0)
            raise _Refused(None, _unreachable(self.server, target, error), retryable=True) from None
        except httpx.DecodingError:
            raise _Refused(200, _malformed(target, "its compression is broken"), retryable=True) from None
        if response.status_code != 200:
            meaning = to_error(response.status_code, response.headers, body, target.details, self.domain)
            raise _Refused(
                response.status_code,
                meaning,
                retryable=is_retryable(response.status_code, body),
                retry_after_s=retry_after_s(response.headers.get("Retry-After")),
            )
        return _decoded(target, body, decode)

    def _read(self, target: _Target, response: httpx.Response) -> bytes:
        """The decoded body, refused as soon as it grows beyond the limit."""
        encoding = response.headers.get("Content-Encoding", "").strip().lower()
        if encoding not in constants.ACCEPTED_ENCODINGS:
            raise _Refused(
                response.status_code, _malformed(target, "its compression was not asked for"), retryable=False
            )
        chunks, size = [], 0
        for chunk in response.iter_bytes():
            size += len(chunk)
            if size > self._max_bytes:
                self._count(target.resource, response.num_bytes_downloaded)
                limit_mb = self._settings.http_max_response_mb
                raise _Refused(
                    response.status_code, _malformed(target, f"it is larger than {limit_mb} MB"), retryable=False
                )
            chunks.append(chunk)
        self._count(target.resource, response.num_bytes_downloaded)
        return b"".join(chunks)

    def _note_connection(self, event: str, facts: Mapping[str, Any]) -> None:
        """httpcore's trace: keep the socket of each connection that is made, for `stop`."""
        if event in ("connection.connect_tcp.complete", "connection.start_tls.complete"):
            connection = facts["return_value"].get_extra_info("socket")
            if connection is not None:
                self._sockets.add(connection)

    def _count(self, resource: str, received: int) -> None:
        usage = self.usage(resource)
        with self._usage_lock:
            usage.requests += 1
            usage.bytes += received

    def _wait_for_allowance(self, refused: "_Refused", waited_s: float, attempt: int) -> float:
        """Sleep as a 429 asks; the seconds slept. Raises Throttled when that is more than a run waits."""
        longest_s = self._settings.http_max_retry_after_s
        asked_s = refused.retry_after_s
        wait_s = max(
            asked_s if asked_s is not None else constants.RETRY_AFTER_DEFAULT_S, _backoff_s(attempt) if attempt else 0.0
        )
        if (asked_s or 0.0) > longest_s or waited_s + wait_s > longest_s * constants.THROTTLE_PATIENCE:
            raise refused.error from None
        # All threads of this project space would be refused as well; a little jitter keeps them from coming back as one.
        self._limiter.pause(wait_s)
        wait_s += random.uniform(0.0, 0.25)  # noqa: S311 - spreads load, guards nothing
        self._sleep(wait_s)
        return wait_s


class _Refused(Exception):
    """One try that gave no answer. `status` None: no answer at all."""

    def __init__(
        self, status: int | None, error: CommCareError, *, retryable: bool, retry_after_s: float | None = None
    ) -> None:
        super().__init__()
        self.status = status
        self.error = error
        self.retryable = retryable
        self.retry_after_s = retry_after_s


def _decoded(target: _Target, body: bytes, decode: Callable[[bytes], T]) -> T:
    try:
        return decode(body)
    except msgspec.ValidationError as error:
        raise _Refused(200, _malformed(target, f"it has another shape than agreed: {error}"), retryable=False) from None
    except RecursionError:
        raise _Refused(200, _malformed(target, "it is nested too deeply"), retryable=False) from None
    except (msgspec.DecodeError, UnicodeDecodeError):
        if body.lstrip()[:1] == b"<":
            page = NotCommCare(
                f"{target.resource}: page {target.page} is a web page, not data.",
                next_step="Check the tenant's server address: a login or maintenance page may stand in front of it.",
                details=target.details,
            )
            raise _Refused(200, page, retryable=False) from None
        raise _Refused(200, _malformed(target, "its JSON breaks off or is broken"), retryable=True) from None


def _malformed(target: _Target, why: str) -> ResponseMalformed:
    return ResponseMalformed(
        f"{target.resource}: page {target.page} of the server's answer cannot be used: {why}.",
        next_step="What was loaded before is untouched. If it happens again, report it to the server's operator.",
        details=target.details,
    )


def _unreachable(server: Server, target: _Target, error: httpx.TransportError) -> CommCareError:
    what = "cannot be reached"
    if isinstance(error, httpx.RemoteProtocolError | httpx.ReadError):
        what = "broke off its answer"
    elif isinstance(error, httpx.TimeoutException):
        what = "did not answer in time"
    return Unreachable(
        f"{server.host} {what} ({target.resource}, page {target.page}; {type(error).__name__}).",
        next_step="Check the server's address and the network, then try again.",
        details=target.details,
    )


def _backoff_s(attempt: int) -> float:
    """Exponential with full half-jitter: between half of and the whole of the step."""
    step_s = min(constants.BACKOFF_MAX_S, constants.BACKOFF_FIRST_S * 2.0 ** max(0, attempt - 1))
    return step_s * random.uniform(0.5, 1.0)  # noqa: S311 - spreads load, guards nothing
