"""Probes whether something answers over HTTP, at a port or on a Unix socket, and whether Dagster is healthy."""

import asyncio
import os
import socket
from pathlib import Path
from typing import TYPE_CHECKING

import httpx

from explorer.core.settings import Settings
from explorer_cli.platform.addresses import in_url

if TYPE_CHECKING:
    from mcp_bridge.clients.dagster.records import Health

PROBE_TIMEOUT_S = 3.0

NOT_LOADED = "the code location is not loaded"
"""Said of a Dagster whose location has no error either: it may load just now."""


def answers(url: str) -> bool:
    """Whether a GET is answered with 200; uses no proxy."""
    try:
        return httpx.get(url, timeout=PROBE_TIMEOUT_S, trust_env=False).status_code == httpx.codes.OK
    except httpx.HTTPError:
        return False


def accepts(host: str, port: int) -> bool:
    """Whether a port accepts connections; far cheaper than making a GraphQL client."""
    try:
        with socket.create_connection((in_url(host).strip("[]"), port), timeout=PROBE_TIMEOUT_S):
            return True
    except OSError:
        return False


def listens(path: Path) -> bool:
    """Whether a Unix socket accepts connections."""
    with socket.socket(socket.AF_UNIX) as probe:
        probe.settimeout(PROBE_TIMEOUT_S)
        try:
            probe.connect(os.fspath(path))
        except OSError:
            return False
        return True


def dagster_problem(settings: Settings, url: str) -> str | None:
    """Why the Dagster at `url` cannot run the pipelines, None when it can. Raises DagsterUnavailable without an answer."""
    health = asyncio.run(_health(settings, url))
    return None if health.code_loaded else health.error or NOT_LOADED


def missing_daemons(settings: Settings, url: str) -> tuple[str, ...]:
    """The required daemons that send Dagster no heartbeat."""
    return asyncio.run(_health(settings, url)).unhealthy_daemons


async def _health(settings: Settings, url: str) -> "Health":
    from mcp_bridge.clients.dagster.client import DagsterClient

    async with DagsterClient.from_settings(settings, url, timeout_s=PROBE_TIMEOUT_S) as client:
        return await client.health()
