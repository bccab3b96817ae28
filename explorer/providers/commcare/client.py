"""How one request to a CommCare server is made: to its own host only, authorised, paced, retried and judged.

How an answer comes in is in `wire`, what the server's refusals mean in `refusals`; which requests make up a resource is the
business of `explorer.load`.
"""

import random
import threading
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from types import TracebackType
from typing import Any, Self, TypeVar

import httpx
import msgspec

from explorer.core.settings import Settings
from explorer.providers.commcare import settings as constants
from explorer.providers.commcare.address import Server
from explorer.providers.commcare.authorization import Authorization, Credential, Refresh
from explorer.providers.commcare.errors import (
    CommCareError,
    CredentialsInvalid,
    NoSuchRecord,
    ResponseMalformed,
    Unreachable,
)
from explorer.providers.commcare.limiter import Paused, RateLimiter
from explorer.providers.commcare.refusals import (
    Who,
    is_no_such_record,
    is_retryable,
    is_web_page,
    retry_after_s,
    throttled,
    to_error,
    web_page,
)
from explorer.providers.commcare.wire import Answer, AnswerRefused, NoAnswer, Wire

T = TypeVar("T")
Params = Iterable[tuple[str, str]]


@dataclass
class Usage:
    """What a resource has cost so far: `requests` sent (retries too) and `bytes` received as they came over the wire."""

    requests: int = 0
    bytes: int = 0


@dataclass(frozen=True)
class _Target:
    """One request's address and how errors name it. `body`: what is posted; `is_record`: one record is asked for."""

    url: str
    resource: str
    page: int = 1
    params: tuple[tuple[str, str], ...] = ()
    body: object = None
    is_record: bool = False

    @property
    def details(self) -> dict[str, Any]:
        return {"resource": self.resource, "page": self.page}


