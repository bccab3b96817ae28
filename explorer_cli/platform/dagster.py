"""Dagster's processes as parts of the platform: code location server, warm pool, daemon and webserver."""

import json
import shutil
from pathlib import Path

from explorer.core.files import write_private
from explorer.core.home import code_server_socket, warm_pool_socket
from explorer.core.runtime_state import webserver_token
from explorer.core.settings import Settings
from explorer_cli.platform.environment import child_env, python_module
from explorer_cli.platform.probes import accepts, dagster_problem, listens, missing_daemons
from explorer_cli.supervision.units import Part

LOCATION = "explorer"


def dagster_parts(settings: Settings, port: int, url: str) -> list[Part]:
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
        [*python_module("dagster", "api", "grpc"), "--module-name", "explorer_dagster.definitions", "--socket", str(code),
         "--location-name", LOCATION],
        full,
        ready=lambda: listens(code),
        # It loads the instance, whose storage sets nothing up.
        needs=("packages", "database"),
    )  # fmt: skip
    warm_pool = Part(
        "warm-pool",
        "Warm run launcher",
        python_module("explorer_dagster.launch.warm_pool"),
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
            *python_module("explorer_dagster.webserver"),
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
        [*python_module("dagster._daemon"), "run", "-w", str(workspace), "--log-level", "warning"],
        plain,
        ready=lambda: accepts(settings.dagster_host, port) and not missing_daemons(url),
        needs=("database", "code-server"),
    )
    warm = [warm_pool] if settings.run_launcher == "warm" else []
    return [code_server, *warm, daemon, webserver]


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
