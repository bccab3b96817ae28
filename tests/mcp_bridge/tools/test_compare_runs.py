"""What changed between two runs, told by what they wrote beside the tables: over MCP, and by the command."""

import json
import subprocess
import sys
from typing import Any

import pytest
from mcp.client import Client

from explorer.catalog import State
from explorer.contract.bookkeeping import steps
from explorer.contract.bookkeeping.builds import Finding
from explorer.contract.bookkeeping.run_changes import RowCounts
from explorer.contract.bookkeeping.steps import Facts, Outcome, Step
from tests.mcp_bridge.o200k import o200k
from tests.mcp_bridge.stage import Stage, ask, environment, on_http, refused

KEY = "demo:compared"
FIRST, SECOND, THIRD = (f"{number}0000000-aaaa-4bbb-8ccc-000000000000" for number in (1, 2, 3))


@pytest.fixture(scope="module")
def token(stage: Stage) -> str:
    """Of a caller whose tenant had three runs: one that built all, one that took up changes, one that failed."""

    def did(run: str, step: Step, seconds: float, facts: Facts, outcome: Outcome = "done") -> None:
        with stage.connections.tenant(login.user, login.password).connect(autocommit=True) as connection:
            steps.write(connection, schema, run, step, seconds=seconds, outcome=outcome, facts=facts)

    def alter(statement: str) -> None:
        with stage.connections.tenant(login.user, login.password).connect(autocommit=True) as connection:
            connection.execute(f"ALTER TABLE {schema.marts}.cases {statement}".encode())

    schema = stage.catalog.schemas.get(stage.tenants[KEY])
    login = stage.catalog.schemas.rw_login(stage.tenants[KEY])
    did(FIRST, "loading", 0.5, Facts(sources={"cases": RowCounts(3, 0, 0)}))
    stage.recorded(KEY, FIRST, {"cases": 3, "users": 2, "case_child": 2})
    did(FIRST, "tables", 1.25, Facts(built=3))
    did(SECOND, "loading", 0.25, Facts(sources={"cases": RowCounts(1, 1, 1)}))
    alter("ADD COLUMN village text, ALTER COLUMN owner_id TYPE varchar(40)")
    failing = Finding("unique", "fail", 2, None)
    stage.recorded(KEY, SECOND, {"cases": 3}, RowCounts(1, 1, 1), cases=failing)
    did(SECOND, "tables", 0.75, Facts(applied=1))
    did(THIRD, "loading", 0.5, Facts(failed={"users": "HTTP 500"}), "failed")
    return stage.token("agent-compared", KEY)


def test_the_last_run_is_compared_with_the_one_before(bridge_url: str, token: str) -> None:
    async def work(client: Client) -> dict[str, Any]:
        return await ask(client, "compare_runs")

    found = on_http(bridge_url, token, work)
    assert (found["before"]["run_id"], found["after"]["run_id"]) == (SECOND, THIRD)
    assert found["first_difference"] == "loading: done before, failed (users: HTTP 500) now"
    assert found["steps"]["tables"] == {"before_s": 0.8, "outcome": "not run"}
    assert found["tables"] == []


def test_rows_columns_checks_and_seconds_are_told(bridge_url: str, token: str) -> None:
    async def work(client: Client) -> tuple[dict[str, Any], dict[str, Any]]:
        return (
            await ask(client, "compare_runs", run_id=SECOND),
            await ask(client, "compare_runs", run_id=FIRST, before_run_id=SECOND),
        )

    found, named_the_other_way = on_http(bridge_url, token, work)
    assert found["first_difference"] == "loading: cases 1 new, 1 changed, 1 gone"
    assert found["sources"] == {"cases": {"new": 1, "changed": 1, "gone": 1}}
    assert found["steps"] == {
        "loading": {"before_s": 0.5, "after_s": 0.2},
        "tables": {"before_s": 1.2, "after_s": 0.8},
    }
    assert found["tables"] == [
        {
            "table": "cases",
            "rows_before": 3,
            "rows": 3,
            "new": 1,
            "changed": 1,
            "gone": 1,
            "columns_added": ["village"],
            "types": {"owner_id": "text -> character varying(40)"},
            "checks": {"unique": "pass -> fail (2)"},
        }
    ]
    assert named_the_other_way | {"before": 0, "after": 0} == found | {"before": 0, "after": 0}


