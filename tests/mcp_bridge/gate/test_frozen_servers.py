"""A frozen Dagster or PostgreSQL accepts connections and never answers. No caller waits longer than promised."""

import asyncio
import os
import re
import signal
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
from mcp.client import Client

from tests.conftest import own_server
from tests.mcp_bridge.proxy import proxy
from tests.mcp_bridge.stage import Stage, ask, bridge_process, envelope, http_bridge, make_stage, on_http

# What a busy machine adds to any answer.
SLACK_S = 2.0
INTERNAL = re.compile(
    r"127\.0\.0\.1|localhost|https?://|[a-z]Error\b|Exception|Timeout\b|httpx|psycopg|/home|explorer_service"
)


@contextmanager
def silent() -> Iterator[str]:
    """The address of a server that accepts and never answers."""
    with socket.create_server(("127.0.0.1", 0), backlog=256) as listening:
        kept: list[socket.socket] = []

        def accept() -> None:
            while True:
                try:
                    kept.append(listening.accept()[0])
                except OSError:
                    return

        threading.Thread(target=accept, daemon=True).start()
        yield f"http://127.0.0.1:{listening.getsockname()[1]}"
        for connection in kept:
            connection.close()


@pytest.fixture(scope="module")
def without_dagster(stage: Stage, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with silent() as url, http_bridge(stage, tmp_path_factory.mktemp("silent"), EXPLORER_DAGSTER_URL=url) as bridge:
        yield bridge


CALLS: dict[str, tuple[float, dict[str, Any]]] = {
    "query": (0.5, {"sql": "select count(*) from cases"}),
    "list_tables": (2.0, {}),
    "describe_table": (2.0, {"table": "cases"}),
    "search_metadata": (2.0, {"search": "case"}),
    "get_metadata": (2.0, {}),
    "get_schema_status": (2.0, {}),
    "list_runs": (2.0, {}),
    "list_tenants": (0.0, {}),
    "list_pipelines": (2.0, {}),
}


def test_no_answer_waits_for_a_dagster_that_says_nothing(stage: Stage, without_dagster: str) -> None:
    token = stage.token("patient", "demo:one")

    async def work(client: Client) -> None:
        await client.call_tool("list_tenants", {})
        for tool, (patience_s, arguments) in CALLS.items():
            for _ in range(2):
                started = time.monotonic()
                content = envelope(await client.call_tool(tool, arguments))
                assert time.monotonic() - started < patience_s + SLACK_S, tool
                if tool == "list_runs":
                    assert content["error"]["code"] == "dagster_unavailable"
                else:
                    assert content["success"], content
                if patience_s:
                    told = " ".join(content["warnings"]) + str(content.get("error"))
                    assert "Dagster" in told, (tool, content)
                    assert "not answer" in told, (tool, content)
                assert not INTERNAL.search(" ".join(content["warnings"]) + str(content.get("error"))), content

    on_http(without_dagster, token, work)


def test_what_fails_in_dagster_is_told_without_what_is_inside(stage: Stage, without_dagster: str) -> None:
    token = stage.token("curious", "demo:one")
    run = {"run_id": "00000000-0000-0000-0000-000000000000"}

    async def work(client: Client) -> None:
        for tool, arguments in (
            ("get_materialization_status", run),
            ("cancel_materialization", run),
            ("list_runs", {}),
        ):
            started = time.monotonic()
            error = envelope(await client.call_tool(tool, arguments))["error"]
            assert time.monotonic() - started < 12 + SLACK_S
            assert error["code"] == "dagster_unavailable"
            assert not INTERNAL.search(str(error)), error

    on_http(without_dagster, token, work)


def test_readiness_tells_that_dagster_says_nothing(without_dagster: str) -> None:
    answer = httpx.get(f"{without_dagster}/readyz", trust_env=False, timeout=10)
    assert (answer.status_code, answer.json()["status"], answer.json()["dagster"]) == (200, "degraded", "unavailable")


def test_what_comes_late_is_there_for_the_next(stage: Stage, dagster_url: str, tmp_path: Path) -> None:
    token = stage.token("late-facts", "demo:second")
    with proxy(dagster_url) as slow, http_bridge(stage, tmp_path, EXPLORER_DAGSTER_URL=slow.url) as url:
        slow.before = lambda _: time.sleep(1.0)

        async def work(client: Client) -> None:
            first = envelope(await client.call_tool("query", {"sql": "select count(*) from cases"}))
            assert any("Dagster" in warning for warning in first["warnings"])
            async with asyncio.timeout(30):
                while any("Dagster" in warning for warning in first["warnings"]):
                    await asyncio.sleep(0.5)
                    first = envelope(await client.call_tool("query", {"sql": "select count(*) from cases"}))

        on_http(url, token, work)


@pytest.fixture(scope="module")
def own_stage(dagster_url: str) -> Iterator[Stage]:
    """A database of its own, since it is frozen."""
    with own_server() as server:
        yield make_stage(server, dagster_url)


@contextmanager
def frozen(home: Path) -> Iterator[None]:
    """All processes of the embedded server stopped."""
    pid = int((home / "pg" / "postmaster.pid").read_text().split()[0]) if (home / "pg").exists() else 0
    pid = pid or int(next(home.rglob("postmaster.pid")).read_text().split()[0])
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    everybody = [pid, *map(int, children)]
    for number in everybody:
        os.kill(number, signal.SIGSTOP)
    try:
        yield
    finally:
        for number in everybody:
            os.kill(number, signal.SIGCONT)


def test_a_frozen_database_is_told_in_time_and_forgotten_when_it_goes_on(own_stage: Stage, tmp_path: Path) -> None:
    token = own_stage.token("freezing", "demo:one")

    async def work(client: Client) -> None:
        assert (await ask(client, "query", sql="select count(*) from cases"))["rows"] == [[3]]

    with bridge_process(own_stage, tmp_path) as (url, process):
        on_http(url, token, work)
        headers = {"Authorization": f"Bearer {token}", "Accept": "application/json, text/event-stream"}
        with frozen(own_stage.settings.home):
            started = time.monotonic()
            assert httpx.get(f"{url}/healthz", trust_env=False, timeout=5).json() == {"status": "ok"}
            for _ in range(2):
                ready = httpx.get(f"{url}/readyz", trust_env=False, timeout=10)
                assert (ready.status_code, ready.json()["status"]) == (503, "not_ready")
            with httpx.Client(trust_env=False, timeout=20, headers=headers) as asking:
                answer = asking.post(f"{url}/mcp", json={"jsonrpc": "2.0", "id": 1, "method": "ping"})
            assert answer.status_code == 503
            assert answer.json()["error"]["data"]["code"] == "catalog_unavailable"
            assert not INTERNAL.search(answer.text)
            assert time.monotonic() - started < 20 + SLACK_S
        on_http(url, token, work)
        assert httpx.get(f"{url}/readyz", trust_env=False, timeout=10).json()["status"] == "ready"
        with frozen(own_stage.settings.home):
            with pytest.raises(httpx.HTTPError), httpx.Client(trust_env=False, timeout=1, headers=headers) as asking:
                asking.post(f"{url}/mcp", json={"jsonrpc": "2.0", "id": 1, "method": "ping"})
            process.send_signal(signal.SIGTERM)
            assert process.wait(20) == 0
