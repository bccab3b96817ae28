"""The guarded webserver as a program: python -m explorer_dagster.webserver."""

import argparse
import json
import socket
from contextlib import ExitStack
from pathlib import Path

import uvicorn
from dagster import DagsterInstance
from dagster._core.workspace.context import WorkspaceProcessContext
from dagster._core.workspace.load_target import WorkspaceFileTarget
from dagster_webserver.app import create_app_from_workspace_process_context
from dagster_webserver.version import __version__

from explorer.core.files import write_private, write_privately
from explorer.core.ports import listen
from explorer.core.runtime_state import webserver_token
from explorer.core.settings import Settings, get_settings
from explorer_dagster.webserver.guard import Guard


def _token(settings: Settings) -> str:
    return settings.dagster_token.get_secret_value() if settings.dagster_token else webserver_token(settings.home)


def accepted_hosts(host: str, port: int) -> set[str]:
    """The Host values by which a browser on this machine reaches us."""
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
