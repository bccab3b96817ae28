"""The Dagster UI as `explorer up` serves it: Dagster's own web app behind a guard.

Dagster's webserver has no authentication and executes mutations sent by GET from any origin, so that any web page could
drive one that listens on loopback. The guard lets reads pass and asks for a token on everything that changes something.
The UI's own pages carry the token as a SameSite=Strict cookie, programs as the header `X-Explorer-Token`.
"""

import argparse
import hmac
import json
import socket
import urllib.parse
from collections.abc import Iterable
from contextlib import ExitStack
from http.cookies import CookieError, SimpleCookie
from pathlib import Path

import uvicorn
from dagster import DagsterInstance
from dagster._core.workspace.context import WorkspaceProcessContext
from dagster._core.workspace.load_target import WorkspaceFileTarget
from dagster_webserver.app import create_app_from_workspace_process_context
from dagster_webserver.version import __version__
from graphql import GraphQLError, OperationDefinitionNode, OperationType, parse
from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from starlette.websockets import WebSocketClose

from explorer_dagster.private import write_privately
from explorer_dagster.runtime_state import webserver_token, write_private
from explorer_dagster.settings import Settings, get_settings

TOKEN_HEADER = "x-explorer-token"  # noqa: S105 - the header's name
COOKIE = "explorer_token"
MAX_BODY_BYTES = 16 * 1024 * 1024
_READING_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})


class Guard:
    """ASGI middleware in front of the Dagster app.

    Refuses with 403, and says why: a foreign Host or Origin, any change without the token, a GraphQL mutation by GET, a body
    over `MAX_BODY_BYTES`. `hosts` are the accepted `host:port` values of the Host header.
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
        refusal = self._foreign(headers)
        if refusal is None and scope["type"] == "websocket" and not self._has_token(headers):
            refusal = "subscriptions need the token"
        if refusal is None and scope["type"] == "http":
            receive, refusal = await self._check_change(scope, headers, receive)
        if refusal is None:
            await self._app(scope, receive, self._hand_out_cookie(scope, headers, send))
        elif scope["type"] == "websocket":
            await WebSocketClose(code=1008, reason=refusal)(scope, receive, send)
        else:
            body = {"error": {"code": "forbidden", "message": f"Refused: {refusal}.", "next_step": _NEXT_STEP}}
            await JSONResponse(body, status_code=403)(scope, receive, send)

    def _foreign(self, headers: Headers) -> str | None:
        """A Host that is not ours is DNS rebinding; an Origin that is not ours is another site's page."""
        if headers.get("host") not in self._hosts:
            return "unknown Host"
        origin = headers.get("origin")
        if origin is not None and urllib.parse.urlsplit(origin).netloc not in self._hosts:
            return "foreign Origin"
        if headers.get("sec-fetch-site") == "cross-site" and headers.get("sec-fetch-mode") != "navigate":
            return "request from another site"
        return None

    async def _check_change(self, scope: Scope, headers: Headers, receive: Receive) -> tuple[Receive, str | None]:
        if self._has_token(headers):
            # A GET is never a change, whoever sends it: links can be planted in pages of our own origin too.
            changes_by_get = scope["method"] == "GET" and _changes(_query_of_url(scope))
            return receive, "mutations are sent by POST" if changes_by_get else None
        if scope["method"] in _READING_METHODS:
            return receive, "mutations need the token, by POST" if _changes(_query_of_url(scope)) else None
        if not scope["path"].endswith("/graphql"):
            return receive, "changes need the token"
        body = await _read_body(receive)
        if body is None:
            return receive, "the body is too large"
        queries = [_query_of_url(scope), *_queries_of_body(body, headers.get("content-type", ""))]
        return _replay(body, receive), "mutations need the token" if any(map(_changes, queries)) else None

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


def _changes(query: str | None) -> bool:
    """Whether a GraphQL document could change something; what does not parse is judged by Dagster, which executes none of it."""
    if not query:
        return False
    try:
        document = parse(query)
    except (GraphQLError, RecursionError):
        return False
    return any(
        isinstance(node, OperationDefinitionNode) and node.operation is OperationType.MUTATION
        for node in document.definitions
    )


def _query_of_url(scope: Scope) -> str | None:
    values = urllib.parse.parse_qs(scope["query_string"].decode("latin-1")).get("query")
    return values[-1] if values else None


def _queries_of_body(body: bytes, content_type: str) -> list[str]:
    """The document of a JSON body, or the body itself: the two shapes that Dagster's endpoint understands."""
    text = body.decode("utf-8", errors="replace")
    if "application/json" not in content_type:
        return [text]
    try:
        data = json.loads(text)
    except (json.JSONDecodeError, RecursionError):
        return []
    return [str(data.get("query", ""))] if isinstance(data, dict) else [text]


async def _read_body(receive: Receive) -> bytes | None:
    chunks: list[bytes] = []
    size = 0
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            return b""
        chunks.append(message.get("body", b""))
        size += len(chunks[-1])
        if size > MAX_BODY_BYTES:
            return None
        if not message.get("more_body"):
            return b"".join(chunks)


def _replay(body: bytes, receive: Receive) -> Receive:
    pending: list[Message] = [{"type": "http.request", "body": body, "more_body": False}]

    async def replayed() -> Message:
        return pending.pop() if pending else await receive()

    return replayed


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
        listener = stack.enter_context(socket.create_server((options.host, options.port), backlog=128))
        # asyncio does so only for sockets that name their protocol; without, the end of an answer waits 40 ms for the client.
        listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
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
