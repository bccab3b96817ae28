"""Of which parts the platform consists: how each is started, what it needs, which secrets it gets and how it shows that it works.

`supervisor` runs the table that `platform_units` makes; addresses are chosen here, before anything starts, so that a part that is
restarted comes back where its clients look for it.
"""

import asyncio
import json
import os
import shutil
import socket
import sys
from collections.abc import Mapping
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
from pydantic import SecretStr

from explorer.core.errors import ExplorerError
from explorer.core.files import write_private
from explorer.core.home import code_server_socket, warm_pool_socket
from explorer.core.runtime_state import webserver_token
from explorer.core.settings import PREFIX, Settings
from explorer_cli.bytecode import compile_packages
from explorer_cli.demo_server import DemoServer
from explorer_cli.home import no_room
from explorer_cli.processes import choose_port
from explorer_cli.supervisor import Hindered, Part, Step

LOCATION = "explorer"
PROBE_TIMEOUT_S = 3.0
# A segment of the write-ahead log is 16 MB: with less than two the server cannot be relied on to write.
DATABASE_ROOM_BYTES = 32 * 1024**2
# Everything stands still without the database, and asking it costs some ten milliseconds.
DATABASE_INTERVAL_S = 2.0

# What a child may inherit. Everything else, other programs' secrets above all, stays behind.
INHERITED = frozenset({
    "HOME", "LANG", "LANGUAGE", "LC_ALL", "LC_CTYPE", "LD_LIBRARY_PATH", "LOGNAME", "PATH", "PYTHONPATH", "SHELL", "TERM",
    "TMPDIR", "TZ", "USER", "VIRTUAL_ENV", "REQUESTS_CA_BUNDLE", "SSL_CERT_DIR", "SSL_CERT_FILE", "HTTP_PROXY", "HTTPS_PROXY",
    "NO_PROXY", "ALL_PROXY", "http_proxy", "https_proxy", "no_proxy", "all_proxy",
})  # fmt: skip
QUIET = {
    "PYTHONUNBUFFERED": "1",
    "DO_NOT_TRACK": "1",
    "DBT_SEND_ANONYMOUS_USAGE_STATS": "false",
    "RUNTIME__DLTHUB_TELEMETRY": "false",
}


@dataclass(frozen=True)
class Platform:
    """The table of units in starting order and the addresses that they will have."""

    units: list[Part | Step]
    facts: dict[str, Any]


def platform_units(settings: Settings, *, demo: bool) -> Platform:
    """Choose addresses, write the files that the parts read at start, and make the table.

    Raises:
        PortInUse: a configured port belongs to another program.
    """
    bridge_port = choose_port(settings.bridge_host, settings.bridge_port, setting="EXPLORER_BRIDGE_PORT")
    bridge_url = f"http://{_in_url(settings.bridge_host)}:{bridge_port}/mcp"
    units: list[Part | Step] = [
        Step("packages", "Python packages", lambda: {"packages_compiled": compile_packages()}),
        _database(settings),
    ]
    facts: dict[str, Any] = {"bridge_url": bridge_url, "demo_url": None, "dagster_url": settings.dagster_url}
    if demo:
        server = DemoServer.prepare(settings)
        facts["demo_url"] = server.url
        units.append(server.part(child_env(settings)))
    if settings.dagster_url is None:
        dagster_port = choose_port(settings.dagster_host, settings.dagster_port, setting="EXPLORER_DAGSTER_PORT")
        facts["dagster_url"] = f"http://{_in_url(settings.dagster_host)}:{dagster_port}"
        units += _dagster(settings, dagster_port, facts["dagster_url"])
    units.append(_bridge(settings, bridge_port, bridge_url))
    return Platform(units, facts)


def child_env(settings: Settings, *secrets: str) -> dict[str, str]:
    """The environment of a part: what programs need anyway, our settings, and of the secrets only the named fields.

    Settings come resolved, so that parts agree with this process whatever `.env` file lies where they run.
    """
    env = {name: value for name, value in os.environ.items() if name in INHERITED}
    package_root = str(Path(__file__).resolve().parent.parent)
    env["PYTHONPATH"] = os.pathsep.join(filter(None, [package_root, env.get("PYTHONPATH")]))
    for field in settings.model_fields_set | {"home", "project_dir"}:
        value = getattr(settings, field)
        if isinstance(value, SecretStr):
            if field in secrets:
                env[PREFIX + field.upper()] = value.get_secret_value()
        elif value is not None:
            env[PREFIX + field.upper()] = str(value)
    return {**env, **QUIET, "DAGSTER_HOME": str(settings.home / "dagster")}


