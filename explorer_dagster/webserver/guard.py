"""Who may do what at the webserver: ASGI middleware in front of Dagster's app."""

import asyncio
import hmac
import time
import urllib.parse
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from starlette.datastructures import Headers, QueryParams
from starlette.responses import HTMLResponse, JSONResponse, RedirectResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from starlette.websockets import WebSocketClose

from explorer.contract.headers import TOKEN_HEADER, UI_LINKS_PATH, UI_RETURN_PATH
from explorer.telemetry.metrics_token import METRICS_PATH
from explorer_dagster.webserver.graphql_request import GraphQLRequest, Refused, read_address, read_body
from explorer_dagster.webserver.looking import told_rights
from explorer_dagster.webserver.people import NOT_KEPT, SIGN_IN_PATH, People
from explorer_dagster.webserver.sessions import LINK_LASTS_S, Sessions

MAX_BODY_BYTES = 16 * 1024 * 1024
GRAPHQL_PATH = "/graphql"
_BODY_TIMEOUT_S = 30.0
_READING_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})
# Who makes a change, and the names of what changes.
Record = Callable[[str, Sequence[str]], Awaitable[None]]
_SESSION_PATH = "/session/"
_END_PATH = "/session/end"
# So often it is looked whether who has a socket open may still be here.
WATCHED_EVERY_S = 15.0
_HEADERS_OF_CONTENT = frozenset({b"content-type", b"content-length", b"content-encoding", b"transfer-encoding"})


@dataclass(frozen=True)
class Visitor:
    """Who sends a request. `actor`: in the audit; `may_change`: whether more than looking is allowed."""

    actor: str
    may_change: bool


_PROGRAM = Visitor("dagster:program", may_change=True)
_OPERATOR = Visitor("dagster:ui", may_change=True)


