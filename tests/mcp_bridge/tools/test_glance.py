"""How several tenants stand, in one answer that costs little."""

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from mcp.client import Client

from explorer.catalog import State
from explorer.catalog.coordination.syncs import GoodRun
from explorer.contract.bookkeeping import holdings, loads
from explorer.contract.bookkeeping.builds import Finding
from explorer.contract.bookkeeping.holdings import Holdings
from explorer.contract.bookkeeping.loads import LoadState
from explorer.core.ports import free_port
from tests.mcp_bridge.o200k import o200k
from tests.mcp_bridge.stage import Stage, http_bridge, on_http

FRESH, OLD, BUSY, FAILED = "demo:glance", "demo:glance-old", "demo:glance-busy", "demo:glance-failed"
PIPELINE = "commcare_sync"


def test_what_tables_hold_is_summed_from_their_records(stage: Stage) -> None:
    schema, login = (
        stage.catalog.schemas.get(stage.tenants[FRESH]),
        stage.catalog.schemas.rw_login(stage.tenants[FRESH]),
    )
    with stage.connections.tenant(login.user, login.password).connect(autocommit=True) as connection:
        assert holdings.read(connection, schema) is None
        stage.recorded(FRESH, "run-1", {"cases": 3, "users": 2}, cases=Finding("unique", "fail", 1, None))
        loads.write(connection, schema.raw, "cases", "raw_cases", LoadState(None, 3, 0, None), "run-1")
        found = holdings.read(connection, schema)
    assert found is not None
    assert (found.tables, found.rows, found.failing) == (2, 5, 1)
    assert found.read_at == found.asked_at is not None
    assert Holdings.from_object(json.loads(json.dumps(found.as_object()))) == found


def hold(stage: Stage, key: str, read_at: datetime, *, ends: bool = True) -> None:
    """A run has written the tenant's tables, or is still at it."""
    tenant, schemas = stage.tenants[key], stage.catalog.schemas
    held = Holdings(24, 5_400, 0, read_at, read_at)
    schemas.transition(tenant, {State.ACTIVE}, State.MATERIALIZING, run_id="run-1")
    schemas.transition(tenant, {State.MATERIALIZING}, State.ACTIVE, run_id="run-1", holdings=held)
    if not ends:
        schemas.transition(tenant, {State.ACTIVE}, State.MATERIALIZING, run_id="run-2")


def test_freshness_of_four_tenants_costs_one_call_and_few_tokens(stage: Stage, bridge_url: str, tmp_path: Path) -> None:
    now = datetime.now(UTC)
    hold(stage, FRESH, now)
    hold(stage, OLD, now - timedelta(days=9))
    hold(stage, BUSY, now, ends=False)
    stage.catalog.syncs.ran(PIPELINE, [GoodRun(stage.tenants[FRESH].id, now, now, "1")])
    stage.catalog.syncs.failed(
        stage.tenants[FAILED], PIPELINE, "credentials_invalid", "No.", is_final=True, began_at=now, ended_at=now
    )
    token = stage.token("agent-glance", FRESH, OLD, BUSY, FAILED)

    async def work(client: Client) -> tuple[dict[str, Any], int]:
        result = await client.call_tool("list_tenants", {})
        return result.structured_content or {}, o200k(result.content[0].text)  # type: ignore[union-attr]

    answer, cost = on_http(bridge_url, token, work)
    assert cost <= 500
    data = answer["data"]
    assert data["of_all"]["provider"] == "commcare"
    assert "query:run" in data["of_all"]["scopes"]
    rows = {row["key"]: row for row in data["tenants"]}
    told = [(row.get("freshness"), row.get("tables"), row.get("rows")) for row in rows.values()]
    assert told == [("fresh", 24, 5_400), ("fresh", 24, 5_400), ("unknown", None, None), ("stale", 24, 5_400)]
    assert rows[FRESH]["last_run"]["status"] == "SUCCESS"
    assert rows[FAILED]["last_run"] | {"age_s": 0} == {"status": "FAILURE", "cause": "credentials_invalid", "age_s": 0}
    assert rows[OLD]["age_s"] >= 9 * 86_400
    assert rows[BUSY]["active_run"] == {"run_id": "run-2", "status": "STARTED"}
    # The catalog tells all of it.
    with http_bridge(stage, tmp_path, EXPLORER_DAGSTER_URL=f"http://127.0.0.1:{free_port()}") as url:
        without, _ = on_http(url, token, work)
    assert {row["key"]: row.get("freshness") for row in without["data"]["tenants"]} == {
        key: row.get("freshness") for key, row in rows.items()
    }
    assert "runs that wait to begin are not shown" in without["warnings"][0]
