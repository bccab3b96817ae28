"""Whether something answers: over HTTP, at a port, on a Unix socket, and what Dagster says of its own health."""

import asyncio
import os
import socket
from pathlib import Path
from typing import TYPE_CHECKING

import httpx

from explorer_cli.platform.addresses import in_url

if TYPE_CHECKING:
    from mcp_bridge.clients.dagster.records import Health

PROBE_TIMEOUT_S = 3.0


def answers(url: str) -> bool:
    """Whether a GET is answered with 200, without any proxy in between."""
    try:
        return httpx.get(url, timeout=PROBE_TIMEOUT_S, trust_env=False).status_code == httpx.codes.OK
    except httpx.HTTPError:
        return False


def accepts(host: str, port: int) -> bool:
    """Whether somebody accepts connections on a port; far cheaper to ask than a GraphQL client is to make."""
    try:
        with socket.create_connection((in_url(host).strip("[]"), port), timeout=PROBE_TIMEOUT_S):
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


def dagster_problem(url: str) -> str | None:
    """Why the Dagster at `url` cannot run the pipelines, None when it can. Raises DagsterUnavailable when nothing answers."""
    health = asyncio.run(_health(url))
    return None if health.code_loaded else health.error or "the code location is not loaded"


def missing_daemons(url: str) -> tuple[str, ...]:
    """The daemons that Dagster needs and does not hear from."""
    return asyncio.run(_health(url)).unhealthy_daemons


async def _health(url: str) -> "Health":
    from mcp_bridge.clients.dagster.client import DagsterClient

    async with DagsterClient(url, timeout_s=PROBE_TIMEOUT_S) as client:
        return await client.health()