class Guard:
    """ASGI middleware in front of the Dagster app.

    Passes requests with the token (programs) or in a session (browsers). Refuses, with a reason: everything else, changes of who
    may only look (whose pages are told so), a foreign Host or Origin, a GraphQL mutation by GET, a body over `MAX_BODY_BYTES`. A
    request to `/graphql` is parsed here, and Dagster gets the parsed request written again: both read the same thing. `hosts`:
    accepted `host:port` values of the Host header; `secure_hosts`: those to which browsers come by TLS that a proxy ends: their
    cookies go by TLS alone.

    A session is opened at `/session/<secret>` and ended by POST of `/session/end`. A POST of `/session/links` with the token
    makes a secret. Where `people` may sign in, they do at `/session/sign-in`. `metrics` answers `/metrics` itself, whatever the
    Host: it has a token of its own, and who collects asks each webserver by its own address.

    `record` writes down what is about to be changed, and by whom (`dagster:ui`: a browser that a link let in, `dagster:program`:
    the token, else the person's name); when it raises OSError, nothing is changed.
    """

    def __init__(
        self,
        app: ASGIApp,
        *,
        token: str,
        hosts: Iterable[str],
        secure_hosts: Iterable[str] = (),
        sessions: Sessions,
        record: Record,
        people: People | None = None,
        metrics: ASGIApp | None = None,
    ) -> None:
        self._app = app
        self._token = token
        self._hosts, self._secure_hosts = frozenset(hosts), frozenset(secure_hosts)
        self._sessions = sessions
        self._record = record
        self._people = people
        self._metrics = metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
            return
        if self._metrics is not None and scope["type"] == "http" and scope["path"] == METRICS_PATH:
            await self._metrics(scope, receive, send)
            return
        headers, app = Headers(scope=scope), self._app
        try:
            self._refuse_foreign(headers)
            if scope["type"] == "http" and scope["path"].startswith(_SESSION_PATH):
                answer = await self._session(scope, headers)
                await answer(scope, receive, send)
                return
            visitor = await self._visitor(headers)
            if visitor is None:
                raise Refused("there is no session and no token", 401)
            if scope["type"] == "http":
                scope, receive = await self._let_in(scope, visitor, headers, receive)
                if scope["path"] == GRAPHQL_PATH and not visitor.may_change:
                    app = told_rights(app)
            else:
                receive = self._watched(headers, receive)
        except Refused as refusal:
            await _answer(refusal, headers, with_sign_in=self._people is not None)(scope, receive, send)
            return
        await app(scope, receive, send)

    async def _session(self, scope: Scope, headers: Headers) -> Response:
        """The answer to everything below `/session/`."""
        method, path, cookies = scope["method"], scope["path"], headers.get("cookie", "")
        by_tls = scope["scheme"] == "https" or headers.get("host") in self._secure_hosts
        attributes: dict[str, Any] = {"httponly": True, "samesite": "lax", "secure": by_tls}
        if (method, path) == ("POST", UI_LINKS_PATH):
            if not self._has_token(headers):
                raise Refused("a link is made with the token", 401)
            link = f"{_SESSION_PATH}{self._sessions.new_link()}"
            return JSONResponse({"path": link, "lasts_s": LINK_LASTS_S}, headers=NOT_KEPT)
        if (method, path) == ("POST", _END_PATH):
            self._sessions.close(cookies)
            said = _page("Signed out", "This session has ended.", with_sign_in=self._people is not None)
            ended = HTMLResponse(said, headers=NOT_KEPT)
            ended.delete_cookie(self._sessions.cookie_name, **attributes)
            if self._people is not None:
                await self._people.close(cookies, ended)
            return ended
        if method != "GET":
            raise Refused("a session is opened by GET", 405)
        if self._people is not None and path == SIGN_IN_PATH:
            return self._people.leave(headers["host"])
        if self._people is not None and path == UI_RETURN_PATH:
            return await self._people.returned(QueryParams(scope["query_string"]), cookies)
        session = self._sessions.open(path.removeprefix(_SESSION_PATH))
        if session is None:
            raise Refused("the link was used, or is too old", 401)
        # A redirect, so that the secret does not stay in the address.
        opened = RedirectResponse("/", 303, headers=NOT_KEPT)
        opened.set_cookie(self._sessions.cookie_name, session, max_age=int(self._sessions.lasts_s), **attributes)
        return opened

    def _refuse_foreign(self, headers: Headers) -> None:
        """A foreign Host is DNS rebinding; a foreign Origin is another site's page."""
        if headers.get("host") not in self._hosts:
            raise Refused("unknown Host")
        origin = headers.get("origin")
        if origin is not None and urllib.parse.urlsplit(origin).netloc not in self._hosts:
            raise Refused("foreign Origin")
        if headers.get("sec-fetch-site") == "cross-site" and headers.get("sec-fetch-mode") != "navigate":
            raise Refused("request from another site")

    async def _let_in(
        self, scope: Scope, visitor: Visitor, headers: Headers, receive: Receive
    ) -> tuple[Scope, Receive]:
        """The request as Dagster will get it."""
        if scope["path"] == GRAPHQL_PATH and scope["method"] == "GET":
            asked = read_address(scope["query_string"])
            return {**scope, "query_string": asked.as_address() if asked else b""}, receive
        if scope["path"] == GRAPHQL_PATH and scope["method"] == "POST":
            request = read_body(headers, await _read_bytes(headers, receive))
            if request.changes and not visitor.may_change:
                raise Refused("your role is to look, not to change")
            if request.mutations:
                await self._write_down(visitor, request.mutations)
            return _rewritten(scope, request, receive)
        if scope["method"] not in _READING_METHODS:
            if not visitor.may_change:
                raise Refused("your role is to look, not to change")
            await self._write_down(visitor, (f"{scope['method']} {scope['path']}",))
        return scope, receive

    async def _write_down(self, visitor: Visitor, changes: Sequence[str]) -> None:
        try:
            await self._record(visitor.actor, changes)
        except OSError:
            raise Refused("the change cannot be written to the audit trail", 503) from None

    async def _visitor(self, headers: Headers) -> Visitor | None:
        """Who sends a request; None for nobody who may. Raises: Refused: it cannot be told."""
        cookies = headers.get("cookie", "")
        if self._has_token(headers):
            return _PROGRAM
        if self._sessions.is_open(cookies):
            return _OPERATOR
        person = await self._people.who(cookies) if self._people is not None else None
        return Visitor(person.name, person.may_change) if person is not None else None

    async def _is_here(self, headers: Headers) -> bool:
        try:
            return await self._visitor(headers) is not None
        except Refused:
            return False

    def _watched(self, headers: Headers, receive: Receive) -> Receive:
        """`receive` of a socket, which ends when who opened it may not be here any more."""
        pending: asyncio.Future[Message] | None = None
        look_at = time.monotonic() + WATCHED_EVERY_S

        async def watched() -> Message:
            nonlocal pending, look_at
            while True:
                pending = pending or asyncio.ensure_future(receive())
                await asyncio.wait({pending}, timeout=max(0.0, look_at - time.monotonic()))
                # By the clock: who keeps sending is looked at too.
                if time.monotonic() >= look_at:
                    look_at = time.monotonic() + WATCHED_EVERY_S
                    if not await self._is_here(headers):
                        pending.cancel()
                        return {"type": "websocket.disconnect", "code": 1008}
                if pending.done():
                    message, pending = pending.result(), None
                    return message

        return watched

    def _has_token(self, headers: Headers) -> bool:
        return hmac.compare_digest(headers.get(TOKEN_HEADER, "").encode(), self._token.encode())


