"""The Dagster UI as `explorer up` serves it: Dagster's own web app behind a guard.

Dagster's webserver has no authentication and executes mutations sent by GET from any origin, so that any web page could
drive one that listens on loopback. The guard lets reads pass and asks for a token on everything that changes something.
The UI's own pages carry the token as a SameSite=Strict cookie, programs as the header `X-Explorer-Token`.
"""

import argparse
import asyncio
import hmac
import json
import socket
import urllib.parse
from collections.abc import Iterable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from http.cookies import CookieError, SimpleCookie
from pathlib import Path
from typing import Any, Self

import uvicorn
from dagster import DagsterInstance
from dagster._core.workspace.context import WorkspaceProcessContext
from dagster._core.workspace.load_target import WorkspaceFileTarget
from dagster_webserver.app import create_app_from_workspace_process_context
from dagster_webserver.version import __version__
from graphql import GraphQLError, OperationDefinitionNode, OperationType, parse
from starlette.datastructures import Headers, MutableHeaders, QueryParams
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from starlette.websockets import WebSocketClose

from explorer.core.files import write_private, write_privately
from explorer.core.ports import listen
from explorer.core.runtime_state import webserver_token
from explorer.core.settings import Settings, get_settings

TOKEN_HEADER = "x-explorer-token"  # noqa: S105 - the header's name
COOKIE = "explorer_token"
MAX_BODY_BYTES = 16 * 1024 * 1024
GRAPHQL_PATH = "/graphql"
_BODY_TIMEOUT_S = 30.0
_READING_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})
_HEADERS_OF_CONTENT = frozenset({b"content-type", b"content-length", b"content-encoding", b"transfer-encoding"})


class Refused(Exception):
    """Why a request is not let through: the status of the answer, and words."""

    def __init__(self, reason: str, status: int = 403) -> None:
        super().__init__(reason)
        self.reason, self.status = reason, status


class Guard:
    """ASGI middleware in front of the Dagster app.

    Refuses, and says why: a foreign Host or Origin, any change without the token, a GraphQL mutation by GET, a body over
    `MAX_BODY_BYTES`. What asks `/graphql` is parsed here, and Dagster is given what was parsed, written anew: so that the two can
    never read different things in the same bytes. `hosts` are the accepted `host:port` values of the Host header.
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
        """A Host that is not ours is DNS rebinding; an Origin that is not ours is another site's page."""
        if headers.get("host") not in self._hosts:
            raise Refused("unknown Host")
        origin = headers.get("origin")
        if origin is not None and urllib.parse.urlsplit(origin).netloc not in self._hosts:
            raise Refused("foreign Origin")
        if headers.get("sec-fetch-site") == "cross-site" and headers.get("sec-fetch-mode") != "navigate":
            raise Refused("request from another site")

    async def _let_in(self, scope: Scope, headers: Headers, receive: Receive) -> tuple[Scope, Receive]:
        """The request as Dagster shall see it."""
        if scope["path"] == GRAPHQL_PATH and scope["method"] == "GET":
            return _asked_by_url(scope), receive
        if scope["path"] == GRAPHQL_PATH and scope["method"] == "POST":
            asked = _asked_by_body(headers, await _read_body(headers, receive))
            if asked.changes and not self._has_token(headers):
                raise Refused("mutations need the token")
            return _rewritten(scope, asked, receive)
        if scope["method"] not in _READING_METHODS and not self._has_token(headers):
            raise Refused("changes need the token")
        return scope, receive

    def _has_token(self, headers: Headers) -> bool:
        given = headers.get(TOKEN_HEADER) or _cookie(headers.get("cookie", ""))
        return hmac.compare_digest(given.encode(), self._token.encode())

    def _hand_out_cookie(self, scope: Scope, headers: Headers, send: Send) -> Send:
        """Give the token to our own pages: only to a browser that navigates to one, never to a fetch from elsewhere."""
        if scope["type"] != "http" or scope["method"] != "GET" or "text/html" not in headers.get("accept", ""):
            return send
        if headers.get("sec-fetch-site", "none") not in ("none", "same-origin"):
            return send

        async def send_with_cookie(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message).append(
                    "set-cookie", f"{COOKIE}={self._token}; Path=/; HttpOnly; SameSite=Strict"
                )
            await send(message)

        return send_with_cookie


_NEXT_STEP = (
    "Open the UI at its own address, or send the header X-Explorer-Token with the content of HOME/webserver.token."
)
_HOW_TO_ASK = 'POST {"query": "...", "variables": {...}, "operationName": "..."} as application/json in plain UTF-8.'