def database_facts(settings: Settings) -> dict[str, Any]:
    """`{host, port, name}` of the database, no secret. Raises DatabaseNotReady before the first start."""
    from explorer.postgres.connections import load_connections

    login = load_connections(settings).service.conninfo()
    return {"host": login["host"], "port": login["port"], "name": login["dbname"]}


def stop_database(settings: Settings, *, force: bool, patience_s: float | None = None) -> bool:
    """Stop the embedded server; False when there was none, or when it belongs to another process and `force` is not set.

    `patience_s`: as in `EmbeddedPostgres.stop`.
    """
    from explorer.postgres.bootstrap import embedded_from
    from explorer.postgres.embedded import STOP_PATIENCE_S
    from explorer.postgres.errors import PostgresNotOwner

    if settings.database_url is not None:
        return False
    try:
        return embedded_from(settings).stop(
            force=force, patience_s=STOP_PATIENCE_S if patience_s is None else patience_s
        )
    except PostgresNotOwner:
        return False


def database_recovers(settings: Settings) -> bool:
    """Whether the embedded server, which is stopped, has its log to replay at the next start."""
    from explorer.postgres.bootstrap import embedded_from

    return settings.database_url is None and embedded_from(settings).needs_recovery()


def database_answers(settings: Settings) -> bool:
    """Whether the service login can ask the database something.

    Raises:
        Hindered: it can, but the embedded server has no room to write.
        DatabaseUnreachable, DatabaseNotReady.
    """
    from explorer.postgres.connections import load_connections

    with closing(load_connections(settings).service.connect()) as connection:
        answered = connection.execute("SELECT 1").fetchone() == (1,)
    full = database_room(settings)
    if full:
        raise full
    return answered


def database_room(settings: Settings) -> Hindered | None:
    """Says that the embedded server has no room to write; None when it has, and for a server elsewhere."""
    from explorer.postgres.embedded import read_connection

    record = read_connection(settings.home) if settings.database_url is None else None
    folder = record.cluster_dir if record and record.cluster_dir else settings.home
    why = no_room(folder, DATABASE_ROOM_BYTES) if settings.database_url is None else None
    return Hindered(f"cannot write: {why}", next_step=f"Make room at {folder}; it goes on by itself.") if why else None


def dagster_problem(url: str) -> str | None:
    """Why the Dagster at `url` cannot run the pipelines, None when it can. Raises DagsterUnavailable when nothing answers."""
    health = asyncio.run(_health(url))
    return None if health.code_loaded else health.error or "the code location is not loaded"


def missing_daemons(url: str) -> tuple[str, ...]:
    """The daemons that Dagster needs and does not hear from."""
    daemons: tuple[str, ...] = asyncio.run(_health(url)).unhealthy_daemons
    return daemons


def answers(url: str) -> bool:
    """Whether a GET is answered with 200, without any proxy in between."""
    try:
        return httpx.get(url, timeout=PROBE_TIMEOUT_S, trust_env=False).status_code == httpx.codes.OK
    except httpx.HTTPError:
        return False


def accepts(host: str, port: int) -> bool:
    """Whether somebody accepts connections on a port; far cheaper to ask than a GraphQL client is to make."""
    try:
        with socket.create_connection((_in_url(host).strip("[]"), port), timeout=PROBE_TIMEOUT_S):
            return True
    except OSError:
        return False


def listens(path: Path) -> bool:
    """Whether somebody accepts connections on a Unix socket."""
    with socket.socket(socket.AF_UNIX) as probe:
        probe.settimeout(PROBE_TIMEOUT_S)
        try:
            probe.connect(os.fspath(path))
        except OSError:
            return False
        return True


async def _health(url: str) -> Any:
    from mcp_bridge.clients.dagster import DagsterClient

    async with DagsterClient(url, timeout_s=PROBE_TIMEOUT_S) as client:
        return await client.health()


