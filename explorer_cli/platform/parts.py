"""The table of the platform's parts in starting order.

The supervisor runs the table that `platform_units` makes. Addresses are chosen here, before anything starts, so that a
restarted part keeps its address.
"""

from dataclasses import dataclass
from typing import Any

from explorer.core.settings import Settings
from explorer_cli.platform.addresses import choose_port, in_url
from explorer_cli.platform.bytecode import compile_packages
from explorer_cli.platform.dagster import dagster_parts
from explorer_cli.platform.database import database_step
from explorer_cli.platform.demo_server import DemoServer
from explorer_cli.platform.environment import child_env, python_module
from explorer_cli.platform.probes import answers
from explorer_cli.supervision.units import Part, Step


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
    bridge_port = choose_port(settings.bridge_host, settings.bridge_port, setting="EXPLORER_BRIDGE_PORT")
    bridge_url = f"http://{in_url(settings.bridge_host)}:{bridge_port}/mcp"
    units: list[Part | Step] = [
        Step("packages", "Python packages", lambda: {"packages_compiled": compile_packages()}),
        database_step(settings),
    ]
    facts: dict[str, Any] = {"bridge_url": bridge_url, "demo_url": None, "dagster_url": settings.dagster_url}
    if demo:
        server = DemoServer.prepare(settings)
        facts["demo_url"] = server.url
        units.append(server.part(child_env(settings)))
    if settings.dagster_url is None:
        dagster_port = choose_port(settings.dagster_host, settings.dagster_port, setting="EXPLORER_DAGSTER_PORT")
        facts["dagster_url"] = f"http://{in_url(settings.dagster_host)}:{dagster_port}"
        units += dagster_parts(settings, dagster_port, facts["dagster_url"])
    units.append(_bridge(settings, bridge_port, bridge_url))
    return Platform(units, facts)


def _bridge(settings: Settings, port: int, url: str) -> Part:
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
        child_env(settings, "database_url", "secret_keys", "dagster_token"),
        ready=lambda: answers(f"{url.removesuffix('/mcp')}/healthz"),
        needs=("database",),
        address=url,
        # An interrupted call may have to cancel its run in Dagster.
        stops_first=True,
    )
