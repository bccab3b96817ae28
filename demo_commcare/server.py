"""Runs the demo server in the main thread, or in another thread for a test.

It handles sockets, uvicorn and the port file, and knows nothing about CommCare.
"""

import contextlib
import json
import logging
import os
import signal
import socket
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import uvicorn

from demo_commcare.app import DemoCommCare
from demo_commcare.control import Control
from demo_commcare.faults import ConnectionCut
from demo_commcare.world import Truth

_STOP_TIMEOUT_S = 10.0


@dataclass
class RunningServer:
    """A server that answers at `url` until its context ends."""

    url: str
    app: DemoCommCare
    api_key: str = field(repr=False)

    @property
    def username(self) -> str:
        return self.app.username

    @property
    def control(self) -> Control:
        return self.app.control

    @property
    def headers(self) -> dict[str, str]:
        """The Authorization header of the demo user."""
        return {"Authorization": f"ApiKey {self.username}:{self.api_key}"}

    def truth(self, domain: str) -> Truth:
        return self.app.truth(domain)


@contextlib.contextmanager
def serve_in_thread(
    cases: int | None = None,
    seed: int = 1,
    api_key: str | None = None,
    control_token: str | None = None,
    access_token_lifetime_s: float = 900.0,
    host: str = "127.0.0.1",
    port: int = 0,
) -> Iterator[RunningServer]:
    """Run a server in a thread, on a free port unless one is given. Raises OSError when the port is not available."""
    app = DemoCommCare(api_key, control_token, seed, cases, access_token_lifetime_s)
    listener = _listen(host, port)
    server = _uvicorn(app)
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, name="demo-commcare", daemon=True)
    thread.start()
    try:
        yield RunningServer(_url(listener), app, app.api_key)
    finally:
        server.should_exit = True
        thread.join(_STOP_TIMEOUT_S)
        listener.close()


def serve(app: DemoCommCare, host: str, port: int, port_file: Path | None, control_token: str) -> None:
    """Run until SIGINT or SIGTERM. Raises OSError when the port is not available."""
    listener = _listen(host, port)
    server = _uvicorn(app)

    def stop(_signal: int, _frame: object) -> None:
        server.should_exit = True

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, stop)
    if port_file is not None:
        _write_port_file(port_file, app, _url(listener), control_token)
    try:
        server.run(sockets=[listener])
    finally:
        listener.close()
        if port_file is not None:
            port_file.unlink(missing_ok=True)


def _listen(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    # asyncio sets it only on sockets that name their protocol; without it the end of an answer waits 40 ms for the client.
    listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    try:
        listener.bind((host, port))
        listener.listen(128)
    except OSError:
        listener.close()
        raise
    return listener


def _url(listener: socket.socket) -> str:
    host, port = listener.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def _is_no_wanted_cut(record: logging.LogRecord) -> bool:
    """A log filter that drops messages about connections cut by a fault rule."""
    return not (isinstance(record.exc_info, tuple) and record.exc_info[0] is ConnectionCut)


class _Server(uvicorn.Server):
    """A uvicorn server that does not raise SIGTERM again after its orderly stop; otherwise the port file would remain."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


def _uvicorn(app: DemoCommCare) -> uvicorn.Server:
    logging.getLogger("uvicorn.error").addFilter(_is_no_wanted_cut)
    config = uvicorn.Config(
        app,
        log_config=None,
        access_log=False,
        lifespan="off",
        ws="none",
        server_header=False,
        timeout_graceful_shutdown=2,
    )
    return _Server(config)


def _write_port_file(path: Path, app: DemoCommCare, url: str, control_token: str) -> None:
    """Write the connection data atomically, readable only by the owner."""
    content = {
        "url": url,
        "username": app.username,
        "api_key": app.api_key,
        "control_token": control_token,
        "pid": os.getpid(),
    }
    client_id, client_secret = app.control.oauth_client
    content |= {"oauth_client_id": client_id, "oauth_client_secret": client_secret}
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    draft.unlink(missing_ok=True)
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w") as stream:
        json.dump(content, stream)
    draft.replace(path)
