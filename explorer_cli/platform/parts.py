"""The table of the platform's parts in starting order.

The supervisor runs the table that `platform_units` makes. Addresses are chosen here, before anything starts, so that a
restarted part keeps its address.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from explorer.core.settings import Settings, given_variables
from explorer.telemetry.metrics_token import make_metrics_token
from explorer_cli.platform.addresses import choose_port, in_url
from explorer_cli.platform.bytecode import compile_packages
from explorer_cli.platform.dagster import dagster_parts
from explorer_cli.platform.database import database_step
from explorer_cli.platform.demo_server import DemoServer
from explorer_cli.platform.environment import bridge_env, child_env, python_module
from explorer_cli.platform.probes import answers
from explorer_cli.supervision.units import Part, Step
from mcp_bridge.sign_in.settings_file import secret_variables


@dataclass(frozen=True)
class Platform:
    """The table of units in starting order, and their addresses."""

    units: list[Part | Step]
    facts: dict[str, Any]


def platform_units(settings: Settings, *, demo: bool) -> Platform:
    """Choose addresses, write the files that the parts read when they start, and make the table.

    Raises:
        PortInUse: a configured port belongs to another program.
    """
    make_metrics_token(settings.home)
    bridge_port = choose_port(settings.bridge_host, settings.bridge_port, setting="EXPLORER_BRIDGE_PORT")
    bridge_url = f"http://{in_url(settings.bridge_host)}:{bridge_port}/mcp"
    units: list[Part | Step] = [
        Step("packages", "Python packages", lambda: {"packages_compiled": compile_packages()}),
        database_step(settings),
    ]
    facts: dict[str, Any] = {"bridge_url": bridge_url, "demo_url": None, "dagster_url": settings.dagster_url}
    sign_in_file = settings.sign_in_file
    if demo:
        server = DemoServer.prepare(settings)
        facts["demo_url"] = server.url
        if server.lets_people_in(settings):
            sign_in_file = server.write_sign_in_file(settings)
        units.append(server.part(child_env(settings)))
    if settings.dagster_url is None:
        dagster_port = choose_port(settings.dagster_host, settings.dagster_port, setting="EXPLORER_DAGSTER_PORT")
        facts["dagster_url"] = f"http://{in_url(settings.dagster_host)}:{dagster_port}"
        units += dagster_parts(settings, dagster_port, facts["dagster_url"])
    units.append(_bridge(settings, bridge_port, bridge_url, sign_in_file))
    return Platform(units, facts)


def _bridge(settings: Settings, port: int, url: str, sign_in_file: Path | None) -> Part:
    env = bridge_env(settings)
    if sign_in_file is not None:
        env["EXPLORER_SIGN_IN_FILE"] = str(sign_in_file)
        # The file names variables with secrets, which the platform itself does not know.
        given = given_variables()
        env |= {name: value for name in secret_variables(sign_in_file) if (value := given.get(name))}
    return Part(
        "bridge",
        "MCP bridge",
        [
            *python_module("mcp_bridge"),
            "--transport",
            "streamable-http",
            "--host",
            settings.bridge_host,
            "--port",
            str(port),
        ],
        env,
        ready=lambda: answers(f"{url.removesuffix('/mcp')}/healthz"),
        needs=("database",),
        address=url,
        # An interrupted call may have to cancel its run in Dagster.
        stops_first=True,
    )
