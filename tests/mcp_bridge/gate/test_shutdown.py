"""The end of a bridge by either signal or by the end of its input: orderly, also for its running calls."""

import asyncio
import json
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import anyio
import pytest
from mcp.client import Client

from explorer.postgres.connections import load_connections
from mcp_bridge.clients.dagster.client import DagsterClient
from tests.mcp_bridge.gate.test_access import INITIALIZE
from tests.mcp_bridge.proxy import proxy
from tests.mcp_bridge.runs.test_launches import ended, idle, runs_of
from tests.mcp_bridge.stage import Stage, bridge_process, environment, http_client

TENANT = "demo:slow-cancel"
WAYS = ["SIGINT", "SIGTERM", "end of input"]


class Stdio:
    """A bridge over stdio, spoken to line by line."""

    def __init__(self, stage: Stage, **settings: str) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-m", "mcp_bridge"],
            env=environment(stage, **settings),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )

    def say(self, message: dict[str, Any]) -> None:
        assert self.process.stdin
        self.process.stdin.write(json.dumps(message).encode() + b"\n")
        self.process.stdin.flush()

    def hear(self) -> dict[str, Any]:
        assert self.process.stdout
        return dict(json.loads(self.process.stdout.readline()))

    def greet(self) -> None:
        self.say(INITIALIZE)
        assert self.hear()["result"]["serverInfo"]["name"] == "data-explorer"
        self.say({"jsonrpc": "2.0", "method": "notifications/initialized"})

    def call(self, tool: str, **arguments: Any) -> None:
        self.say({"jsonrpc": "2.0", "id": 7, "method": "tools/call", "params": {"name": tool, "arguments": arguments}})

    def end(self, way: str) -> int:
        """Its exit status."""
        assert self.process.stdin
        if way == "end of input":
            self.process.stdin.close()
        else:
            self.process.send_signal(getattr(signal, way))
        return self.process.wait(40)


@pytest.mark.parametrize("way", WAYS)
def test_an_idle_bridge_ends_with_status_0(stage: Stage, way: str) -> None:
    bridge = Stdio(stage)
    bridge.greet()
    assert bridge.end(way) == 0
    assert bridge.process.stderr
    assert "Traceback" not in bridge.process.stderr.read().decode()


@pytest.mark.parametrize("way", WAYS)
def test_a_bridge_that_ends_in_a_call_leaves_its_run_at_work(stage: Stage, dagster_url: str, way: str) -> None:
    async def main() -> None:
        async with DagsterClient(dagster_url) as dagster:
            before = len(await idle(dagster, TENANT))
            bridge = Stdio(stage)
            await asyncio.to_thread(bridge.greet)
            bridge.call("run_materialization", tenant=TENANT, wait_s=45)
            async with asyncio.timeout(60):
                while len(found := await runs_of(dagster, TENANT)) == before or found[0].status != "STARTED":
                    await asyncio.sleep(0.1)
            assert await asyncio.to_thread(bridge.end, way) == 0
            await asyncio.sleep(1.0)
            assert (await runs_of(dagster, TENANT))[0].status == "STARTED"
            await dagster.stop((await runs_of(dagster, TENANT))[0].run_id)
            await ended(dagster, TENANT)

    asyncio.run(main())


@pytest.mark.parametrize("way", WAYS)
def test_a_statement_ends_with_its_bridge(stage: Stage, way: str) -> None:
    bridge = Stdio(stage)
    bridge.greet()
    slow = "select count(*) from cases a, generate_series(1, 100000000) g where length(a.case_id) <> g % 7"
    bridge.call("query", tenant="demo:one", sql=slow)
    assert statements(stage, 1)
    assert bridge.end(way) == 0
    assert statements(stage, 0)


def statements(stage: Stage, wanted: int) -> bool:
    """Whether it comes to so many statements of the tenant's reader at work."""
    reader = stage.catalog.schemas.ro_login(stage.tenants["demo:one"]).user
    count = "SELECT count(*) FROM pg_stat_activity WHERE state = 'active' AND usename = %s"
    deadline = time.monotonic() + 20
    with load_connections(stage.settings).admin.connect(autocommit=True) as admin:
        while time.monotonic() < deadline:
            if admin.execute(count, [reader]).fetchone() == (wanted,):
                return True
            time.sleep(0.1)
    return False


def test_a_second_signal_ends_at_once(stage: Stage, tmp_path: Path) -> None:
    """A bridge whose Dagster holds a launch is in no hurry; who asks twice is not kept waiting."""
    with proxy(str(stage.settings.dagster_url)) as between:
        between.before = between.hold
        bridge = Stdio(stage, EXPLORER_DAGSTER_URL=between.url)
        bridge.greet()
        bridge.call("run_materialization", tenant="demo:launch", wait_s=0)
        assert between.held.wait(60)
        bridge.process.send_signal(signal.SIGTERM)
        with pytest.raises(subprocess.TimeoutExpired):
            bridge.process.wait(2)
        bridge.process.send_signal(signal.SIGTERM)
        assert bridge.process.wait(5) == -signal.SIGTERM
    free(stage)


def free(stage: Stage) -> None:
    """What the killed bridge held: nobody shall wait for it in other tests."""
    claim = None
    deadline = time.monotonic() + 30
    while claim is None and time.monotonic() < deadline:
        claim = stage.catalog.launches.claim(stage.tenants["demo:launch"], "test", None, None, 1.0)
        time.sleep(0.2)
    assert claim is not None
    stage.catalog.launches.release(claim)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_over_http_it_is_the_same(stage: Stage, dagster_url: str, tmp_path: Path, number: signal.Signals) -> None:
    token = stage.token(f"stopped-{number.name}", TENANT)

    async def main() -> None:
        async with DagsterClient(dagster_url) as dagster:
            before = len(await idle(dagster, TENANT))
            with bridge_process(stage, tmp_path) as (url, process):
                status = None
                # Whatever a server that goes away looks like to its client.
                with suppress(Exception):
                    async with http_client(url, token) as client, anyio.create_task_group() as group:
                        group.start_soon(waiting, client)
                        async with asyncio.timeout(60):
                            while (
                                len(found := await runs_of(dagster, TENANT)) == before or found[0].status != "STARTED"
                            ):
                                await asyncio.sleep(0.1)
                        process.send_signal(number)
                        status = await asyncio.to_thread(process.wait, 40)
                        group.cancel_scope.cancel()
                assert status == 0
            await asyncio.sleep(1.0)
            assert (await runs_of(dagster, TENANT))[0].status == "STARTED"
            await dagster.stop((await runs_of(dagster, TENANT))[0].run_id)
            await ended(dagster, TENANT)

    async def waiting(client: Client) -> None:
        with suppress(Exception):
            await client.call_tool("run_materialization", {"wait_s": 45})

    asyncio.run(main())
