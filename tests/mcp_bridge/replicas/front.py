"""A proxy in front of several bridges: each request goes to the next one, those of a session of the older protocol to its own."""

import asyncio
import socket
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

import httpx
import uvicorn
from starlette.applications import Starlette
from starlette.background import BackgroundTask
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import Route

_SESSION = "mcp-session-id"
# They belong to one connection, or the server that answers writes its own.
_NOT_PASSED = frozenset({b"connection", b"keep-alive", b"transfer-encoding", b"date", b"server"})


@dataclass
class Front:
    """`urls`: of the bridges; `served`: number of the bridge and path of each request."""

    url: str
    urls: Sequence[str] = ()
    served: list[tuple[int, str]] = field(default_factory=list)
    sessions: dict[str, int] = field(default_factory=dict)
    next: int = 0

    def order(self, session: str | None) -> list[int]:
        """The bridges to be asked, one after the other until one can be reached."""
        self.next += 1
        own = self.sessions.get(session or "", self.next)
        return [(own + step) % len(self.urls) for step in range(len(self.urls))]

    def bridges_of(self, path: str) -> list[int]:
        """Which bridges have served requests of a path, in their order."""
        return [number for number, served in self.served if served.startswith(path)]


@contextmanager
def front() -> Iterator[Front]:
    """A running proxy, whose bridges are still to be told."""
    bound = socket.create_server(("127.0.0.1", 0))
    made = Front(f"http://127.0.0.1:{bound.getsockname()[1]}")

    async def passed(request: Request) -> Response:
        body = await request.body()
        target = request.url.path + (f"?{request.url.query}" if request.url.query else "")
        for number in made.order(request.headers.get(_SESSION)):
            onward = client.build_request(
                request.method, f"{made.urls[number]}{target}", headers=request.headers.raw, content=body
            )
            try:
                answer = await client.send(onward, stream=True)
            except httpx.ConnectError:
                continue
            except httpx.TransportError:
                break
            made.served.append((number, request.url.path))
            if opened := answer.headers.get(_SESSION):
                made.sessions[opened] = number
            response = StreamingResponse(
                answer.aiter_raw(), answer.status_code, background=BackgroundTask(answer.aclose)
            )
            response.raw_headers = [
                (name.lower(), value) for name, value in answer.headers.raw if name.lower() not in _NOT_PASSED
            ]
            return response
        return Response(status_code=502)

    methods = ["GET", "POST", "DELETE", "OPTIONS", "HEAD"]
    app = Starlette(routes=[Route("/{path:path}", passed, methods=methods)])
    server = uvicorn.Server(uvicorn.Config(app, log_config=None, access_log=False, timeout_graceful_shutdown=1))
    # No connection is kept: one of a bridge that has just died would lose a request that never reached it.
    limits = httpx.Limits(max_connections=None, max_keepalive_connections=0)
    client = httpx.AsyncClient(trust_env=False, verify=False, timeout=60, limits=limits)
    thread = threading.Thread(target=lambda: asyncio.run(server.serve([bound])), daemon=True)
    thread.start()
    try:
        yield made
    finally:
        server.should_exit = True
        thread.join(20)
