"""Checks each HTTP request before MCP sees it: Host and Origin, token, size and time of the body.

An ASGI app around the SDK's. Its own responses are JSON that OAuth clients can read too: `error`, `error_description`,
`next_step`. Where people can sign in, the 401 says where, as MCP hosts expect it, and a 403 asks for more scopes; elsewhere no
sign-in is advertised: the 401 says how to get a token.
"""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

import mcp_types as types
from mcp.server.auth.middleware.auth_context import AuthContextMiddleware
from mcp.server.auth.middleware.bearer_auth import AuthenticatedUser, BearerAuthBackend
from mcp.server.auth.provider import AccessToken
from mcp.server.transport_security import (
    DEFAULT_MAX_REQUEST_BODY_SIZE,
    TransportSecurityMiddleware,
    TransportSecuritySettings,
)
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from explorer.telemetry.metrics_token import METRICS_PATH
from mcp_bridge.gate.access import BridgeToken, TokenUncheckable
from mcp_bridge.gate.step_up import StepUp
from mcp_bridge.metrics import CONTENT_TYPE
from mcp_bridge.sign_in.metadata import DEFAULT_SCOPES
from mcp_bridge.sign_in.server import is_served

PATH = "/mcp"
# Under this, links to exports.
LINKS = "/export/"
_METHODS = ("GET", "POST", "DELETE")
_READING = ("GET", "HEAD")
# Time limit for a whole request body.
_BODY_S = 20.0
_BODY_AT_ONCE_S = 1.0
# A stream can outlive its token by this time.
_TOKEN_CHECKED_EVERY_S = 10.0
_CLOSING_S = 1.0
_RETRY_AFTER_S = 5
_HOW_TO_GET_IN = (
    "Ask the operator for a token (explorer tokens create) and send it as Authorization: Bearer <token>; "
    "this server has no sign-in."
)
_SIGN_IN = (
    "Add this address to an MCP host that can sign in, or ask the operator for a token (explorer tokens create) and send it as "
    "Authorization: Bearer <token>."
)
_log = logging.getLogger(__name__)

Report = Callable[[], Awaitable[dict[str, Any]]]
_HOW_TO_READ_METRICS = (
    "Send Authorization: Bearer <token> with EXPLORER_METRICS_TOKEN, or the content of HOME/metrics.token, which "
    "`explorer up` makes."
)


@dataclass(frozen=True)
class SignIn:
    """People can sign in. `app`: the authorization server; `resource_metadata`: the address where hosts begin."""

    app: ASGIApp
    resource_metadata: str
    step_up: StepUp


@dataclass(frozen=True)
class Metrics:
    """What `/metrics` answers, and to whom. `may_read`: by the header `Authorization`; `text`: of this process, by the report of
    `/readyz`; `of_all`: of all processes, from that text and the header. None where this is the only one."""

    may_read: Callable[[str], bool]
    text: Callable[[dict[str, Any]], bytes]
    of_all: Callable[[bytes, str], Awaitable[bytes]] | None = None


