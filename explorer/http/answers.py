"""When can an answer not be used? Errors of requests that brought nothing, or not what was agreed."""

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
    """One request's address and how errors name it. `body`: what is posted; `is_record`: one record is asked for."""

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
    """One try that gave no answer. `status` None: no answer at all."""

    def __init__(
        self, status: int | None, error: ApiError, *, retryable: bool, retry_after_s: float | None = None
    ) -> None:
        super().__init__()
        self.status = status
        self.error = error
        self.retryable = retryable
        self.retry_after_s = retry_after_s


def decoded(target: Target, answer: Answer, decode: Callable[[bytes], T]) -> T:
    """What `decode` makes of the body.

    Raises:
        RequestFailed: it is cut off, broken, of another shape, or a page for people.
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
        # What is cut off may be whole the next time; what is broken inside the server sends as it has it.
        if _is_cut_off(str(error), answer.body):
            raise _unusable(malformed(target, "its JSON breaks off"), retryable=True) from None
        kind = answer.headers.get("Content-Type", "").split(";")[0].strip()[:60]
        said = "its JSON is broken" if not kind or "json" in kind.lower() else f"it is no JSON but {kind}"
        raise _unusable(malformed(target, said)) from None


def malformed(target: Target, why: str) -> ResponseMalformed:
    """The answer cannot be used."""
    return ResponseMalformed(
        f"{target.resource}: page {target.page} of the server's answer cannot be used: {why}.",
        provider=target.provider,
        next_step="What was loaded before is untouched. If it happens again, report it to the server's operator.",
        details=target.details,
    )


def unreachable(host: str, target: Target, none: NoAnswer) -> Unreachable:
    """No answer came."""
    return Unreachable(
        f"{host} {none.why} ({target.resource}, page {target.page}; {none.kind}).",
        provider=target.provider,
        next_step="Check the server's address and the network, then try again.",
        details=target.details,
    )


def _unusable(error: ApiError, *, retryable: bool = False) -> RequestFailed:
    return RequestFailed(200, error, retryable=retryable)


def _is_cut_off(said: str, body: bytes) -> bool:
    """Whether msgspec met the end of the text where more should come; in the middle of a number it says so by the place."""
    return "truncated" in said or ("invalid number" in said and said.endswith(f"(byte {len(body)})"))