def test_what_ran_between_is_added_up_and_the_first_run_is_compared_with_nothing(bridge_url: str, token: str) -> None:
    async def work(client: Client) -> tuple[dict[str, Any], dict[str, Any]]:
        first = await client.call_tool("compare_runs", {"run_id": FIRST})
        return await ask(client, "compare_runs", run_id=THIRD, before_run_id=FIRST), first.structured_content or {}

    found, first = on_http(bridge_url, token, work)
    assert (found["runs_between"], [each["table"] for each in found["tables"]]) == (1, ["cases"])
    assert "before" not in first["data"]
    assert {each["table"]: each["rows"] for each in first["data"]["tables"]} == {
        "cases": 3,
        "users": 2,
        "case_child": 2,
    }
    assert any("Nothing is recorded of a run before this one" in warning for warning in first["warnings"])


def test_a_run_without_a_record_is_said_soundly(bridge_url: str, token: str, stage: Stage) -> None:
    async def work(client: Client) -> tuple[dict[str, Any], dict[str, Any]]:
        unknown = await refused(client, "compare_runs", run_id="9" * 32)
        return unknown, await refused(client, "compare_runs", run_id=FIRST, before_run_id=FIRST)

    unknown, same = on_http(bridge_url, token, work)
    assert (unknown["code"], same["code"]) == ("run_not_recorded", "invalid_argument")
    assert unknown["details"]["recorded"] == [THIRD, SECOND, FIRST]

    async def empty(client: Client) -> dict[str, Any]:
        return await refused(client, "compare_runs")

    # Runs of another tenant are none of this one's.
    assert on_http(bridge_url, stage.token("agent-uncompared", "demo:words"), empty)["code"] == "run_not_recorded"


def test_tables_that_may_not_be_read_are_left_out(bridge_url: str, token: str, stage: Stage) -> None:
    async def work(client: Client) -> dict[str, Any]:
        return await ask(client, "compare_runs", run_id=SECOND)

    stage.catalog.limits.set(stage.tenants[KEY], {"excluded_tables": ["cases"]})
    try:
        assert on_http(bridge_url, token, work)["tables"] == []
    finally:
        stage.catalog.limits.clear(stage.tenants[KEY])


def test_a_run_at_work_is_marked_and_a_large_one_costs_few_tokens(stage: Stage, bridge_url: str) -> None:
    key = "demo:compared-crowd"
    tables = {f"form_registration_of_mothers_{number}": number for number in range(60)}
    tenant = stage.tenants[key]
    schema, login = stage.catalog.schemas.get(tenant), stage.catalog.schemas.rw_login(tenant)
    with stage.connections.tenant(login.user, login.password).connect(autocommit=True) as connection:
        for name in tables:
            connection.execute(f"CREATE TABLE {schema.marts}.{name} (form_id text)".encode())
    stage.recorded(key, FIRST, tables, RowCounts(0, 0, 0))
    stage.recorded(key, SECOND, tables, RowCounts(7, 8, 9))

    async def work(client: Client) -> tuple[dict[str, Any], int, dict[str, Any]]:
        concise = await client.call_tool("compare_runs", {})
        cost = o200k(concise.content[0].text)  # type: ignore[union-attr]
        return concise.structured_content or {}, cost, await ask(client, "compare_runs", response_format="detailed")

    stage.catalog.schemas.transition(tenant, {State.ACTIVE}, State.MATERIALIZING, run_id=SECOND)
    concise, cost, detailed = on_http(bridge_url, stage.token("agent-crowd", key), work)
    stage.catalog.schemas.transition(tenant, {State.MATERIALIZING}, State.ACTIVE, run_id=SECOND)
    assert cost <= 600
    assert len(concise["data"]["tables"]) + concise["data"]["more_tables"] == 60
    assert len(detailed["tables"]) == 60
    assert any("is still at work" in warning for warning in concise["warnings"])
    assert any("response_format=detailed" in warning for warning in concise["warnings"])


def test_the_command_shows_the_same(stage: Stage, token: str) -> None:
    def run(*arguments: str) -> "subprocess.CompletedProcess[str]":
        return subprocess.run(
            [sys.executable, "-m", "explorer_cli", "runs", "compare", KEY, *arguments],
            env=environment(stage),
            capture_output=True,
            text=True,
            check=False,
        )

    shown = run(FIRST, SECOND)
    assert shown.returncode == 0, shown.stderr
    assert "First difference: loading: cases 1 new, 1 changed, 1 gone" in shown.stdout + shown.stderr
    assert "+village, owner_id: text -> character varying(40), unique: pass -> fail (2)" in shown.stdout
    assert json.loads(run("--json").stdout)["data"]["after"]["run_id"] == THIRD
