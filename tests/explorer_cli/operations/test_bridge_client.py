"""Following a run through the bridge's tools, and its progress without a terminal."""

import asyncio
import io
import socket
from typing import Any

import pytest
from rich.console import Console

from explorer_cli.errors import ToolFailed
from explorer_cli.operations.bridge_client import Tools, over_http
from explorer_cli.output.progress import SyncProgress
from tests.explorer_cli.conftest import Explorer


class Answers(Tools):
    """Tools that answer with prepared runs instead of calling a bridge."""

    def __init__(self, *runs: dict[str, Any]) -> None:
        self._runs = list(runs)
        self.calls: list[tuple[str, dict[str, Any]]] = []

    async def call(self, tool: str, arguments: dict[str, Any], on_progress: Any = None) -> dict[str, Any]:
        self.calls.append((tool, arguments))
        return {"data": self._runs.pop(0)}


def sync(answers: Answers, *, wait: bool = True) -> dict[str, Any]:
    return asyncio.run(answers.sync("t", full=False, wait=wait))


def test_a_run_is_followed_to_its_end() -> None:
    answers = Answers(
        {"run_id": "r", "status": "STARTED", "launched": True},
        {"run_id": "r", "status": "STARTED"},
        {"run_id": "r", "status": "FAILURE"},
    )
    assert sync(answers)["status"] == "FAILURE"
    assert [tool for tool, _ in answers.calls] == ["run_materialization", *["get_materialization_status"] * 2]


def test_without_waiting_the_launch_is_all() -> None:
    answers = Answers({"run_id": "r", "status": "QUEUED", "launched": True})
    assert sync(answers, wait=False)["run_id"] == "r"
    assert answers.calls[0][1]["wait_s"] == 0


def test_a_joined_run_that_failed_is_followed_by_one_of_our_own() -> None:
    answers = Answers(
        {"run_id": "dead", "status": "FAILURE", "launched": False},
        {"run_id": "own", "status": "SUCCESS", "launched": True},
    )
    assert sync(answers)["run_id"] == "own"


def test_a_refusal_of_the_bridge_is_the_error_of_the_command(explorer: Explorer) -> None:
    answer = explorer("query", "nobody:here", "select 1", "--json")
    assert answer.code == 1
    assert answer.json["error"]["code"] == "database_not_ready"
    assert "explorer up" in answer.json["error"]["next_step"]


def test_a_bridge_that_is_not_there_is_named(unused_port: int) -> None:
    async def attempt() -> None:
        async with over_http(f"http://127.0.0.1:{unused_port}/mcp", "dex_none") as tools:
            await tools.tables("t")

    with pytest.raises(ToolFailed) as failure:
        asyncio.run(attempt())
    assert failure.value.code == "bridge_unreachable"


@pytest.fixture
def unused_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])


def test_progress_without_a_terminal_is_lines_that_never_go_back() -> None:
    text = io.StringIO()
    with SyncProgress(["t"], console=Console(file=text, force_terminal=False, width=200)) as progress:
        heard = progress.listener("t")

        async def tell() -> None:
            await heard(3.0, 10.0, "raw/cases: 600 rows")
            await heard(0.1, 10.0, "run queued")

        asyncio.run(tell())
        progress.finish("t", "SUCCESS")
    assert "run queued" not in text.getvalue()
    assert text.getvalue().rstrip().endswith("t  success")