def _answer(refusal: Refused) -> ASGIApp:
    async def answer(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "websocket":
            await WebSocketClose(code=1008, reason=refusal.reason)(scope, receive, send)
            return
        code, next_step = ("forbidden", _NEXT_STEP) if refusal.status == 403 else ("invalid_request", _HOW_TO_ASK)
        body = {"error": {"code": code, "message": f"Refused: {refusal.reason}.", "next_step": next_step}}
        # The rest of a body that was not read is no next request.
        await JSONResponse(body, refusal.status, headers={"connection": "close"})(scope, receive, send)

    return answer


@dataclass(frozen=True)
class _Asked:
    """A GraphQL request as it was understood. `changes`: some operation in it is not a plain query."""

    query: str
    variables: dict[str, Any] | None
    operation_name: str | None
    changes: bool

    @classmethod
    def of(cls, given: Mapping[str, Any]) -> Self:
        """Raises: Refused."""
        query, variables, name = given.get("query"), given.get("variables"), given.get("operationName")
        if isinstance(variables, str):
            variables = _json(variables, "`variables`")
        if not isinstance(query, str) or not isinstance(variables, dict | None) or not isinstance(name, str | None):
            raise Refused("`query` is not a text, `variables` not an object, or `operationName` not a text", 400)
        return cls(query, variables, name, _changes(query))


def _changes(query: str) -> bool:
    """Whether a GraphQL document could change something, whichever of its operations is chosen.

    Raises:
        Refused: it cannot be parsed.
    """
    try:
        document = parse(query)
    except (GraphQLError, RecursionError) as error:
        why = error.message if isinstance(error, GraphQLError) else "it is nested too deeply"
        raise Refused(f"`query` cannot be parsed: {why}", 400) from None
    return any(
        isinstance(node, OperationDefinitionNode) and node.operation is not OperationType.QUERY
        for node in document.definitions
    )


def _asked_by_url(scope: Scope) -> Scope:
    """A GET of `/graphql`: its page, or a query in the address. A change is none, whoever sends it: links can be planted in pages
    of our own origin too."""
    given = QueryParams(scope["query_string"])
    if "query" not in given:
        return {**scope, "query_string": b""}
    if len(given.multi_items()) != len(given):
        raise Refused("the address names something twice", 400)
    # As the page writes it that has nothing to say.
    asked = _Asked.of({name: value or None for name, value in given.items()} | {"query": given["query"]})
    if asked.changes:
        raise Refused("mutations are sent by POST, with the token")
    written = {"query": asked.query, "operationName": asked.operation_name}
    if asked.variables is not None:
        written["variables"] = json.dumps(asked.variables)
    address = urllib.parse.urlencode({name: value for name, value in written.items() if value is not None})
    return {**scope, "query_string": address.encode()}


def _asked_by_body(headers: Headers, body: bytes) -> _Asked:
    content_type = headers.get("content-type", "")
    kind, _, parameters = content_type.partition(";")
    charset = parameters.strip().lower().replace('"', "")
    if kind.strip().lower() != "application/json" or charset not in ("", "charset=utf-8"):
        raise Refused(f"a body of type {content_type[:80]!r} is not understood", 415)
    try:
        text = body.decode()
    except UnicodeDecodeError:
        raise Refused("the body is not UTF-8", 400) from None
    given = _json(text, "the body")
    if not isinstance(given, dict):
        raise Refused("the body is not one request: a JSON object with `query`", 400)
    return _Asked.of(given)


def _json(text: str, what: str) -> Any:
    def without_doubles(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        found = dict(pairs)
        if len(found) != len(pairs):
            raise ValueError("a name stands twice in one object")
        return found

    def no_number(name: str) -> None:
        raise ValueError(f"{name} is no number of JSON")

    try:
        return json.loads(text, object_pairs_hook=without_doubles, parse_constant=no_number)
    except (ValueError, RecursionError) as error:
        raise Refused(f"{what} cannot be parsed as JSON: {error}", 400) from None


def _rewritten(scope: Scope, asked: _Asked, receive: Receive) -> tuple[Scope, Receive]:
    """The request with what was understood as its only content: ASCII, so that every reader takes it for the same."""
    content = {"query": asked.query, "variables": asked.variables, "operationName": asked.operation_name}
    body = json.dumps(content).encode()
    kept = [(name, value) for name, value in scope["headers"] if name.lower() not in _HEADERS_OF_CONTENT]
    own = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
    pending: list[Message] = [{"type": "http.request", "body": body, "more_body": False}]

    async def replayed() -> Message:
        return pending.pop() if pending else await receive()

    return {**scope, "headers": kept + own, "query_string": b""}, replayed


async def _read_body(headers: Headers, receive: Receive) -> bytes:
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
        morsel = SimpleCookie(header).get(COOKIE)
    except CookieError:
        return ""
    return morsel.value if morsel else ""


def _token(settings: Settings) -> str:
    return settings.dagster_token.get_secret_value() if settings.dagster_token else webserver_token(settings.home)


def accepted_hosts(host: str, port: int) -> set[str]:
    """The Host values under which a browser on this machine reaches us."""
    names = {host} if host not in ("0.0.0.0", "::") else {socket.gethostname(), socket.getfqdn()}  # noqa: S104
    if host in ("127.0.0.1", "localhost", "::1", "0.0.0.0", "::"):  # noqa: S104
        names |= {"127.0.0.1", "localhost", "[::1]"}
    return {f"{name}:{port}" for name in names}


def main() -> None:
    write_privately()
    settings = get_settings()
    parser = argparse.ArgumentParser(prog="python -m explorer_dagster.webserver", description="The guarded Dagster UI.")
    parser.add_argument("--host", default=settings.dagster_host)
    parser.add_argument("--port", type=int, default=settings.dagster_port)
    parser.add_argument("--port-file", type=Path, help="file that receives {url} as JSON once the socket listens")
    parser.add_argument("-w", "--workspace", type=Path, default=settings.project_dir / "workspace.yaml")
    options = parser.parse_args()
    with ExitStack() as stack:
        listener = stack.enter_context(listen(options.host, options.port))
        port = listener.getsockname()[1]
        instance = stack.enter_context(DagsterInstance.get())
        context = stack.enter_context(
            WorkspaceProcessContext(instance, WorkspaceFileTarget([str(options.workspace)]), version=__version__)
        )
        app = create_app_from_workspace_process_context(context)
        guarded = Guard(app, token=_token(settings), hosts=accepted_hosts(options.host, port))
        if options.port_file:
            write_private(options.port_file, json.dumps({"url": f"http://{options.host}:{port}"}))
        server = uvicorn.Server(uvicorn.Config(guarded, log_level="warning", timeout_graceful_shutdown=3))
        server.run(sockets=[listener])


if __name__ == "__main__":
    main()
