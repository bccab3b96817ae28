"""A proxy between a bridge and its Dagster that delays what a test chooses, like a network or a busy server."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import httpx


@dataclass
class Proxy:
    """`before` and `after` are called with each request's body before it goes on and before its answer goes back.

    `closed`: requests go nowhere and are not answered, nor is what is still held.
    """

    url: str
    before: Callable[[str], None] = lambda body: None
    after: Callable[[str], None] = lambda body: None
    held: threading.Event = field(default_factory=threading.Event)
    go_on: threading.Event = field(default_factory=threading.Event)
    closed: bool = False

    def reset(self) -> None:
        """Let go what is held, and pass on everything again."""
        self.go_on.set()
        self.before = self.after = lambda body: None
        self.held, self.go_on, self.closed = threading.Event(), threading.Event(), False

    def hold(self, body: str) -> None:
        """For `before` and `after`: hold launches until `go_on` is set, and say by `held` that there is one."""
        if "launchRun" in body:
            self.held.set()
            self.go_on.wait(120)

    def close_at_launch(self, body: str) -> None:
        """For `before`: no launch is let through, nor anything behind it."""
        self.closed = self.closed or "launchRun" in body


@contextmanager
def proxy(target: str) -> Iterator[Proxy]:
    """A proxy in front of the Dagster at `target`."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            made.before(body.decode())
            if made.closed:
                return
            headers = {"Content-Type": self.headers["Content-Type"]}
            answer = httpx.post(
                f"{target}{self.path}", content=body, headers=headers, trust_env=False, verify=False, timeout=60
            )
            made.after(body.decode())
            try:
                self.send_response(answer.status_code)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(answer.content)))
                self.end_headers()
                self.wfile.write(answer.content)
            except OSError:
                pass  # the client was killed meanwhile

        def log_message(self, *_: object) -> None:
            """Says nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    made = Proxy(f"http://127.0.0.1:{server.server_port}")
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield made
    finally:
        made.closed = True
        made.go_on.set()
        server.shutdown()
        server.server_close()
