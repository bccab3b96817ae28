"""Dagster's processes as parts of the platform: code location server, warm pool, daemon and webserver."""

import json
import shutil
from pathlib import Path

from explorer.core.files import write_private
from explorer.core.home import code_server_socket, warm_pool_socket
from explorer.core.runtime_state import webserver_token
from explorer.core.settings import Settings
from explorer_cli.platform.environment import child_env, python_module, python_script
from explorer_cli.platform.probes import NOT_LOADED, accepts, dagster_problem, listens, missing_daemons
from explorer_cli.supervision.units import Hindered, Part

LOCATION = "explorer"
# For who has no connection.json in HOME.
_LOGINS = ("catalog_url", "dagster_database_url")


def dagster_parts(settings: Settings, port: int, url: str) -> list[Part]:
    """Code location server, warm pool, daemon and webserver; the last two get the definitions from the first."""
    workspace = _write_instance(settings)
    warm_pool_socket(settings.home).unlink(missing_ok=True)
    warm = [_warm_pool(settings)] if settings.run_launcher == "warm" else []
    return [
        _code_server(settings),
        *warm,
        _daemon(settings, workspace, port, url),
        _webserver(settings, workspace, port, url),
    ]


def _code_server(settings: Settings) -> Part:
    """Dagster's `code-server`, since `api grpc` cannot reload definitions; it runs them in a process of its own."""
    socket = code_server_socket(settings.home)
    return Part(
        "code-server",
        "Dagster code location",
        [*python_module("dagster", "code-server", "start"), "--module-name", "explorer_dagster.definitions",
         "--socket", str(socket), "--location-name", LOCATION, "--log-format", _log_format(settings)],
        # Sensors are evaluated here, also the one that tells alerts.
        child_env(settings, *_LOGINS, "database_url", "secret_keys", "alert_webhook_url"),
        ready=lambda: listens(socket),
        # It loads Dagster's instance, and that does not set the storage up.
        needs=("packages", "database"),
        # The process with the definitions ends when it seems to have heard nothing for half a minute, and none follows it.
        waits_by_clock=True,
    )  # fmt: skip


def _warm_pool(settings: Settings) -> Part:
    return Part(
        "warm-pool",
        "Warm run launcher",
        python_module("explorer_dagster.launch.warm_pool"),
        child_env(settings, *_LOGINS, "database_url", "secret_keys", "otlp_headers"),
        # Do not connect: the pool takes a connection for a request, and a pool with old code ends when it gets one.
        ready=warm_pool_socket(settings.home).is_socket,
        needs=("packages",),
        # Without the pool Dagster starts every run in a process of its own, which is slower.
        optional=True,
    )


def _webserver(settings: Settings, workspace: Path, port: int, url: str) -> Part:
    address = ["--host", settings.dagster_host, "--port", str(port)]
    return Part(
        "webserver",
        "Dagster UI",
        [*python_module("explorer_dagster.webserver"), *address, "-w", str(workspace)],
        child_env(settings, *_LOGINS, "dagster_token", "metrics_token"),
        ready=lambda: accepts(settings.dagster_host, port) and _is_loaded(settings, url),
        needs=("database", "code-server"),
        address=url,
    )


def _is_loaded(settings: Settings, url: str) -> bool:
    """Whether the definitions are loaded. The code server runs without them too, so that a reload can bring them.

    Raises:
        Hindered: they cannot be loaded as they are.
    """
    problem = dagster_problem(settings, url)
    if problem not in (None, NOT_LOADED):
        raise Hindered(
            f"The definitions cannot be loaded: {problem}",
            next_step="Mend the cause, then reload the definitions in the Dagster UI, or start again; details in"
            f" {settings.home / 'logs' / 'code-server.log'}.",
        )
    return problem is None


def _daemon(settings: Settings, workspace: Path, port: int, url: str) -> Part:
    return Part(
        "daemon",
        "Dagster daemon",
        [*python_script("dagster-daemon", "run", "-w", str(workspace)), "--log-level", "warning",
         "--log-format", _log_format(settings)],
        child_env(settings, *_LOGINS, "dagster_token"),
        ready=lambda: accepts(settings.dagster_host, port) and not missing_daemons(settings, url),
        needs=("database", "code-server"),
        # `while time.time() - start_time < interval` in dagster/_daemon/daemon.py.
        waits_by_clock=True,
    )  # fmt: skip


def _log_format(settings: Settings) -> str:
    """Dagster's name for the form of its programs' own lines."""
    return "json" if settings.log_format == "json" else "colored"


def _write_instance(settings: Settings) -> Path:
    """Write Dagster's home with the project's dagster.yaml, and a workspace that points to the code location server."""
    home = settings.home / "dagster"
    home.mkdir(parents=True, exist_ok=True, mode=0o700)
    shutil.copyfile(settings.project_dir / "dagster.yaml", home / "dagster.yaml")
    code_server_socket(settings.home).parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    webserver_token(settings.home)
    workspace = settings.home / "run" / "workspace.yaml"
    server = {"socket": str(code_server_socket(settings.home)), "location_name": LOCATION}
    write_private(workspace, json.dumps({"load_from": [{"grpc_server": server}]}))
    return workspace
