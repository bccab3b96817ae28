"""One bridge as two processes on one port: calls reach both, and go on when one is killed."""

import os
import re
import signal
import time
from collections.abc import Callable
from pathlib import Path

import httpx

from explorer.core.ports import port_free
from explorer.telemetry.metrics_token import make_metrics_token
from tests.mcp_bridge.stage import Stage, ask, bridge_process, on_http

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