class CommCareClient:
    """A project space's API. A context manager; usable from many threads at once.

    `credential`: the catalog's ApiKeyCredential or OAuthCredential. `refresh(stale_access_token, renew)` keeps a renewed token
    and returns the credential in force; without it a renewed token lives as long as the client. `limiter`: the pace of requests,
    in common with others who use the project space; without it the client has one of its own. `sleep`: how to wait. `transport`:
    what carries requests instead of the network.

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
        limiter: RateLimiter | None = None,
        sleep: Callable[[float], object] | None = None,
        transport: httpx.BaseTransport | None = None,
        max_attempts: int | None = None,
    ) -> None:
        self.server = Server.parse(server)
        self.domain = domain
        self.limiter = limiter or RateLimiter(settings.requests_per_second)
        self._settings = settings
        self._max_attempts = max_attempts or settings.http_max_attempts
        self._usage: dict[str, Usage] = {}
        self._usage_lock = threading.Lock()
        self._timing = threading.local()
        self._behind_s = 0.0
        self._wire = Wire(self.server, settings, transport)
        self._sleep = sleep or self._wire.rest
        self._authorization = Authorization(self.server, credential, refresh, self._wire)
        self._who = Who(self.server.host, domain, getattr(credential, "username", None), self.limiter.lifted_by)

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
        self._wire.close()

    def stop(self) -> None:
        """End all requests and all waiting, in whatever threads they are; later requests fail at once."""
        self._wire.stop()

    @property
    def last_request_s(self) -> float:
        """Seconds that the server took for the calling thread's last answer, without what was waited before; at first 0."""
        return getattr(self._timing, "last_request_s", 0.0)

    @property
    def server_behind_s(self) -> float:
        """How many seconds the server's clock is behind ours at most, as far as its answers tell; 0 when it is not."""
        return self._behind_s

    def usage(self, resource: str) -> Usage:
        """Requests and bytes spent on `resource` by this client."""
        with self._usage_lock:
            return self._usage.setdefault(resource, Usage())

    @property
    def total_usage(self) -> Usage:
        """Requests and bytes spent on all resources by this client."""
        with self._usage_lock:
            spent = list(self._usage.values())
            return Usage(sum(usage.requests for usage in spent), sum(usage.bytes for usage in spent))

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

        What may pass is tried again: throttling, server faults, cut connections, JSON that breaks off. What would come again as
        it is (too large, broken, of another shape, refused) is not: the table is in docs/loading.md. `decode` raises
        msgspec.DecodeError for what is no JSON and msgspec.ValidationError for JSON of another shape.

        Raises:
            CommCareError: the subclass says what the server meant; resource and page are in its details.
        """
        url = self.server.api_url(endpoint, self.domain if in_domain else None)
        return self._ask(_Target(url, resource, page, tuple(params)), decode)

    def find(self, endpoint: str, *, resource: str, decode: Callable[[bytes], T]) -> T | None:
        """`decode(body)` of the single record at `endpoint`; None when the API says in its own way that there is none.

        Raises:
            CommCareError: any other answer, which proves nothing about the record.
        """
        target = _Target(self.server.api_url(endpoint, self.domain), resource, is_record=True)
        try:
            return self._ask(target, decode)
        except NoSuchRecord:
            return None

    def post(self, endpoint: str, body: object, *, resource: str, decode: Callable[[bytes], T]) -> T:
        """`decode(answer)` of a question too long for an address; it changes nothing at the server and is tried again too.

        Raises what `get` raises.
        """
        return self._ask(_Target(self.server.api_url(endpoint, self.domain), resource, body=body), decode)

    def _ask(self, target: _Target, decode: Callable[[bytes], T]) -> T:
        attempt, waited_s, renewed_token = 0, 0.0, None
        while True:
            header, token = self._authorization.header()
            try:
                return self._try_once(target, header, decode)
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
                error.is_final = not refused.retryable
                if error.is_final or attempt >= self._max_attempts:
                    raise error from None
                asked_s = refused.retry_after_s or 0.0
                if asked_s > self._settings.http_max_retry_after_s:
                    error.is_final = True
                    raise error from None
                self._sleep(max(asked_s, _backoff_s(attempt)))

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

    def _try_once(self, target: _Target, header: str, decode: Callable[[bytes], T]) -> T:
        self._wait_for_slot(target)
        began = time.monotonic()
        try:
            answer = self._wire.send(
                "GET" if target.body is None else "POST",
                target.url,
                params=target.params,
                headers={"Authorization": header},
                json=target.body,
            )
        except NoAnswer as none:
            self._count(target.resource, 0)
            raise _Refused(None, _unreachable(self.server, target, none), retryable=none.may_pass) from None
        except AnswerRefused as refused:
            self._count(target.resource, refused.received)
            # Whatever its status: what is not read cannot be waited for or renewed.
            raise _Refused(None, _malformed(target, refused.why), retryable=refused.may_pass) from None
        self._timing.last_request_s = time.monotonic() - began
        self._count(target.resource, answer.received)
        self._behind_s = max(self._behind_s, _seconds_since(answer.headers.get("Date")))
        if answer.status == 200:
            return _decoded(target, answer, decode)
        if target.is_record and is_no_such_record(answer.status, answer.body):
            error = NoSuchRecord(
                f"{target.resource}: the server has no such record.", next_step="", details=target.details
            )
            raise _Refused(answer.status, error, retryable=False)
        raise _Refused(
            answer.status,
            to_error(answer.status, answer.headers, answer.body, target.details, self._who),
            retryable=is_retryable(answer.status, answer.body),
            retry_after_s=retry_after_s(answer.headers.get("Retry-After")),
        )

    def _wait_for_slot(self, target: _Target) -> None:
        try:
            self.limiter.wait(self._sleep, longest_pause_s=self._settings.http_max_retry_after_s)
        except Paused as pause:
            error = throttled(target.details, self._who, pause.remaining_s, was_asked=False)
            raise _Refused(None, error, retryable=False) from None

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
        # Everybody else in this project space would be refused as well.
        self.limiter.pause(wait_s)
        if wait_s > longest_s or waited_s + wait_s > longest_s * constants.THROTTLE_PATIENCE:
            raise refused.error from None
        # A little jitter keeps those who waited from coming back as one.
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


def _decoded(target: _Target, answer: Answer, decode: Callable[[bytes], T]) -> T:
    try:
        return decode(answer.body)
    except msgspec.ValidationError as error:
        raise _Refused(200, _malformed(target, f"it has another shape than agreed: {error}"), retryable=False) from None
    except RecursionError:
        raise _Refused(200, _malformed(target, "it is nested too deeply"), retryable=False) from None
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        if is_web_page(answer.headers, answer.body):
            raise _Refused(200, web_page(answer.body, target.details), retryable=False) from None
        # What is cut off may be whole the next time; what is broken inside the server sends as it has it.
        if _is_cut_off(str(error), answer.body):
            raise _Refused(200, _malformed(target, "its JSON breaks off"), retryable=True) from None
        kind = answer.headers.get("Content-Type", "").split(";")[0].strip()[:60]
        said = "its JSON is broken" if not kind or "json" in kind.lower() else f"it is no JSON but {kind}"
        raise _Refused(200, _malformed(target, said), retryable=False) from None


def _is_cut_off(said: str, body: bytes) -> bool:
    """Whether msgspec met the end of the text where more should come; in the middle of a number it says so by the place."""
    return "truncated" in said or ("invalid number" in said and said.endswith(f"(byte {len(body)})"))


def _malformed(target: _Target, why: str) -> ResponseMalformed:
    return ResponseMalformed(
        f"{target.resource}: page {target.page} of the server's answer cannot be used: {why}.",
        next_step="What was loaded before is untouched. If it happens again, report it to the server's operator.",
        details=target.details,
    )


def _unreachable(server: Server, target: _Target, none: NoAnswer) -> CommCareError:
    return Unreachable(
        f"{server.host} {none.why} ({target.resource}, page {target.page}; {none.kind}).",
        next_step="Check the server's address and the network, then try again.",
        details=target.details,
    )


def _seconds_since(date: str | None) -> float:
    """Since an answer's `Date`; 0 without a valid one."""
    try:
        return (datetime.now(UTC) - parsedate_to_datetime(date)).total_seconds() if date else 0.0
    except (TypeError, ValueError):
        return 0.0


def _backoff_s(attempt: int) -> float:
    """Exponential with full half-jitter: between half of and the whole of the step."""
    step_s = min(constants.BACKOFF_MAX_S, constants.BACKOFF_FIRST_S * 2.0 ** max(0, attempt - 1))
    return step_s * random.uniform(0.5, 1.0)  # noqa: S311 - spreads load, guards nothing
