"""How is a request sent to a provider's server? Only to its own host, authorized, rate-limited, retried and judged.

`wire` reads the answer; `refusals` and the provider interpret a refusal; `explorer.extract` decides which requests read a
resource.
"""

import random
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from types import TracebackType
from typing import Any, Self, TypeVar

import httpx
import msgspec

from explorer.core.settings import Settings
from explorer.http import constants
from explorer.http.address import Server
from explorer.http.answers import RequestFailed, Target, decoded, malformed, unreachable
from explorer.http.api import Api, Caller, Refusal
from explorer.http.authorization import Authorization, Credential, Refresh
from explorer.http.errors import CredentialsInvalid, NoSuchRecord, ResponseMalformed
from explorer.http.failures import AnswerRefused, NoAnswer
from explorer.http.limiter import Paused, RateLimiter
from explorer.http.refusals import is_retryable, read_refusal, retry_after_s, throttled
from explorer.http.wire import Answer, Wire

T = TypeVar("T")
Params = Iterable[tuple[str, str]]


@dataclass
class Usage:
    """The cost of a resource so far: `requests` sent (with retries) and `bytes` received over the wire."""

    requests: int = 0
    bytes: int = 0


class ApiClient:
    """A tenant's API. A context manager. Thread-safe.

    `api`: the provider's part. `credential`: the catalog's ApiKeyCredential or OAuthCredential. `refresh(stale_access_token,
    renew)` stores a renewed token and returns the credential in force; without it a renewed token lives as long as the client.
    `limiter`: the request rate, shared with other clients of the tenant; without it the client has its own. `sleep`: how to
    wait. `transport`: replaces the network.

    Raises:
        WrongServer: the server's address cannot be used.
    """

    def __init__(
        self,
        api: Api,
        server: str,
        credential: Credential,
        *,
        settings: Settings,
        refresh: Refresh | None = None,
        limiter: RateLimiter | None = None,
        sleep: Callable[[float], object] | None = None,
        transport: httpx.BaseTransport | None = None,
        max_attempts: int | None = None,
    ) -> None:
        self.api = api
        self.server = Server.parse(server, api.service.name, api.service.example_url)
        self.limiter = limiter or RateLimiter(settings.requests_per_second)
        self._settings = settings
        self._max_attempts = max_attempts or settings.http_max_attempts
        self._usage: dict[str, Usage] = {}
        self._usage_lock = threading.Lock()
        self._timing = threading.local()
        self._behind_s = 0.0
        self._wire = Wire(self.server, settings, transport)
        self._sleep = sleep or self._wire.rest
        self._authorization = Authorization(self.server, api, credential, refresh, self._wire)
        username = getattr(credential, "username", None)
        self._caller = Caller(api.service, self.server.host, api.tenant_id, username, self.limiter.lifted_by)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.server.base!r}, {self.api.tenant_id!r})"

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections."""
        self._wire.close()

    def stop(self) -> None:
        """End all requests and waits in all threads; later requests fail at once."""
        self._wire.stop()

    @property
    def last_request_s(self) -> float:
        """Seconds that the server took for this thread's last answer, without waiting; 0 before the first one."""
        return getattr(self._timing, "last_request_s", 0.0)

    @property
    def server_behind_s(self) -> float:
        """How many seconds the server's clock is at most behind ours, by the dates of its answers; 0 when it is not."""
        return self._behind_s

    def usage(self, resource: str) -> Usage:
        """Requests and bytes that this client spent on `resource`."""
        with self._usage_lock:
            return self._usage.setdefault(resource, Usage())

    @property
    def total_usage(self) -> Usage:
        """Requests and bytes that this client spent on all resources."""
        with self._usage_lock:
            spent = list(self._usage.values())
            return Usage(sum(usage.requests for usage in spent), sum(usage.bytes for usage in spent))

    def get_json(self, endpoint: str, *, resource: str, params: Params = (), of_tenant: bool = True) -> Any:
        """An answer as plain Python values. Raises what `get` raises."""
        return self.get(endpoint, params, resource=resource, decode=msgspec.json.decode, of_tenant=of_tenant)

    def get(
        self,
        endpoint: str,
        params: Params = (),
        *,
        resource: str,
        decode: Callable[[bytes], T],
        page: int = 1,
        of_tenant: bool = True,
    ) -> T:
        """`decode(body)` of an endpoint's answer. `of_tenant`: the endpoint is the tenant's, otherwise the server's.

        Transient failures are retried: throttling, server errors, cut connections, truncated JSON. Failures that would repeat
        are not (too large, broken, of another shape, refused): see the table in docs/loading.md. `decode` raises
        msgspec.DecodeError for text that is no JSON and msgspec.ValidationError for JSON of another shape.

        Raises:
            ApiError: the subclass says what the server meant; resource and page are in its details.
            ExplorerError: what `RateLimiter.wait` raises.
        """
        return self._ask(self._target(endpoint, resource, page, tuple(params), of_tenant=of_tenant), decode)

    def find(self, endpoint: str, *, resource: str, decode: Callable[[bytes], T]) -> T | None:
        """`decode(body)` of the single record at `endpoint`; None when the API states that it does not exist.

        Raises:
            ApiError: any other answer, which proves nothing about the record.
        """
        target = self._target(endpoint, resource, is_record=True)
        try:
            return self._ask(target, decode)
        except NoSuchRecord:
            return None

    def post(self, endpoint: str, body: object, *, resource: str, decode: Callable[[bytes], T]) -> T:
        """`decode(answer)` of a query too long for a URL. It changes nothing on the server and is retried like `get`.

        Raises what `get` raises.
        """
        return self._ask(self._target(endpoint, resource, body=body), decode)

    def _target(
        self,
        endpoint: str,
        resource: str,
        page: int = 1,
        params: tuple[tuple[str, str], ...] = (),
        *,
        of_tenant: bool = True,
        body: object = None,
        is_record: bool = False,
    ) -> Target:
        url = self.api.url(self.server, endpoint, of_tenant=of_tenant)
        return Target(self.api.service.name, url, resource, page, params, body, is_record)

    def _ask(self, target: Target, decode: Callable[[bytes], T]) -> T:
        attempt, waited_s, renewed_token = 0, 0.0, None
        while True:
            headers, token = self._authorization.headers()
            try:
                return self._try_once(target, headers, decode)
            except RequestFailed as refused:
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
                error.is_final = not refused.retryable
                if error.is_final or attempt >= self._max_attempts:
                    raise error from None
                asked_s = refused.retry_after_s or 0.0
                if asked_s > self._settings.http_max_retry_after_s:
                    error.is_final = True
                    raise error from None
                self._sleep(max(asked_s, _backoff_s(attempt)))

    def next_params(
        self, link: str, *, endpoint: str, resource: str, page: int, of_tenant: bool = True
    ) -> list[tuple[str, str]]:
        """Parameters of the page that `link` (the answer's `next`) names.

        Raises:
            ResponseMalformed: the link leads to another host or nowhere.
        """
        found = self.server.next_params(self.api.url(self.server, endpoint, of_tenant=of_tenant), link)
        if found is None:
            raise ResponseMalformed(
                f"{resource}: page {page} names a next page that is not on {self.server.host}.",
                provider=self.api.service.name,
                next_step="Nothing was sent there. Check the server's own address settings (or a proxy in between).",
                details={"resource": resource, "page": page},
            )
        return found

    def _try_once(self, target: Target, headers: Mapping[str, str], decode: Callable[[bytes], T]) -> T:
        self._wait_for_slot(target)
        began = time.monotonic()
        try:
            answer = self._wire.send(
                "GET" if target.body is None else "POST",
                target.url,
                params=target.params,
                headers=headers,
                json=target.body,
            )
        except NoAnswer as none:
            self._count(target.resource, 0)
            raise RequestFailed(None, unreachable(self.server.host, target, none), retryable=none.may_pass) from None
        except AnswerRefused as refused:
            self._count(target.resource, refused.received)
            # With any status: an answer that cannot be read gives no reason to wait or to renew.
            raise RequestFailed(None, malformed(target, refused.why), retryable=refused.may_pass) from None
        self._timing.last_request_s = time.monotonic() - began
        self._count(target.resource, answer.received)
        self._behind_s = max(self._behind_s, _seconds_since(answer.headers.get("Date")))
        if answer.status == 200:
            return decoded(target, answer, decode)
        raise self._refused(target, answer)

    def _refused(self, target: Target, answer: Answer) -> RequestFailed:
        refusal = Refusal(answer.status, answer.headers, answer.body, target.details, self._caller)
        if target.is_record and self.api.is_no_such_record(refusal):
            none = NoSuchRecord(
                f"{target.resource}: the server has no such record.", provider=target.provider, details=target.details
            )
            return RequestFailed(answer.status, none, retryable=False)
        error = read_refusal(refusal, self.api)
        wait_s = retry_after_s(answer.headers.get("Retry-After"))
        return RequestFailed(answer.status, error, retryable=is_retryable(refusal, error), retry_after_s=wait_s)

    def _wait_for_slot(self, target: Target) -> None:
        try:
            self.limiter.wait(self._sleep, longest_pause_s=self._settings.http_max_retry_after_s)
        except Paused as pause:
            error = throttled(target.details, self._caller, pause.remaining_s, was_asked=False)
            raise RequestFailed(None, error, retryable=False) from None

    def _count(self, resource: str, received: int) -> None:
        usage = self.usage(resource)
        with self._usage_lock:
            usage.requests += 1
            usage.bytes += received
        self.limiter.received(received)

    def _wait_for_allowance(self, refused: RequestFailed, waited_s: float, attempt: int) -> float:
        """Sleep as a 429 demands. Returns the seconds slept. Raises Throttled when that is longer than a run waits."""
        longest_s = self._settings.http_max_retry_after_s
        asked_s = refused.retry_after_s
        wait_s = max(
            asked_s if asked_s is not None else constants.RETRY_AFTER_DEFAULT_S, _backoff_s(attempt) if attempt else 0.0
        )
        # All others that share the allowance would be refused too.
        self.limiter.pause(wait_s)
        if wait_s > longest_s or waited_s + wait_s > longest_s * constants.THROTTLE_WAITS:
            raise refused.error from None
        # Jitter keeps waiting clients from returning all at once.
        wait_s += random.uniform(0.0, 0.25)  # noqa: S311 - spreads load, guards nothing
        self._sleep(wait_s)
        return wait_s


def _seconds_since(date: str | None) -> float:
    """Seconds since an answer's `Date`; 0 without a valid one."""
    try:
        return (datetime.now(UTC) - parsedate_to_datetime(date)).total_seconds() if date else 0.0
    except (TypeError, ValueError):
        return 0.0


def _backoff_s(attempt: int) -> float:
    """Exponential backoff with half jitter: between half of the step and the whole step."""
    step_s = min(constants.BACKOFF_MAX_S, constants.BACKOFF_FIRST_S * 2.0 ** max(0, attempt - 1))
    return step_s * random.uniform(0.5, 1.0)  # noqa: S311 - spreads load, guards nothing
