"""The guarded webserver as a program: python -m explorer_dagster.webserver."""

import argparse
import json
import logging
import socket
from collections.abc import Sequence
from contextlib import ExitStack
from functools import cached_property
from importlib.metadata import version
from pathlib import Path
from urllib.parse import urlsplit

import uvicorn
from anyio import to_thread
from dagster import DagsterInstance
from dagster._core.workspace.context import WorkspaceProcessContext
from dagster._core.workspace.load_target import WorkspaceFileTarget
from dagster_webserver.app import create_app_from_workspace_process_context
from sqlalchemy.exc import SQLAlchemyError

from explorer.catalog.audit.log import AuditLog, change
from explorer.catalog.storage.database import Database
from explorer.core.errors import ExplorerError
from explorer.core.files import write_private, write_privately
from explorer.core.ports import listen
from explorer.core.runtime_state import read_state, webserver_token
from explorer.core.settings import Settings, get_settings
from explorer.postgres.connections import load_connections
from explorer.telemetry.logs import log_to
from explorer_dagster.webserver.guard import Guard
from explorer_dagster.webserver.metrics import CatalogStanding, DagsterFigures, MetricsPage
from explorer_dagster.webserver.pages import Documentation
from explorer_dagster.webserver.people import People
from explorer_dagster.webserver.sessions import Sessions

_log = logging.getLogger(__name__)


def _token(settings: Settings) -> str:
    return settings.dagster_token.get_secret_value() if settings.dagster_token else webserver_token(settings.home)


def people_of(settings: Settings, url: str) -> People | None:
    """Who may sign in, where the sign-in of the bridge is set up. `url`: on which the webserver listens."""
    if settings.sign_in_file is None:
        return None

    def bridge() -> str | None:
        return settings.bridge_public_url or read_state(settings.home).get("bridge_url")

    return People(settings.ui_url or settings.dagster_url or url, bridge, inner=settings.bridge_inner_url)


def secure_hosts(*urls: str | None) -> set[str]:
    """The Host values of those of the addresses that browsers reach by TLS."""
    return {urlsplit(url).netloc for url in urls if url and urlsplit(url).scheme == "https"}


def accepted_hosts(host: str, port: int, *urls: str | None) -> set[str]:
    """The Host values by which a browser on this machine reaches us, and those of the addresses that others were given."""
    names = {host} if host not in ("0.0.0.0", "::") else {socket.gethostname(), socket.getfqdn()}  # noqa: S104
    if host in ("127.0.0.1", "localhost", "::1", "0.0.0.0", "::"):  # noqa: S104
        names |= {"127.0.0.1", "localhost", "[::1]"}
    return {f"{name}:{port}" for name in names} | {urlsplit(url).netloc for url in urls if url}


class Changes:
    """Writes changes made through the webserver to the audit trail. The bridge's own are there twice, also as calls of
    its tools."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings

    async def record(self, actor: str, names: Sequence[str]) -> None:
        """Write one down.

        Raises:
            OSError: it cannot be written.
        """
        try:
            await to_thread.run_sync(
                lambda: self._trail.append(change("dagster_mutation", actor=actor, names=list(names)))
            )
        except (ExplorerError, SQLAlchemyError) as error:
            _log.error("A change was refused, because it cannot be written to the audit trail: %s", error)
            # The next one opens it anew: `explorer db upgrade --take-over` gives the services other passwords.
            self.__dict__.pop("_trail", None)
            raise OSError("the audit trail cannot be written") from error

    @cached_property
    def _trail(self) -> AuditLog:
        """Opened at the first change: the UI can be read without the catalog."""
        return AuditLog(Database(load_connections(self._settings).service))


def main() -> None:
    write_privately()
    settings = get_settings()
    log_to(settings)
    parser = argparse.ArgumentParser(prog="python -m explorer_dagster.webserver", description="The guarded Dagster UI.")
    parser.add_argument("--host", default=settings.dagster_host)
    parser.add_argument("--port", type=int, default=settings.dagster_port)
    parser.add_argument("--port-file", type=Path, help="file that receives {url} as JSON once the socket listens")
    parser.add_argument("-w", "--workspace", type=Path, default=settings.project_dir / "workspace.yaml")
    options = parser.parse_args()
    with ExitStack() as stack:
        listener = stack.enter_context(listen(options.host, options.port))
        port = listener.getsockname()[1]
        url = f"http://{f'[{options.host}]' if ':' in options.host else options.host}:{port}"
        instance = stack.enter_context(DagsterInstance.get())
        context = stack.enter_context(
            WorkspaceProcessContext(
                instance, WorkspaceFileTarget([str(options.workspace)]), version=version("dagster-webserver")
            )
        )
        app = create_app_from_workspace_process_context(context)
        pages = Documentation(app, settings.project_dir / "docs")
        figures = DagsterFigures(instance, settings, CatalogStanding(settings).read)
        token, lasts_s = _token(settings), settings.ui_session_hours * 3600
        sessions = Sessions(token, port=port, lasts_s=lasts_s)
        guarded = Guard(
            pages,
            token=token,
            hosts=accepted_hosts(options.host, port, settings.ui_url, settings.dagster_url),
            secure_hosts=secure_hosts(settings.ui_url, settings.dagster_url),
            sessions=sessions,
            record=Changes(settings).record,
            people=people_of(settings, url),
            metrics=MetricsPage(settings, figures.text),
        )
        if options.port_file:
            write_private(options.port_file, json.dumps({"url": url}))
        server = uvicorn.Server(
            uvicorn.Config(guarded, log_config=None, log_level="warning", access_log=False, timeout_graceful_shutdown=3)
        )
        server.run(sockets=[listener])


if __name__ == "__main__":
    main()
