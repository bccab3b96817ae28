"""Faults that the server produces on demand.

`FaultyApp` wraps the real application and breaks answers by rule: error pages, truncated JSON, cut connections, slow bodies,
compressed bombs, delays. `AnswerSwitches` are faults that change the meaning of an answer, such as endless paging.
`EventRule` changes the world between two pages of a list.
"""

import asyncio
import json
import re
import zlib
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Literal

from starlette.requests import Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from demo_commcare.records import json_bytes

Kind = Literal["status", "truncated", "cut", "slow", "hang", "bomb", "lacking"]
ERROR_PAGE = (
    "<html><head><title>{status}</title></head>"
    "<body><center><h1>{status}</h1></center><hr><center>nginx</center></body></html>"
)
CHUNKS = 20
_ROWS = "demo_commcare.rows"


@dataclass
class AnswerSwitches:
    """Differences between HQ versions, and wrong answers in a right form."""

    old_page_end: bool = False
    next_host: str | None = None
    drop_collection: bool = False
    endless_paging: bool = False
    user_domains_paged: bool = False
    user_domains_of_token: bool = True
    domain_picker: bool = True
    deep_offset_limit: int | None = None


@dataclass
class FaultRule:
    """Break the next `times` requests whose `path?query` contains a match of `pattern`, after letting `skip` pass. Only the first
    rule that is due applies.

    status: answer `status` with `body` (an nginx-like page if None) and `headers`; truncated: the true answer's first half,
    complete as HTTP; cut: half of it, then the connection breaks; slow: the true answer in 20 pieces within `seconds`;
    hang: nothing for `seconds`, then the true answer;
    lacking: the true answer of a list without its last `rows` records, otherwise unchanged;
    bomb: a gzip body of about `megabytes` / 1000 that unpacks to `megabytes` of JSON.
    """

    pattern: str
    kind: Kind = "status"
    times: int = 1
    skip: int = 0
    status: int = 500
    body: str | None = None
    headers: Mapping[str, str] = field(default_factory=dict)
    seconds: float = 1.0
    megabytes: int = 256
    rows: int = 1


@dataclass
class EventRule:
    """Call `act` before the next `times` matching requests are answered, after letting `skip` pass."""

    pattern: str
    act: Callable[[], object]
    times: int = 1
    skip: int = 0


@dataclass(frozen=True)
class SeenRequest:
    method: str
    path: str
    query: str
    status: int


class ConnectionCut(Exception):
    """Raised to make the HTTP server drop the connection in the middle of an answer."""


def note_rows(request: Request, rows: int) -> None:
    """Record the number of rows of the answer, for the latency."""
    request.scope[_ROWS] = rows


class FaultyApp:
    """ASGI wrapper with rules, a latency for every API answer and each of its rows, and a list of the requests."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app
        self.rules: list[FaultRule] = []
        self.events: list[EventRule] = []
        self.latency_s = self.row_latency_s = 0.0
        self.seen: deque[SeenRequest] = deque(maxlen=20_000)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["path"].startswith("/_demo/"):
            await self._app(scope, receive, send)
            return
        query = scope["query_string"].decode("latin-1")
        target = f"{scope['path']}?{query}" if query else scope["path"]
        rule = next((rule for rule in self.rules if _is_due(rule, target)), None)
        for event in [event for event in self.events if _is_due(event, target)]:
            event.act()
        if rule is not None and rule.kind == "hang":
            await asyncio.sleep(rule.seconds)
            rule = None
        if self.latency_s > 0:
            await asyncio.sleep(self.latency_s)
        if rule is not None and rule.kind in ("status", "bomb"):
            self._note(scope, rule.status if rule.kind == "status" else 200)
            await (self._send_status(rule, send) if rule.kind == "status" else _send_bomb(rule.megabytes, send))
            return
        answer = await self._true_answer(scope, receive)
        self._note(scope, answer[0]["status"])
        if self.row_latency_s > 0:
            await asyncio.sleep(self.row_latency_s * scope.get(_ROWS, 0))
        if rule is None:
            for message in answer:
                await send(message)
        else:
            await _send_broken(rule, answer, send)

    def _note(self, scope: Scope, status: int) -> None:
        self.seen.append(SeenRequest(scope["method"], scope["path"], scope["query_string"].decode("latin-1"), status))

    async def _true_answer(self, scope: Scope, receive: Receive) -> list[Message]:
        messages: list[Message] = []

        async def collect(message: Message) -> None:
            messages.append(message)

        await self._app(scope, receive, collect)
        return messages

    async def _send_status(self, rule: FaultRule, send: Send) -> None:
        body = (ERROR_PAGE.format(status=rule.status) if rule.body is None else rule.body).encode()
        kind = "application/json" if body[:1] in (b"{", b"[") else "text/html; charset=utf-8"
        own = {name.lower(): value for name, value in rule.headers.items()}
        headers = {"content-type": kind, "content-length": str(len(body)), **own}
        raw = [(name.encode(), value.encode()) for name, value in headers.items()]
        await send({"type": "http.response.start", "status": rule.status, "headers": raw})
        await send({"type": "http.response.body", "body": body})


def _is_due(rule: FaultRule | EventRule, target: str) -> bool:
    """Whether the rule applies to this request; a match counts its counters down."""
    if rule.times <= 0 or not re.search(rule.pattern, target):
        return False
    if rule.skip > 0:
        rule.skip -= 1
        return False
    rule.times -= 1
    return True


async def _send_broken(rule: FaultRule, answer: list[Message], send: Send) -> None:
    start, body = answer[0], b"".join(message["body"] for message in answer[1:])
    if rule.kind in ("truncated", "lacking"):
        body = body[: len(body) // 2] if rule.kind == "truncated" else _lacking(body, rule.rows)
        other = [(name, value) for name, value in start["headers"] if name != b"content-length"]
        start = {**start, "headers": [*other, (b"content-length", str(len(body)).encode())]}
    await send(start)
    if rule.kind == "cut":
        await send({"type": "http.response.body", "body": body[: len(body) // 2], "more_body": True})
        raise ConnectionCut
    if rule.kind == "slow":
        size = max(1, -(-len(body) // CHUNKS))
        for position in range(0, len(body), size):
            await send({"type": "http.response.body", "body": body[position : position + size], "more_body": True})
            await asyncio.sleep(rule.seconds / CHUNKS)
        body = b""
    await send({"type": "http.response.body", "body": body})


def _lacking(body: bytes, rows: int) -> bytes:
    answer = json.loads(body)
    for name in ("objects", "cases"):
        if name in answer:
            answer[name] = answer[name][: max(0, len(answer[name]) - rows)]
    return json_bytes(answer)


async def _send_bomb(megabytes: int, send: Send) -> None:
    body = _bomb(megabytes)
    headers = {"content-type": "application/json", "content-encoding": "gzip", "content-length": str(len(body))}
    raw = [(name.encode(), value.encode()) for name, value in headers.items()]
    await send({"type": "http.response.start", "status": 200, "headers": raw})
    await send({"type": "http.response.body", "body": body})


@lru_cache(maxsize=2)
def _bomb(megabytes: int) -> bytes:
    """A gzip stream of a JSON text that is valid and nearly all blanks."""
    packer = zlib.compressobj(level=1, wbits=31)
    blanks = b" " * 1_000_000
    middle = [packer.compress(blanks) for _ in range(megabytes)]
    parts = [packer.compress(b""), *middle, packer.compress(b'{"meta":{},"objects":[],"cases":[]}'), packer.flush()]
    return b"".join(parts)
