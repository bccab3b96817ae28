"""A plan before a run: what would run, how long it took, what it conflicts with. Nothing is launched."""

import asyncio
from datetime import UTC, datetime
from typing import Any

from mcp.client import Client

from explorer.contract.bookkeeping import steps
from explorer.contract.bookkeeping.steps import Facts, Step
from explorer.postgres.connections import load_connections
from explorer.tenants import teardown_schema
from mcp_bridge.clients.dagster.client import DagsterClient
from tests.mcp_bridge.o200k import o200k
from tests.mcp_bridge.stage import Stage, ask, http_client, on_http, refused

KEY, SLOW = "demo:planned", "demo:slow-plan"
PIPELINE = "commcare_sync"


def kinds(plan: dict[str, Any]) -> dict[str, bool]:
    return {each["kind"]: each["prevents"] for each in plan["conflicts"]}


def test_a_plan_tells_assets_and_seconds_and_launches_nothing(stage: Stage, bridge_url: str, dagster_url: str) -> None:
    schema = stage.catalog.schemas.get(stage.tenants[KEY])
    login = stage.catalog.schemas.rw_login(stage.tenants[KEY])

    def did(run: str, step: Step, seconds: float, facts: Facts) -> None:
        with stage.connections.tenant(login.user, login.password).connect(autocommit=True) as connection:
            steps.write(connection, schema, run, step, seconds=seconds, outcome="done", facts=facts)

    async def work(client: Client) -> tuple[dict[str, Any], ...]:
        unknown = await client.call_tool("run_materialization", {"plan": True})
        did("run-1", "loading", 40.0, Facts(full=True))
        did("run-2", "loading", 2.0, Facts())
        did("run-2", "tables", 1.5, Facts())
        known = await ask(client, "run_materialization", plan=True)
        full = await ask(client, "run_materialization", plan=True, full_refresh=True)
        part = await ask(client, "run_materialization", plan=True, assets=["raw/cases"])
        wrong = await refused(client, "run_materialization", plan=True, assets=["raw/case"])
        assert wrong["details"]["allowed"][0] == "raw/cases"
        assert (await ask(client, "list_runs"))["runs"] == []
        cost = o200k(unknown.content[0].text)  # type: ignore[union-attr]
        assert cost <= 400
        return unknown.structured_content or {}, known, full, part

    unknown, known, full, part = on_http(bridge_url, stage.token("planner", KEY), work)
    assert (unknown["data"]["would_launch"], unknown["data"]["conflicts"]) == (True, [])
    assert any("No run has recorded" in warning for warning in unknown["warnings"])
    assert known["steps"] == [
        {"step": "discovery", "assets": ["app_structure"]},
        {"step": "loading", "assets": ["raw/cases"], "last_s": 2.0},
        {"step": "tables", "assets": ["marts/case_tables", "marts/cases"], "last_s": 1.5},
    ]
    assert (known["last_s"], full["last_s"], full["full_refresh"]) == (3.5, 41.5, True)
    assert [each["assets"] for each in part["steps"]] == [["raw/cases"]]


def test_conflicts_are_told(stage: Stage, bridge_url: str) -> None:
    tenant, now = stage.tenants[KEY], datetime.now(UTC)
    quotas = stage.catalog.quotas

    async def work(client: Client) -> dict[str, Any]:
        return await ask(client, "run_materialization", plan=True)

    token = stage.token("planner-of-conflicts", KEY)
    stage.catalog.syncs.failed(
        tenant, PIPELINE, "credentials_invalid", "No.", is_final=True, began_at=now, ended_at=now
    )
    quotas.set(tenant, {"runs": 1}, actor="test")
    quotas.take_run(tenant)
    try:
        both = on_http(bridge_url, token, work)
    finally:
        quotas.set(tenant, {"runs": None}, actor="test")
    assert (both["would_launch"], kinds(both)) == (False, {"quota_exhausted": True, "held_back": False})
    held = on_http(bridge_url, token, work)
    assert (held["would_launch"], kinds(held)) == (True, {"held_back": False})
    assert "credentials_invalid" in held["conflicts"][0]["message"]
    stage.catalog.syncs.lift(tenant)

    teardown_schema(stage.settings, stage.catalog, load_connections(stage.settings), tenant)
    absent = on_http(bridge_url, token, work)
    assert (absent["would_launch"], kinds(absent)) == (False, {"schema_absent": True})
    assert "provision_schema" in absent["conflicts"][0]["message"]


def test_a_run_at_work_would_be_the_answer(stage: Stage, bridge_url: str, dagster_url: str) -> None:
    async def main() -> None:
        async with http_client(bridge_url, stage.token("planner-beside", SLOW)) as client:
            run = await ask(client, "run_materialization", wait_s=0)
            planned = await ask(client, "run_materialization", plan=True, full_refresh=True)
            async with DagsterClient(dagster_url) as dagster:
                assert [each.run_id for each in await dagster.runs(partition=SLOW)] == [run["run_id"]]
            await ask(client, "cancel_materialization", run_id=run["run_id"])
            [conflict] = planned["conflicts"]
            assert (conflict["kind"], conflict["prevents"], conflict["run_id"]) == ("run_active", True, run["run_id"])
            assert "Ignored: full_refresh" in conflict["message"]
            assert planned["would_launch"] is False

    asyncio.run(main())
