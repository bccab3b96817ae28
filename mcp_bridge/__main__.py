"""`explorer-mcp`, also `python -m mcp_bridge`: runs the bridge as a separate process.

Over stdio only the protocol goes to stdout; texts for people go to stderr.
"""

import argparse
import asyncio
import errno
import gc
import logging
import socket
import sys
from contextlib import ExitStack
from pathlib import Path

import anyio
import uvicorn

from explorer.core.errors import ExplorerError
from explorer.core.files import write_private, write_privately
from explorer.core.loopback import is_loopback
from explorer.core.ports import listen, reserve
from explorer.core.settings import Settings, get_settings
from explorer.providers import faults_of, provider_named
from explorer.telemetry.logs import log_to
from explorer.telemetry.traces import send_spans
from mcp_bridge.composition import Parts, Services
from mcp_bridge.gate.http_authentication import PATH
from mcp_bridge.gate.shutdown import leave_nobody_waiting
from mcp_bridge.processes import Processes, Sibling
from mcp_bridge.server import http_app, serve_http, serve_stdio
from mcp_bridge.sign_in.providers.composition import sign_in_parts
from mcp_bridge.sql.validation import PARSER

_log = logging.getLogger("mcp_bridge")


class AddressInUse(ExplorerError):
    """Another process already uses the bridge's address."""

    code = "port_in_use"


class AddressUnusable(ExplorerError):
    """The bridge cannot listen on that address."""

    code = "address_unusable"


# Most of the process's memory is caches of tenants, which are never garbage. With Python's default thresholds some calls
# wait 0.7 s while the collector scans all of it.
_GC_THRESHOLDS = (50_000, 50, 1000)


def _is_news(record: logging.LogRecord) -> bool:
    """False for a message to a session that ended in the same moment, which the SDK logs as an error with its traceback."""
    return not (record.exc_info and isinstance(record.exc_info[1], anyio.ClosedResourceError))


def main(argv: list[str] | None = None) -> int:
    """Run the bridge; the exit status is 0 only after an orderly stop."""
    args = _arguments(argv)
    write_privately()
    try:
        settings = get_settings()
        log_to(settings)
        # These libraries log one line per MCP or GraphQL request, which helps nobody.
        for noisy in ("httpx", "httpx2", "mcp", "uvicorn.access"):
            logging.getLogger(noisy).setLevel(logging.WARNING)
        logging.getLogger("mcp.server.streamable_http").addFilter(_is_news)
        # It warns about what it cannot read, which the caller is told.
        logging.getLogger("sqlglot").setLevel(logging.ERROR)
        if PARSER != "libpg_query":
            _log.warning(
                "SQL is validated by %s with stricter rules: pgparse is not installed on this platform", PARSER
            )
        gc.set_threshold(*_GC_THRESHOLDS)
        end_spans = send_spans(settings, "explorer-bridge")
        try:
            host = args.host or settings.bridge_host
            port = settings.bridge_port if args.port is None else args.port
            if args.transport == "stdio":
                _serve_stdio(settings)
            elif args.sibling is None and settings.bridge_processes > 1:
                return 0 if _keep_processes(settings, host, port, args.port_file) else 1
            else:
                _serve_http(settings, host, port, args.port_file, args.sibling)
        finally:
            end_spans()
    except ExplorerError as error:
        print(f"explorer-mcp: {error} [{error.code}]", file=sys.stderr)
        return 1
    leave_nobody_waiting()
    return 0


# The parts that the bridge itself does not import.
_PARTS = Parts(provider_named, faults_of)


def _serve_stdio(settings: Settings) -> None:
    token = settings.token.get_secret_value() if settings.token else None
    asyncio.run(serve_stdio(Services.compose(settings, _PARTS), token))


def _arguments(argv: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="explorer-mcp", description="Serve the Data Explorer's tools over MCP.")
    parser.add_argument("--transport", choices=("stdio", "streamable-http"), default="stdio")
    parser.add_argument("--host", help="address to listen on (streamable-http); default EXPLORER_BRIDGE_HOST")
    parser.add_argument("--port", type=_port, help="port; 0 picks a free one; default EXPLORER_BRIDGE_PORT")
    parser.add_argument("--port-file", type=Path, help="file to write the port to once it listens")
    # For the processes of one bridge, which start each other.
    parser.add_argument("--sibling", type=Sibling.parse, help=argparse.SUPPRESS)
    return parser.parse_args(argv)


def _port(text: str) -> int:
    if not text.isdecimal() or int(text) > 65535:
        raise argparse.ArgumentTypeError("a port is a number from 0 to 65535")
    return int(text)


def _keep_processes(settings: Settings, host: str, port: int, port_file: Path | None) -> bool:
    # Two bridges must not share a port by mistake: only this finds out that somebody listens there.
    bind(host, port).close()
    with reserve(host, port) as held:
        actual = held.getsockname()[1]
        listening = ["--transport", "streamable-http", "--host", host, "--port", str(actual)]

        def ready() -> None:
            if port_file is not None:
                write_private(port_file, f"{actual}\n")
            _log.info(
                "%s processes of the bridge answer at http://%s:%s%s", settings.bridge_processes, host, actual, PATH
            )

        return Processes(
            settings.bridge_processes, lambda sibling: [*listening, "--sibling", sibling.as_argument], ready
        ).run()


def _serve_http(settings: Settings, host: str, port: int, port_file: Path | None, sibling: Sibling | None) -> None:
    with ExitStack() as stack:
        sockets = [stack.enter_context(bind(host, port))] if sibling is None else []
        actual = sockets[0].getsockname()[1] if sockets else port
        if not is_loopback(host) and settings.bridge_public_url is None:
            _log.warning(
                "Listening on %s without TLS: tokens travel in the clear. Put a TLS proxy in front and set "
                "EXPLORER_BRIDGE_PUBLIC_URL to its address.",
                host,
            )
        services = Services.compose(settings, _PARTS)
        people = None
        if settings.sign_in_file is not None:
            people = sign_in_parts(
                settings.sign_in_file, settings, services.platform, services.databases, provider_named
            )
        app = http_app(
            services, host=host, port=actual, public_url=settings.bridge_public_url, people=people, sibling=sibling
        )
        if sibling is not None:
            # Not before: from here on the kernel gives it connections.
            sockets = [stack.enter_context(each) for each in sibling.listen(host, actual)]
        if port_file is not None:
            write_private(port_file, f"{actual}\n")
        _log.info("The bridge answers at http://%s:%s%s", host, actual, PATH)
        # uvloop where it is installed: half of a small call's time is the loop's.
        with asyncio.Runner(loop_factory=uvicorn.Config(app, log_config=None).get_loop_factory()) as runner:
            runner.run(serve_http(services, app, sockets, settings.log_level, sibling))


def bind(host: str, port: int) -> socket.socket:
    """A listening socket, opened first so that a port in use is noticed before anything else starts.

    Raises:
        AddressInUse: another process listens there.
        AddressUnusable: this machine has no such address, or the port needs privileges.
    """
    try:
        return listen(host, port)
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            raise AddressInUse(
                f"Port {port} on {host} is in use.",
                next_step="Stop the other process, or choose another port with --port or EXPLORER_BRIDGE_PORT (0 picks one).",
            ) from None
        raise AddressUnusable(
            f"The bridge cannot listen on {host}:{port}: {error.strerror or error}.",
            next_step="Choose another address or port with --host, --port or EXPLORER_BRIDGE_HOST, EXPLORER_BRIDGE_PORT.",
        ) from None


if __name__ == "__main__":
    raise SystemExit(main())
