"""How does the server misbehave on demand?

`FaultyApp` stands in front of the real application and breaks answers by rule: error pages, truncated JSON, cut
connections, slow bodies, waiting. The faults that change the meaning of an answer (endless paging and the like) are
`AnswerSwitches`.
"""

import asyncio
import re
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from starlette.types import ASGIApp, Message, Receive, Scope, Send

Kind = Literal["status", "truncated", "cut", "slow"]
ERROR_PAGE = (
    "<html><head><title>{status}</title></head>"
    "<body><center><h1>{status}</h1></center><hr><center>nginx</center></body></html>"
)
CHUNKS = 20


@dataclass
class AnswerSwitches:
    """Differences between HQ versions, and errors of meaning."""

    old_page_end: bool = False
    next_host: str | None = None
    drop_collection: bool = False
    endless_paging: bool = False
    user_domains_paged: bool = False
    deep_offset_limit: int | None = None


@dataclass
class FaultRule:
    """Break the next `times` requests whose `path?query` contains a match of `pattern`, after letting `skip` pass.

    status: answer `status` with `body` (an nginx-like page if None) and `headers`; truncated: the true answer's first half,
    complete as HTTP; cut: half of it, then the connection breaks; slow: the true answer in 20 pieces within `seconds`.
    """

    pattern: str
    kind: Kind = "status"
    times: int = 1
    skip: int = 0
    status: int = 500
    body: str | None = None
    headers: Mapping[str, str] = field(default_factory=dict)
    seconds: float = 1.0


@dataclass(frozen=True)
class SeenRequest:
    method: str
    path: str
    query: str
    status: int


class ConnectionCut(Exception):
    """Raised to make the HTTP server drop the connection in the middle of an answer."""


class FaultyApp:
    """ASGI wrapper with rules, a latency for every API answer and the list of what was asked."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app
        self.rules: list[FaultRule] = []
        self.latency_s = 0.0
        self.seen: deque[SeenRequest] = deque(maxlen=20_000)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["path"].startswith("/_demo/"):
            await self._app(scope, receive, send)
            return
        query = scope["query_string"].decode("latin-1")
        rule = self._take(f"{scope['path']}?{query}" if query else scope["path"])
        if self.latency_s > 0:
            await asyncio.sleep(self.latency_s)
        if rule is not None and rule.kind == "status":
            self._note(scope, rule.status)
            await self._send_status(rule, send)
            return
        start, body = await self._true_answer(scope, receive)
        self._note(scope, start["status"])
        await self._send_broken(rule, start, body, send)

    def _note(self, scope: Scope, status: int) -> None:
        self.seen.append(SeenRequest(scope["method"], scope["path"], scope["query_string"].decode("latin-1"), status))

    def _take(self, target: str) -> FaultRule | None:
        for rule in self.rules:
            if rule.times > 0 and re.search(rule.pattern, target):
                if rule.skip > 0:
                    rule.skip -= 1
                    continue
                rule.times -= 1
                return rule
        return None

    async def _true_answer(self, scope: Scope, receive: Receive) -> tuple[Message, bytes]:
        messages: list[Message] = []

        async def collect(message: Message) -> None:
            messages.append(message)

        await self._app(scope, receive, collect)
        body = b"".join(message.get("body", b"") for message in messages if message["type"] == "http.response.body")
        return messages[0], body

    async def _send_status(self, rule: FaultRule, send: Send) -> None:
        body = (ERROR_PAGE.format(status=rule.status) if rule.body is None else rule.body).encode()
        kind = "application/json" if body[:1] in (b"{", b"[") else "text/html; charset=utf-8"
        headers = {"content-type": kind, "content-length": str(len(body)), **rule.headers}
        raw = [(name.lower().encode(), value.encode()) for name, value in headers.items()]
        await send({"type": "http.response.start", "status": rule.status, "headers": raw})
        await send({"type": "http.response.body", "body": body})

    async def _send_broken(self, rule: FaultRule | None, start: Message, body: bytes, send: Send) -> None:
        if rule is not None and rule.kind == "truncated":
            body = body[: len(body) // 2]
            other = [(name, value) for name, value in start["headers"] if name != b"content-length"]
            start = {**start, "headers": [*other, (b"content-length", str(len(body)).encode())]}
        await send(start)
        if rule is not None and rule.kind == "cut":
            await send({"type": "http.response.body", "body": body[: len(body) // 2], "more_body": True})
            raise ConnectionCut
        if rule is not None and rule.kind == "slow":
            size = max(1, -(-len(body) // CHUNKS))
            for position in range(0, len(body), size):
                await send({"type": "http.response.body", "body": body[position : position + size], "more_body": True})
                await asyncio.sleep(rule.seconds / CHUNKS)
            body = b""
        await send({"type": "http.response.body", "body": body})
