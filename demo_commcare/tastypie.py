"""Paging and envelopes of tastypie resources.

Limits and offsets are read, clamped and refused as tastypie does. Each resource defines its objects and their order.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlencode

from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from demo_commcare.faults import AnswerSwitches, note_rows
from demo_commcare.records import json_bytes

DEFAULT_LIMIT, MAX_LIMIT = 20, 1000
_PART_BYTES = 64 * 1024


class BadRequest(Exception):
    """Answered as 400 `{"error": text}`."""


class _JsonResponse(Response):
    """A body in large parts. They are never joined, because copying long pages would be most of the server's work."""

    def __init__(self, parts: Sequence[bytes], status: int) -> None:
        self.parts = parts
        size = {"content-length": str(sum(map(len, parts)))}
        super().__init__(None, status, size, "application/json")

    async def __call__(self, _scope: Scope, _receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
        held: list[bytes] = []
        size = 0
        for part in self.parts:
            held.append(part)
            size += len(part)
            if size >= _PART_BYTES:
                await send({"type": "http.response.body", "body": b"".join(held), "more_body": True})
                held, size = [], 0
        await send({"type": "http.response.body", "body": b"".join(held)})


def json_response(*parts: bytes, status: int = 200) -> Response:
    return _JsonResponse(parts, status)


def paged(
    request: Request, switches: AnswerSwitches, objects: list[dict[str, Any]], default: int = DEFAULT_LIMIT
) -> Response:
    """The requested page of `objects`."""
    page = Page.of(request.query_params, default)
    shown = objects[page.offset : page.offset + page.limit]
    return list_answer(request, switches, page, len(objects), len(shown), comma_texts(shown))


def comma_texts(objects: Iterable[Any]) -> list[bytes]:
    """JSON texts, each after a comma."""
    return [b"," + json_bytes(entry) for entry in objects]


def without_first_comma(texts: list[bytes]) -> list[bytes]:
    """The content of an array, from texts that each follow a comma."""
    return [texts[0][1:], *texts[1:]] if texts else []


@dataclass(frozen=True)
class Page:
    limit: int
    offset: int

    @classmethod
    def of(cls, params: Mapping[str, str], default: int = DEFAULT_LIMIT, maximum: int = MAX_LIMIT) -> "Page":
        """Read `limit` and `offset`. Raises BadRequest where tastypie refuses them."""
        limit = _number(params.get("limit", str(default)), "limit", "Please provide a positive integer.")
        offset = _number(params.get("offset", "0"), "offset", "Please provide a positive integer >= 0.")
        return cls(min(limit, maximum) or maximum, offset)


def _number(text: str, name: str, advice: str) -> int:
    try:
        number = int(text)
    except ValueError:
        number = -1
    if number < 0:
        raise BadRequest(f"Invalid {name} '{text}' provided. {advice}")
    return number


def list_answer(
    request: Request,
    switches: AnswerSwitches,
    page: Page,
    total: int,
    shown: int,
    objects: list[bytes],
    query_only_next: bool = False,
) -> Response:
    """The envelope around `shown` rendered objects, each after a comma; `query_only_next` is for the form resource."""
    note_rows(request, shown)
    prefix = "" if query_only_next else request.url.path
    following: str | None = None
    if page.offset + page.limit < total or (switches.endless_paging and shown):
        target = page.offset if page.offset + page.limit >= total else page.offset + page.limit
        following = prefix + _query(request, page.limit, target)
        if switches.next_host:
            following = f"{switches.next_host}{request.url.path}{_query(request, page.limit, target)}"
    previous = (
        prefix + _query(request, page.limit, max(0, page.offset - page.limit)) if page.offset >= page.limit else None
    )
    meta = {"limit": page.limit, "next": following, "offset": page.offset, "previous": previous, "total_count": total}
    return envelope(switches, meta, objects)


def envelope(switches: AnswerSwitches, meta: Mapping[str, Any], objects: list[bytes]) -> Response:
    """`{"meta", "objects"}`, without the collection if that switch is set."""
    if switches.drop_collection:
        return json_response(json_bytes({"meta": meta}))
    return json_response(b'{"meta":', json_bytes(meta), b',"objects":[', *without_first_comma(objects), b"]}")


def unpaged_meta(total: int) -> dict[str, Any]:
    return {"limit": None, "next": None, "offset": 0, "previous": None, "total_count": total}


def _query(request: Request, limit: int, offset: int) -> str:
    others = [
        (k, v) for k, v in request.query_params.multi_items() if k not in {"limit", "offset", "api_key", "username"}
    ]
    return "?" + urlencode([("limit", limit), ("offset", offset), *others])