_NEXT_STEP = (
    "Run `explorer ui` on the machine of the platform: it opens the UI by a link that works once. Programs send the header "
    f"{TOKEN_HEADER} with the content of HOME/webserver.token."
)
_HOW_TO_ASK = 'POST {"query": "...", "variables": {...}, "operationName": "..."} as application/json in plain UTF-8.'
_PAGE = """<!doctype html>
<html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title} · Data Explorer</title>
<style>
body {{ max-width: 34rem; margin: 12vh auto; padding: 0 1.25rem; font: 16px/1.5 system-ui; color-scheme: light dark; }}
code {{ background: color-mix(in srgb, currentColor 12%, transparent); border-radius: .3rem; padding: .1rem .35rem; }}
a {{ display: inline-block; border: 1px solid; border-radius: .6rem; padding: .6rem 1.2rem; font-weight: 600; color: inherit; }}
</style>
<main><h1>{title}</h1><p>{message}</p>{sign_in}
<p>Run <code>explorer ui</code> on the machine of the platform: it opens this page by a link that works once.</p></main>
</html>"""
_SIGN_IN = f'<p><a href="{SIGN_IN_PATH}">Sign in</a></p>'


def _page(title: str, message: str, *, with_sign_in: bool) -> str:
    """A page for a person without a session. Both are texts of our own."""
    return _PAGE.format(title=title, message=message, sign_in=_SIGN_IN if with_sign_in else "")


def _answer(refusal: Refused, headers: Headers, *, with_sign_in: bool) -> ASGIApp:
    async def answer(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "websocket":
            await WebSocketClose(code=1008, reason=refusal.reason)(scope, receive, send)
            return
        # The rest of an unread body must not be taken for the next request.
        sent = {"connection": "close", **NOT_KEPT}
        if refusal.status in (401, 503) and "text/html" in headers.get("accept", ""):
            said = _page("Sign in to the Dagster UI", f"Not open to you: {refusal.reason}.", with_sign_in=with_sign_in)
            await HTMLResponse(said, refusal.status, headers=sent)(scope, receive, send)
            return
        codes = {401: "unauthorized", 403: "forbidden", 503: "unavailable"}
        next_step = _NEXT_STEP if refusal.status in codes else _HOW_TO_ASK
        code = codes.get(refusal.status, "invalid_request")
        body = {"error": {"code": code, "message": f"Refused: {refusal.reason}.", "next_step": next_step}}
        await JSONResponse(body, refusal.status, headers=sent)(scope, receive, send)

    return answer


def _rewritten(scope: Scope, request: GraphQLRequest, receive: Receive) -> tuple[Scope, Receive]:
    """The request with only the parsed content."""
    body = request.as_body()
    kept = [(name, value) for name, value in scope["headers"] if name.lower() not in _HEADERS_OF_CONTENT]
    own = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
    pending: list[Message] = [{"type": "http.request", "body": body, "more_body": False}]

    async def replayed() -> Message:
        return pending.pop() if pending else await receive()

    return {**scope, "headers": kept + own, "query_string": b""}, replayed


async def _read_bytes(headers: Headers, receive: Receive) -> bytes:
    if headers.get("content-encoding", "identity").strip().lower() != "identity":
        raise Refused("a compressed body is not understood", 415)
    chunks: list[bytes] = []
    size = 0
    try:
        async with asyncio.timeout(_BODY_TIMEOUT_S):
            while True:
                message = await receive()
                if message["type"] == "http.disconnect":
                    raise Refused("the body ended early", 400)
                chunks.append(message.get("body", b""))
                size += len(chunks[-1])
                if size > MAX_BODY_BYTES:
                    raise Refused("the body is too large", 413)
                if not message.get("more_body"):
                    return b"".join(chunks)
    except TimeoutError:
        raise Refused("the body took too long to arrive", 408) from None
