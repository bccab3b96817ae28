"""How does a tastypie resource page through a list?

Limits and offsets are read, clamped and refused as tastypie does, and the envelope is written. Which objects there
are, and in which order, is the resource's business.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlencode

from starlette.requests import Request
from starlette.responses import Response

from demo_commcare.faults import AnswerSwitches
from demo_commcare.records import json_text

DEFAULT_LIMIT, MAX_LIMIT = 20, 1000


class BadRequest(Exception):
    """Answered as 400 `{"error": text}`."""


def json_response(text: str, status: int = 200) -> Response:
    return Response(text.encode("utf-8"), status, media_type="application/json")


@dataclass(frozen=True)
class Page:
    limit: int
    offset: int

    @classmethod
    def of(cls, params: Mapping[str, str], default: int = DEFAULT_LIMIT, maximum: int = MAX_LIMIT) -> "Page":
        """Read `limit` and `offset`. Raises BadRequest for what tastypie refuses."""
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
    objects: Sequence[str],
    query_only_next: bool = False,
) -> Response:
    """The envelope around already rendered objects; `query_only_next` is the form resource's way."""
    prefix = "" if query_only_next else request.url.path
    following: str | None = None
    if page.offset + page.limit < total or (switches.endless_paging and objects):
        target = page.offset if page.offset + page.limit >= total else page.offset + page.limit
        following = prefix + _query(request, page.limit, target)
        if switches.next_host:
            following = f"{switches.next_host}{request.url.path}{_query(request, page.limit, target)}"
    previous = (
        prefix + _query(request, page.limit, max(0, page.offset - page.limit)) if page.offset >= page.limit else None
    )
    meta = {"limit": page.limit, "next": following, "offset": page.offset, "previous": previous, "total_count": total}
    return envelope(switches, meta, objects)


def envelope(switches: AnswerSwitches, meta: Mapping[str, Any], objects: Sequence[str]) -> Response:
    """`{"meta", "objects"}`, without the collection when the switch says so."""
    if switches.drop_collection:
        return json_response(json_text({"meta": meta}))
    return json_response(f'{{"meta":{json_text(meta)},"objects":[{",".join(objects)}]}}')


def unpaged_meta(total: int) -> dict[str, Any]:
    return {"limit": None, "next": None, "offset": 0, "previous": None, "total_count": total}


def _query(request: Request, limit: int, offset: int) -> str:
    others = [
        (k, v) for k, v in request.query_params.multi_items() if k not in {"limit", "offset", "api_key", "username"}
    ]
    return "?" + urlencode([("limit", limit), ("offset", offset), *others])