class HttpAuthentication:
    """Passes requests with a valid token at `/mcp` to `serve`, which `app` starts and ends. `/healthz` and `/readyz` need no
    token, only a correct Host; `/metrics` a token of its own and no Host, since who collects asks each bridge by its own address.

    `ready` gives the body of `/readyz`; the body's `status` decides the HTTP status. `sign_in` None: nobody can sign in. `links`
    serves what lies under `/export/`, whose addresses are rights of their own.
    """

    def __init__(
        self,
        app: ASGIApp,
        serve: ASGIApp,
        tokens: BearerAuthBackend,
        security: TransportSecuritySettings,
        ready: Report,
        metrics: Metrics,
        sign_in: SignIn | None = None,
        links: ASGIApp | None = None,
    ) -> None:
        self._app = app
        self._inner = AuthContextMiddleware(serve)
        self._tokens = tokens
        self._security = TransportSecurityMiddleware(security)
        self._ready, self._metrics = ready, metrics
        self._sign_in, self._links = sign_in, links
        # Done when the bridge shuts down.
        self._closing: asyncio.Future[None] | None = None

    def close(self) -> None:
        """End all calls and streams. Calls that do not end within a second are cancelled. For the event loop."""
        self._closing = self._closing or asyncio.get_running_loop().create_future()
        if not self._closing.done():
            self._closing.set_result(None)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
        elif scope["type"] == "http":
            answer = await self._answer(scope, receive, send)
            if answer is not None:
                await answer(scope, receive, send)
        else:
            await receive()
            await send({"type": "websocket.close", "code": 1008})

    async def _answer(self, scope: Scope, receive: Receive, send: Send) -> Response | None:
        """The response; None when `app` has sent it."""
        request = Request(scope)
        if scope["path"] == METRICS_PATH:
            return await self._measured(request)
        to_sign_in = self._sign_in is not None and is_served(scope["path"])
        # Browsers come to the sign-in from elsewhere, and programs in browsers get tokens there: its forms check the origin.
        checked = Request(_without_origin(scope)) if to_sign_in else request
        if (foreign := await self._security.validate_request(checked)) is not None:
            return _refusal(
                foreign.status_code,
                "forbidden",
                "Host or Origin is not this server's.",
                "Use the server's own address; behind a proxy set EXPLORER_BRIDGE_PUBLIC_URL.",
            )
        if self._sign_in is not None and to_sign_in:
            await self._sign_in.app(scope, receive, send)
            return None
        if self._links is not None and scope["path"].startswith(LINKS):
            return await self._linked(self._links, scope, receive, send)
        # Also serve the path with a slash at its end: some clients drop their token on a redirect.
        path = scope["path"].rstrip("/")
        if path == PATH:
            return await self._protocol({**scope, "path": PATH, "raw_path": PATH.encode()}, receive, send)
        if path in ("/healthz", "/readyz"):
            return await self._health(request, path)
        return _refusal(404, "not_found", f"There is nothing here. The MCP endpoint is {PATH}.", self._how_to_get_in)

    @property
    def _how_to_get_in(self) -> str:
        return _HOW_TO_GET_IN if self._sign_in is None else _SIGN_IN

    async def _health(self, request: Request, path: str) -> Response:
        if request.method not in _READING:
            return _not_allowed(_READING)
        report = {"status": "ok"} if path == "/healthz" else await self._ready()
        return JSONResponse(
            report, 503 if report["status"] == "not_ready" else 200, headers={"Cache-Control": "no-store"}
        )

    async def _measured(self, request: Request) -> Response:
        if request.method not in _READING:
            return _not_allowed(_READING)
        # Reads a file.
        authorization = request.headers.get("authorization", "")
        if not await asyncio.to_thread(self._metrics.may_read, authorization):
            return _refusal(
                401,
                "invalid_token",
                "Metrics need their own token.",
                _HOW_TO_READ_METRICS,
                **{"WWW-Authenticate": 'Bearer realm="Data Explorer metrics"'},
            )
        text = self._metrics.text(await self._ready())
        # The others of this bridge ask for one.
        if self._metrics.of_all is not None and request.query_params.get("of") != "one":
            text = await self._metrics.of_all(text, authorization)
        return Response(text, media_type=CONTENT_TYPE, headers={"Cache-Control": "no-store"})

    async def _protocol(self, scope: Scope, receive: Receive, send: Send) -> Response | None:
        request = Request(scope)
        if request.method not in _METHODS:
            return _not_allowed(_METHODS)
        if (refused := await self._let_in(request)) is not None:
            return refused
        # Streams cannot be resumed. A client that lost its stream gets a new one.
        scope["headers"] = [(name, value) for name, value in scope["headers"] if name != b"last-event-id"]
        if request.method == "POST":
            begun_s = time.monotonic()
            body = await _body(request, receive)
            if isinstance(body, Response):
                return body
            # Whoever sends it slowly may have lost their rights meanwhile.
            if time.monotonic() - begun_s > _BODY_AT_ONCE_S and (refused := await self._let_in(request)) is not None:
                return refused
            if (asked := self._asks_for_more(body, scope["user"].access_token)) is not None:
                return asked
            receive = _again(body, receive)
        return await self._served(scope, receive, send)

    async def _let_in(self, request: Request) -> Response | None:
        """Put who asks into the request's scope, or return the response for a token that is not good."""
        try:
            known = await self._tokens.authenticate(request)
        except TokenUncheckable as error:
            return _uncheckable(error)
        if known is None:
            return self._unauthorized(request)
        request.scope["auth"], request.scope["user"] = known
        return None

    async def _served(self, scope: Scope, receive: Receive, send: Send) -> Response | None:
        """Let `app` respond while the token is valid and the bridge does not shut down."""
        stream = _Stream(send)
        work = asyncio.create_task(self._inner(scope, receive, stream.send))
        # One for all requests: a task for each would take as long as checking its token.
        closing = self._closing = self._closing or asyncio.get_running_loop().create_future()
        try:
            while not work.done():
                await asyncio.wait({work, closing}, timeout=_TOKEN_CHECKED_EVERY_S, return_when=asyncio.FIRST_COMPLETED)
                if closing.done():
                    await asyncio.wait({work}, timeout=_CLOSING_S)
                    return None if work.done() or await _ended(work, stream) else _closed()
                if not work.done() and not await self._still_good(scope):
                    return None if await _ended(work, stream) else self._unauthorized(Request(scope))
        finally:
            if not work.done():
                await _ended(work, stream)
        if not work.cancelled() and (error := work.exception()) is not None:
            if not stream.is_complete:
                raise error
            # Such as a notification, already accepted, to a session that ended meanwhile.
            _log.info("A request failed after its response: %r", error)
        return None

    async def _linked(self, links: ASGIApp, scope: Scope, receive: Receive, send: Send) -> Response | None:
        """Let `links` respond while the bridge does not shut down. A response that has begun is then left without its end."""
        stream = _Stream(send)
        work = asyncio.ensure_future(links(scope, receive, stream.send))
        closing = self._closing = self._closing or asyncio.get_running_loop().create_future()
        try:
            await asyncio.wait({work, closing}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            if not work.done():
                work.cancel()
                await asyncio.wait({work})
        if work.cancelled():
            return None if stream.has_begun else _closed()
        await work
        return None

    async def _still_good(self, scope: Scope) -> bool:
        """Whether the token that opened a stream is still valid, for the same caller. True while it cannot be checked, because no
        call is served then."""
        try:
            known = await self._tokens.authenticate(Request(scope))
        except TokenUncheckable:
            return True
        opened: AuthenticatedUser = scope["user"]
        return known is not None and _caller(known[1].access_token) == _caller(opened.access_token)

    def _asks_for_more(self, body: bytes, token: AccessToken) -> Response | None:
        """Status 403 for a call that the person may make, but has not allowed the program to make."""
        if self._sign_in is None or not isinstance(token, BridgeToken):
            return None
        scope = self._sign_in.step_up.missing(body, token.caller)
        if scope is None:
            return None
        # With what was granted: hosts that ask for exactly this would lose the rest.
        scopes = " ".join(sorted({*token.scopes, scope}))
        said = f"This needs {scope}, which you have not allowed this program."
        challenge = (
            f'Bearer error="insufficient_scope", scope="{scopes}", '
            f'resource_metadata="{self._sign_in.resource_metadata}", error_description="{said}"'
        )
        return _refusal(
            403, "insufficient_scope", said, "Sign in again and allow it.", **{"WWW-Authenticate": challenge}
        )

    def _unauthorized(self, request: Request) -> Response:
        given = "authorization" in request.headers
        said = "The token is unknown, revoked or expired." if given else "This address needs a token."
        how = self._how_to_get_in
        if self._sign_in is None:
            challenge = f'Bearer realm="Data Explorer", error="invalid_token", error_description="{said} {how}"'
        else:
            scopes = " ".join(DEFAULT_SCOPES)
            challenge = f'Bearer resource_metadata="{self._sign_in.resource_metadata}", scope="{scopes}"'
            if given:
                challenge += f', error="invalid_token", error_description="{said}"'
        return _refusal(401, "invalid_token", said, how, **{"WWW-Authenticate": challenge})


class _Stream:
    """A response in progress that can be ended from outside."""

    def __init__(self, send: Send) -> None:
        self._send = send
        self.has_begun = self.is_complete = False

    async def send(self, message: Message) -> None:
        if self.is_complete:
            raise RuntimeError("The response is complete.")
        self.has_begun = True
        self.is_complete = message["type"] == "http.response.body" and not message.get("more_body")
        await self._send(message)

    async def end(self) -> bool:
        """End the response; False when it had not begun."""
        if self.has_begun and not self.is_complete:
            await self._send({"type": "http.response.body", "body": b"", "more_body": False})
        return self.has_begun


async def _ended(work: "asyncio.Task[None]", stream: _Stream) -> bool:
    """Cancel the work and end its response. False when the response had not begun."""
    work.cancel()
    await asyncio.wait({work})
    return await stream.end()


async def _body(request: Request, receive: Receive) -> bytes | Response:
    """The whole body, or the response that refuses it."""
    chunks: list[bytes] = []
    size = 0
    try:
        async with asyncio.timeout(_BODY_S):
            while True:
                message = await receive()
                if message["type"] == "http.disconnect":
                    return Response(status_code=400)
                chunks.append(message.get("body", b""))
                size += len(chunks[-1])
                if size > DEFAULT_MAX_REQUEST_BODY_SIZE:
                    limit = DEFAULT_MAX_REQUEST_BODY_SIZE // 1024 // 1024
                    return _refusal(413, "too_large", f"The body has more than {limit} MB.", "Ask for less at once.")
                if not message.get("more_body"):
                    return b"".join(chunks)
    except TimeoutError:
        return _refusal(408, "too_slow", f"The body did not arrive within {_BODY_S:g} s.", "Send it at once.")


def _again(body: bytes, receive: Receive) -> Receive:
    pending: list[Message] = [{"type": "http.request", "body": body, "more_body": False}]

    async def replayed() -> Message:
        return pending.pop() if pending else await receive()

    return replayed


def _refusal(status: int, error: str, description: str, next_step: str, **headers: str) -> Response:
    body = {"error": error, "error_description": f"{description} {next_step}", "next_step": next_step}
    # The connection is closed, because the rest of an unread body may follow on it.
    return JSONResponse(body, status, headers={"Connection": "close", **headers})


def _not_allowed(methods: tuple[str, ...]) -> Response:
    allowed = ", ".join(methods)
    return _refusal(405, "method_not_allowed", f"Here one may {allowed}.", "MCP clients POST.", Allow=allowed)


def _caller(token: AccessToken) -> tuple[str, str | None]:
    return token.client_id, token.subject


def _without_origin(scope: Scope) -> Scope:
    return {**scope, "headers": [(name, value) for name, value in scope["headers"] if name != b"origin"]}


def _closed() -> Response:
    return _refusal(503, "closing", "The bridge is being stopped.", "Try again in a moment.")


def _uncheckable(error: TokenUncheckable) -> Response:
    """Status 503 with the JSON-RPC error that MCP clients read."""
    error_body = {"code": types.INTERNAL_ERROR, "message": str(error), "data": error.as_dict()}
    body = {"jsonrpc": "2.0", "id": None, "error": error_body}
    return JSONResponse(body, 503, headers={"Retry-After": str(_RETRY_AFTER_S), "Connection": "close"})
