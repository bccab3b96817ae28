"""One bridge as two processes on one port: calls reach both, go on at the other, and when one is killed."""

import os
import re
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx

from explorer.catalog.audit.verification import verify
from explorer.core.ports import port_free
from explorer.telemetry.metrics_token import make_metrics_token
from tests.mcp_bridge.stage import Stage, ask, bridge_process, on_http, refused

_CALLS = re.compile(r'^explorer_calls_total\{outcome="ok",process="(\d)",tool="query"\} ', re.MULTILINE)


def test_calls_reach_both_processes_and_go_on_when_one_is_killed(stage: Stage, token: str, tmp_path: Path) -> None:
    authorization = {"Authorization": f"Bearer {make_metrics_token(stage.settings.home)}"}
    with bridge_process(stage, tmp_path, EXPLORER_BRIDGE_PROCESSES="2") as (url, first):
        port = httpx.URL(url).port or 0

        def have_served() -> set[str]:
            answer = httpx.get(f"{url}/metrics", headers=authorization, trust_env=False, timeout=30)
            return set(_CALLS.findall(answer.raise_for_status().text))

        def call(mode: str) -> None:
            """Over a connection of its own, which the kernel gives to one of the processes."""
            answer = on_http(
                url, token, lambda client: ask(client, "query", sql="select count(*) from cases"), mode=mode
            )
            assert answer["rows"] == [[3]]

        def call_until(served: Callable[[], bool]) -> None:
            deadline = time.monotonic() + 90
            while not served():
                assert time.monotonic() < deadline, (tmp_path / "bridge.log").read_text()
                call("auto")
                call("legacy")

        assert not port_free("127.0.0.1", port)
        call_until(lambda: have_served() == {"0", "1"})
        processes = _children(first.pid)
        assert len(processes) == 2
        os.kill(processes[0], signal.SIGKILL)
        _wait(lambda: processes[0] not in _children(first.pid))
        for _ in range(4):
            call("auto")
        # Its numbers begin anew.
        call_until(lambda: len(_children(first.pid)) == 2 and have_served() == {"0", "1"})
        assert processes[1] in _children(first.pid)
    assert first.returncode == 0
    assert port_free("127.0.0.1", port)


def test_what_begins_at_one_process_goes_on_at_the_other(stage: Stage, tmp_path: Path) -> None:
    """Each call over a connection of its own, so that the kernel gives them to both: a budget of calls, pages by cursors, one
    chain of entries."""
    key, name = "demo:budgets", "of-two-processes"
    token = stage.token(name, key)
    authorization = {"Authorization": f"Bearer {make_metrics_token(stage.settings.home)}"}
    stage.catalog.limits.set(stage.tenants[key], {"calls": 24})

    def page(cursor: str | None) -> dict[str, Any]:
        more = {} if cursor is None else {"cursor": cursor}
        sql = "select case_id from cases order by case_id"
        return on_http(url, token, lambda client: ask(client, "query", sql=sql, limit=1, **more))

    try:
        with bridge_process(stage, tmp_path, EXPLORER_BRIDGE_PROCESSES="2") as (url, _):
            for _ in range(8):
                found, cursor = [], None
                for _ in range(3):
                    answer = page(cursor)
                    found += [row[0] for row in answer["rows"]]
                    cursor = answer["next_cursor"]
                assert (found, cursor) == (["c1", "c2", "c3"], None)
            error = on_http(url, token, lambda client: refused(client, "query", sql="select 1 as one"))
            assert (error["code"], error["details"]["limit"]) == ("budget_exhausted", 24)
            numbers = httpx.get(f"{url}/metrics", headers=authorization, trust_env=False, timeout=30)
            # With 25 connections, that one process got none has a chance of 1 in 16 million.
            assert set(_CALLS.findall(numbers.raise_for_status().text)) == {"0", "1"}
    finally:
        stage.catalog.limits.clear(stage.tenants[key])
    assert verify(stage.catalog.audit).fault is None
    entries = [record.entry for record in stage.catalog.audit.read(actor=name, limit=100)]
    assert sorted(entry.outcome for entry in entries) == ["error"] + ["ok"] * 24


def test_processes_end_with_the_first_one(stage: Stage, tmp_path: Path) -> None:
    with bridge_process(stage, tmp_path, EXPLORER_BRIDGE_PROCESSES="2") as (url, first):
        first.kill()
        first.wait(20)
        _wait(lambda: port_free("127.0.0.1", httpx.URL(url).port or 0))


def _children(pid: int) -> list[int]:
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def _wait(until: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 60
    while not until():
        assert time.monotonic() < deadline
        time.sleep(0.05)
