"""The benchmark of a small tenant: how long its first sync takes an agent, from the call, and a sync without news.

The whole platform as `explorer up` starts it, and an MCP client over HTTP. Each round adds the project space anew: logins,
schemas and history of Dagster are new. All times begin with the call of `run_materialization`.
"""

import asyncio
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx2
from mcp.client import Client
from mcp.client.streamable_http import streamable_http_client

from benchmarks.ground import ROOT, Ground, Server
from benchmarks.loading import Scale, Step, WrongRows
from benchmarks.results import Claim, Measure, Result
from demo_commcare import MATERNAL

_CASES = 250
_ROUNDS = {"tiny": 1, "small": 5, "full": 9}
_TENANT = "bench:small"
_SCOPES = ("metadata:read", "query:run", "runs:launch")
# Tables of a case type, of a form and of a repeat group.
_TYPED = "select (select count(*) from case_mother) + (select count(*) from form_anc_visit)"
_RUNNING = frozenset({"QUEUED", "NOT_STARTED", "STARTING", "STARTED", "CANCELING"})
_POLL_S = 0.1
_LIMIT_S = 300.0
_COMMAND_TIMEOUT_S = 180.0


def small_tenant(ground: Ground, scale: Scale, step: Step) -> Result:
    """A project space of 250 cases: typed tables, end of the run and a sync without news, in seconds from the call."""
    result = Result("small_tenant")
    typed, ended, idle = Measure("typed tables (s)"), Measure("run ended (s)"), Measure("without news (s)")
    result.measures += [typed, ended, idle]
    with ground.server(_CASES) as server, platform_of(ground) as platform:
        for number in range(_ROUNDS[scale.name]):
            step(f"first sync {number + 1}")
            with platform.tenant(server) as url_and_token:
                first = asyncio.run(_first_sync(*url_and_token))
                typed.samples.append(first.typed_s)
                ended.samples.append(first.ended_s)
                step("without news")
                idle.samples.append(asyncio.run(_sync(*url_and_token)))
    result.claims += [
        Claim("typed tables can be queried, from the call, p50", typed.median, 6, "at most", "s"),
        Claim("the run has ended, from the call, p50", ended.median, 9, "at most", "s"),
        Claim("a sync without news, p50", idle.median, 2.5, "at most", "s"),
    ]
    return result


@dataclass(frozen=True)
class _First:
    typed_s: float
    ended_s: float


async def _first_sync(url: str, token: str) -> _First:
    began = time.perf_counter()
    async with BridgeClient(url, token) as asking, BridgeClient(url, token) as running:
        polling = asyncio.create_task(_until_typed(asking, began))
        ended_s = await _run(running, began)
        return _First(await polling, ended_s)


async def _sync(url: str, token: str) -> float:
    async with BridgeClient(url, token) as client:
        return await _run(client, time.perf_counter())


async def _run(client: Client, began: float) -> float:
    data = (await _call(client, "run_materialization", tenant=_TENANT, wait_s=45))["data"]
    while data["status"] in _RUNNING:
        data = (await _call(client, "get_materialization_status", tenant=_TENANT, run_id=data["run_id"], wait_s=45))[
            "data"
        ]
    if data["status"] != "SUCCESS":
        raise WrongRows(f"the run ended as {data['status']}")
    return time.perf_counter() - began


async def _until_typed(client: Client, began: float) -> float:
    while time.perf_counter() - began < _LIMIT_S:
        answer = await client.call_tool("query", {"tenant": _TENANT, "sql": _TYPED})
        if (answer.structured_content or {}).get("success"):
            return time.perf_counter() - began
        await asyncio.sleep(_POLL_S)
    raise WrongRows("the typed tables never came")


async def _call(client: Client, tool: str, **arguments: Any) -> dict[str, Any]:
    answer = dict((await client.call_tool(tool, arguments)).structured_content or {})
    if not answer.get("success"):
        raise WrongRows(f"{tool}: {json.dumps(answer)[:500]}")
    return answer


class BridgeClient:
    """A client over HTTP with the token."""

    def __init__(self, url: str, token: str) -> None:
        headers = {"Authorization": f"Bearer {token}"}
        self._http = httpx2.AsyncClient(headers=headers, timeout=120, trust_env=False)
        self._client = Client(streamable_http_client(url, http_client=self._http))

    async def __aenter__(self) -> Client:
        await self._http.__aenter__()
        return await self._client.__aenter__()

    async def __aexit__(self, *error: Any) -> None:
        await self._client.__aexit__(*error)
        await self._http.__aexit__(*error)


class Platform:
    """A running platform with a HOME of its own."""

    def __init__(self, home: Path, **variables: str) -> None:
        self.home = home
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("EXPLORER_", "DAGSTER_"))}
        self._env = kept | {
            "EXPLORER_HOME": str(home), "EXPLORER_DAGSTER_PORT": "0", "EXPLORER_BRIDGE_PORT": "0",
            **variables,
        }  # fmt: skip

    def command(self, *arguments: str, **variables: str) -> str:
        """The standard output of an `explorer` command."""
        done = subprocess.run(
            [sys.executable, "-m", "explorer_cli", *arguments],
            cwd=ROOT, env=self._env | variables, capture_output=True, text=True, timeout=_COMMAND_TIMEOUT_S, check=False,
        )  # fmt: skip
        if done.returncode:
            raise WrongRows(f"explorer {arguments[0]} ended with status {done.returncode}: {done.stderr[-1000:]}")
        return done.stdout

    @contextmanager
    def tenant(self, server: Server) -> Iterator[tuple[str, str]]:
        """A new tenant; gives the bridge's address and a token. It is removed with its data."""
        where = ("--server", server.address["url"], "--domain", MATERNAL, "--username", server.address["username"])
        self.command("tenants", "add", _TENANT, *where, "--api-key-env", "KEY", KEY=server.address["api_key"])
        scopes = [f"--scope={scope}" for scope in _SCOPES]
        token = self.command("tokens", "create", "--name", "bench", "--tenant", _TENANT, *scopes).strip()
        try:
            yield json.loads(self.command("status", "--json"))["bridge_url"], token
        finally:
            self.command("tokens", "revoke", "bench")
            self.command("tenants", "remove", _TENANT, "--purge", "--yes")


@contextmanager
def platform_of(ground: Ground, **variables: str) -> Iterator[Platform]:
    """Start it, with these settings, and stop it afterwards."""
    platform = Platform(ground.files.parent / "platform", **variables)
    try:
        platform.command("up", "--detach", "--no-demo")
        yield platform
    finally:
        with suppress(WrongRows):
            platform.command("down")
