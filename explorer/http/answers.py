"""When is an answer unusable? Errors of requests without an answer, or with one of the wrong shape."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

import msgspec

from explorer.http.errors import ApiError, ResponseMalformed, Unreachable
from explorer.http.failures import NoAnswer
from explorer.http.refusals import is_web_page, web_page
from explorer.http.wire import Answer

T = TypeVar("T")


@dataclass(frozen=True)
class Target:
    """One request's address, and its name in errors. `body`: content of a POST; `is_record`: the request is for one record."""

    provider: str
    url: str
    resource: str
    page: int = 1
    params: tuple[tuple[str, str], ...] = ()
    body: object = None
    is_record: bool = False

    @property
    def details(self) -> dict[str, Any]:
        return {"resource": self.resource, "page": self.page}


class RequestFailed(Exception):
    """One attempt without a usable answer. `status` None: no answer."""

    def __init__(
        self, status: int | None, error: ApiError, *, retryable: bool, retry_after_s: float | None = None
    ) -> None:
        super().__init__()
        self.status = status
        self.error = error
        self.retryable = retryable
        self.retry_after_s = retry_after_s


def decoded(target: Target, answer: Answer, decode: Callable[[bytes], T]) -> T:
    """The body, decoded by `decode`.

    Raises:
        RequestFailed: the body is cut off, broken, of another shape, or a web page.
    """
    try:
        return decode(answer.body)
    except msgspec.ValidationError as error:
        raise _unusable(malformed(target, f"it has another shape than agreed: {error}")) from None
    except RecursionError:
        raise _unusable(malformed(target, "it is nested too deeply")) from None
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        if is_web_page(answer.headers, answer.body):
            raise _unusable(web_page(answer.body, target.details, target.provider)) from None
        # A body that was cut off may be complete next time; a broken one stays broken.
        if _is_cut_off(str(error), answer.body):
            raise _unusable(malformed(target, "its JSON breaks off"), retryable=True) from None
        kind = answer.headers.get("Content-Type", "").split(";")[0].strip()[:60]
        said = "its JSON is broken" if not kind or "json" in kind.lower() else f"it is no JSON but {kind}"
        raise _unusable(malformed(target, said)) from None


def malformed(target: Target, why: str) -> ResponseMalformed:
    """The error of an unusable answer."""
    return ResponseMalformed(
        f"{target.resource}: page {target.page} of the server's answer cannot be used: {why}.",
        provider=target.provider,
        next_step="What was loaded before is untouched. If it happens again, report it to the server's operator.",
        details=target.details,
    )


def unreachable(host: str, target: Target, none: NoAnswer) -> Unreachable:
    """The error of a missing answer."""
    return Unreachable(
        f"{host} {none.why} ({target.resource}, page {target.page}; {none.kind}).",
        provider=target.provider,
        next_step="Check the server's address and the network, then try again.",
        details=target.details,
    )


def _unusable(error: ApiError, *, retryable: bool = False) -> RequestFailed:
    return RequestFailed(200, error, retryable=retryable)


def _is_cut_off(said: str, body: bytes) -> bool:
    """Whether msgspec reached the end of the text too early; within a number its message gives only the position."""
    return "truncated" in said or ("invalid number" in said and said.endswith(f"(byte {len(body)})"))