def _database(settings: Settings) -> Step:
    def start() -> Mapping[str, Any]:
        import psycopg

        from explorer.installation import set_up
        from explorer.postgres.provisioning import align_raw_exposure

        try:
            with closing(set_up(settings).admin.connect(autocommit=True)) as admin:
                align_raw_exposure(admin, settings.expose_raw)
        except (ExplorerError, psycopg.Error) as error:
            # What the server says when it has no room to start is a consequence.
            raise database_room(settings) or error from error
        return {"database": database_facts(settings)}

    return Step(
        "database",
        "Database",
        start,
        undo=lambda: stop_database(settings, force=False),
        ready=lambda: database_answers(settings),
        needs=("packages",),
        health_interval_s=DATABASE_INTERVAL_S,
    )


def _dagster(settings: Settings, port: int, url: str) -> list[Part | Step]:
    """Code location server, warm pool, webserver and daemon; the definitions are imported once, by the first of them."""
    workspace = _write_instance(settings)
    code = code_server_socket(settings.home)
    pool = warm_pool_socket(settings.home)
    pool.unlink(missing_ok=True)
    full = child_env(settings, "database_url", "secret_keys")
    plain = child_env(settings, "database_url", "dagster_token")
    code_server = Part(
        "code-server",
        "Dagster code location",
        [*_module("dagster", "api", "grpc"), "--module-name", "explorer_dagster.definitions", "--socket", str(code),
         "--location-name", LOCATION],
        full,
        ready=lambda: listens(code),
        # It loads the instance, whose storage sets nothing up.
        needs=("packages", "database"),
    )  # fmt: skip
    warm_pool = Part(
        "warm-pool",
        "Warm run launcher",
        _module("explorer_dagster.launch.warm_pool"),
        full,
        # Not by connecting: the pool takes a connection for a request, and one that it finds stale ends it.
        ready=pool.is_socket,
        needs=("packages",),
        # Without it the launcher has Dagster start every run in a process of its own: slower, but it runs.
        optional=True,
    )
    webserver = Part(
        "webserver",
        "Dagster UI",
        [
            *_module("explorer_dagster.webserver"),
            "--host",
            settings.dagster_host,
            "--port",
            str(port),
            "-w",
            str(workspace),
        ],
        plain,
        ready=lambda: accepts(settings.dagster_host, port) and dagster_problem(url) is None,
        needs=("database", "code-server"),
        address=url,
    )
    daemon = Part(
        "daemon",
        "Dagster daemon",
        [*_module("dagster._daemon"), "run", "-w", str(workspace), "--log-level", "warning"],
        plain,
        ready=lambda: accepts(settings.dagster_host, port) and not missing_daemons(url),
        needs=("database", "code-server"),
    )
    warm = [warm_pool] if settings.run_launcher == "warm" else []
    return [code_server, *warm, daemon, webserver]


def _bridge(settings: Settings, port: int, url: str) -> Part:
    return Part(
        "bridge",
        "MCP bridge",
        [*_module("mcp_bridge"), "--transport", "streamable-http", "--host", settings.bridge_host, "--port", str(port)],
        child_env(settings, "database_url", "secret_keys", "dagster_token"),
        ready=lambda: answers(f"{url.removesuffix('/mcp')}/healthz"),
        needs=("database",),
        address=url,
        # A call that is broken off may have a run to cancel, which Dagster has to hear of.
        stops_first=True,
    )


def _write_instance(settings: Settings) -> Path:
    """Dagster's home with the project's own dagster.yaml, and a workspace whose code runs in the code location server."""
    home = settings.home / "dagster"
    home.mkdir(parents=True, exist_ok=True, mode=0o700)
    shutil.copyfile(settings.project_dir / "dagster.yaml", home / "dagster.yaml")
    code_server_socket(settings.home).parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    webserver_token(settings.home)
    workspace = settings.home / "run" / "workspace.yaml"
    server = {"socket": str(code_server_socket(settings.home)), "location_name": LOCATION}
    write_private(workspace, json.dumps({"load_from": [{"grpc_server": server}]}))
    return workspace


def _module(name: str, *args: str) -> list[str]:
    return [sys.executable, "-m", name, *args]


def _in_url(host: str) -> str:
    """A listening address as clients on this machine write it."""
    if host in ("0.0.0.0", "::"):  # noqa: S104
        return "127.0.0.1"
    return f"[{host}]" if ":" in host else host
