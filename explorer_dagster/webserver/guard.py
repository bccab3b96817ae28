"""Who may do what at the webserver: ASGI middleware in front of Dagster's app."""

import asyncio
import hmac
import urllib.parse
from collections.abc import Iterable
from http.cookies import CookieError, SimpleCookie

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from starlette.websockets import WebSocketClose

from explorer.contract.headers import TOKEN_COOKIE, TOKEN_HEADER
from explorer_dagster.webserver.graphql_request import GraphQLRequest, Refused, read_address, read_body

MAX_BODY_BYTES = 16 * 1024 * 1024
GRAPHQL_PATH = "/graphql"
_BODY_TIMEOUT_S = 30.0
_READING_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})
_HEADERS_OF_CONTENT = frozenset({b"content-type", b"content-length", b"content-encoding", b"transfer-encoding"})


class Guard:
    """ASGI middleware in front of the Dagster app.

    Refuses, with a reason: a foreign Host or Origin, any change without the token, a GraphQL mutation by GET, a body over
    `MAX_BODY_BYTES`. A request to `/graphql` is parsed here, and Dagster gets the parsed request written again: both read the
    same thing. `hosts`: accepted `host:port` values of the Host header.
    """

    def __init__(self, app: ASGIApp, *, token: str, hosts: Iterable[str]) -> None:
        self._app = app
        self._token = token
        self._hosts = frozenset(hosts)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        try:
            self._refuse_foreign(headers)
            if scope["type"] == "websocket":
                if not self._has_token(headers):
                    raise Refused("subscriptions need the token")
            else:
                scope, receive = await self._let_in(scope, headers, receive)
        except Refused as refusal:
            await _answer(refusal)(scope, receive, send)
            return
        await self._app(scope, receive, self._hand_out_cookie(scope, headers, send))

    def _refuse_foreign(self, headers: Headers) -> None:
        """A foreign Host is DNS rebinding; a foreign Origin is another site's page."""
        if headers.get("host") not in self._hosts:
            raise Refused("unknown Host")
        origin = headers.get("origin")
        if origin is not None and urllib.parse.urlsplit(origin).netloc not in self._hosts:
            raise Refused("foreign Origin")
        if headers.get("sec-fetch-site") == "cross-site" and headers.get("sec-fetch-mode") != "navigate":
            raise Refused("request from another site")

    async def _let_in(self, scope: Scope, headers: Headers, receive: Receive) -> tuple[Scope, Receive]:
        """The request as Dagster will get it."""
        if scope["path"] == GRAPHQL_PATH and scope["method"] == "GET":
            asked = read_address(scope["query_string"])
            return {**scope, "query_string": asked.as_address() if asked else b""}, receive
        if scope["path"] == GRAPHQL_PATH and scope["method"] == "POST":
            request = read_body(headers, await _read_bytes(headers, receive))
            if request.changes and not self._has_token(headers):
                raise Refused("mutations need the token")
            return _rewritten(scope, request, receive)
        if scope["method"] not in _READING_METHODS and not self._has_token(headers):
            raise Refused("changes need the token")
        return scope, receive

    def _has_token(self, headers: Headers) -> bool:
        given = headers.get(TOKEN_HEADER) or _cookie(headers.get("cookie", ""))
        return hmac.compare_digest(given.encode(), self._token.encode())

    def _hand_out_cookie(self, scope: Scope, headers: Headers, send: Send) -> Send:
        """Give the token to our own pages: only to a browser that navigates to one, never to a cross-site fetch."""
        if scope["type"] != "http" or scope["method"] != "GET" or "text/html" not in headers.get("accept", ""):
            return send
        if headers.get("sec-fetch-site", "none") not in ("none", "same-origin"):
            return send

        async def send_with_cookie(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message).append(
                    "set-cookie", f"{TOKEN_COOKIE}={self._token}; Path=/; HttpOnly; SameSite=Strict"
                )
            await send(message)

        return send_with_cookie


_NEXT_STEP = (
    f"Open the UI at its own address, or send the header {TOKEN_HEADER} with the content of HOME/webserver.token."
)
_HOW_TO_ASK = 'POST {"query": "...", "variables": {...}, "operationName": "..."} as application/json in plain UTF-8.'


def _answer(refusal: Refused) -> ASGIApp:
    async def answer(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "websocket":
            await WebSocketClose(code=1008, reason=refusal.reason)(scope, receive, send)
            return
        code, next_step = ("forbidden", _NEXT_STEP) if refusal.status == 403 else ("invalid_request", _HOW_TO_ASK)
        body = {"error": {"code": code, "message": f"Refused: {refusal.reason}.", "next_step": next_step}}
        # The rest of an unread body must not be taken for the next request.
        await JSONResponse(body, refusal.status, headers={"connection": "close"})(scope, receive, send)

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


def _cookie(header: str) -> str:
    try:
        morsel = SimpleCookie(header).get(TOKEN_COOKIE)
    except CookieError:
        return ""
    return morsel.value if morsel else ""
