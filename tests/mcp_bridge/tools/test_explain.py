"""`query` with `explain`, and what the error of a statement says that ran out of time."""

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from mcp.client import Client

from tests.mcp_bridge.o200k import o200k
from tests.mcp_bridge.stage import Stage, ask, environment, http_bridge, on_http, refused

KEY = "demo:explained"
CROSS = "select count(*) from cases c, users u where c.case_type = 'child'"


@pytest.fixture(scope="module")
def hurried(stage: Stage, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A bridge whose statements may run for half a second, over a tenant with many rows."""
    login = stage.catalog.schemas.rw_login(stage.tenants[KEY])
    marts = stage.catalog.schemas.get(stage.tenants[KEY]).marts
    with stage.connections.tenant(login.user, login.password).connect(autocommit=True) as connection:
        for statement in (
            "insert into {}.cases select g::text, 'child', 'Ravi', 'u1' from generate_series(1, 20000) g",
            "insert into {}.users select g::text, 'worker' from generate_series(1, 20000) g",
            "analyze {0}.cases, {0}.users",
        ):
            connection.execute(statement.format(marts).encode())
    with http_bridge(stage, tmp_path_factory.mktemp("hurried"), EXPLORER_QUERY_TIMEOUT_S="0.5") as url:
        yield url


def test_a_statement_is_explained_and_not_run(stage: Stage, hurried: str) -> None:
    token = stage.token("agent-explains", KEY)

    async def work(client: Client) -> tuple[dict[str, Any], int]:
        result = await client.call_tool("query", {"sql": CROSS, "explain": True})
        await ask(client, "query", sql="select count(*) from cases", explain=True)
        unknown = await refused(client, "query", sql="select nothing from cases", explain=True)
        assert unknown["code"] == "unknown_column"
        forbidden = await refused(client, "query", sql="explain select 1", explain=True)
        assert forbidden["code"] == "not_a_select"
        return result.structured_content or {}, o200k(result.content[0].text)  # type: ignore[union-attr]

    answer, cost = on_http(hurried, token, work)
    data = answer["data"]
    assert "rows" not in data
    assert {each["table"] for each in data["reads"]} == {"cases", "users"}
    assert any("no condition between cases c and users u" in hint and "400,000,000" in hint for hint in data["hints"])
    assert "far more than the 0.5 s after which it is stopped" in data["in_words"]
    assert cost <= 600


def test_the_error_of_a_statement_out_of_time_names_the_missing_condition(stage: Stage, hurried: str) -> None:
    async def work(client: Client) -> dict[str, Any]:
        return await refused(client, "query", sql=CROSS)

    error = on_http(hurried, stage.token("agent-late", KEY), work)
    assert error["code"] == "timeout"
    assert "There is no condition between cases c and users u" in error["next_step"]
    assert "400,000,000" in error["next_step"]


def test_rows_that_came_in_time_tell_it_too(stage: Stage, hurried: str) -> None:
    slow = "(select case_id from cases limit 20) union all (select c.case_id from cases c, users u offset 300000000)"

    async def work(client: Client) -> dict[str, Any]:
        result = await client.call_tool("query", {"sql": slow})
        return result.structured_content or {}

    answer = on_http(hurried, stage.token("agent-partly", KEY), work)
    assert answer["data"]["truncated_by"] == "time"
    assert any("no condition between cases c and users u" in warning for warning in answer["warnings"])


def test_the_command_explains(stage: Stage, tmp_path: Path) -> None:
    def run(*arguments: str) -> "subprocess.CompletedProcess[str]":
        command = [sys.executable, "-m", "explorer_cli", "query", KEY, CROSS, "--explain", *arguments]
        return subprocess.run(command, env=environment(stage), cwd=tmp_path, capture_output=True, text=True, check=True)

    shown = run()
    assert "Gives about 1 rows" in shown.stderr
    assert "no condition between cases c and users u" in shown.stderr
    assert json.loads(run("--json").stdout)["data"]["estimated_rows"] == 1
