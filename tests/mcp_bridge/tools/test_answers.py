"""The tools' answers about tables: content, provenance, pages, limits."""

import json
from datetime import UTC, datetime
from typing import Any

import pytest
from mcp.client import Client

from explorer.contract.bookkeeping.builds import Finding
from explorer.contract.materializations import Tables
from mcp_bridge.clients.dagster.client import DagsterClient
from mcp_bridge.clients.dagster.records import AssetState
from mcp_bridge.facts.partition_state import PartitionState
from mcp_bridge.facts.relations import live_tables
from mcp_bridge.facts.table_facts import table_warnings
from mcp_bridge.facts.tables import join
from tests.mcp_bridge.clients.test_dagster_client import JOB, finish, with_client
from tests.mcp_bridge.stage import Stage, ask, envelope, on_http, refused

MAX_CHARS = 8000 * 3.5


@pytest.fixture(scope="module", autouse=True)
def materialized(stage: Stage, dagster_url: str) -> str:
    """Id of a run that has filled demo:one."""

    async def work(client: DagsterClient) -> str:
        await client.add_partition("demo:one")
        run = await client.launch(JOB, "demo:one")
        assert (await finish(client, run.run_id)).status == "SUCCESS"
        return run.run_id

    run_id = with_client(dagster_url, work)
    owners, choices = (
        Finding("owner_known", "warn", None, None),
        Finding("accepted_values", "warn", 2, None, {"dob": 2}),
    )
    stage.recorded("demo:one", run_id, {"cases": 3, "case_child": 2}, cases=owners, case_child=choices)
    stage.written("demo:one", run_id)
    return run_id


def test_tables_carry_provenance_and_failing_checks(bridge_url: str, token: str, materialized: str) -> None:
    async def work(client: Client) -> None:
        data = await ask(client, "list_tables", response_format="detailed")
        tables = {table["name"]: table for table in data["tables"]}
        assert list(tables) == ["case_child", "cases", "users"]
        cases = tables["cases"]
        assert (cases["kind"], cases["row_count"], cases["freshness"]) == ("mart", 3, "fresh")
        assert cases["run_id"] == materialized
        assert cases["failing_checks"] == ["owner_known"]
        child = tables["case_child"]
        assert (child["kind"], child["source"], child["description"]) == ("case_type", "child", "Children.")
        assert tables["users"]["freshness"] == "unknown"
        assert data["not_built"] == [{"name": "case_x", "error": "boom"}]
        found = await ask(client, "list_tables", search="one row per")
        assert [table["name"] for table in found["tables"]] == ["cases"]
        found = await ask(client, "list_tables", kind="case_type")
        assert [table["name"] for table in found["tables"]] == ["case_child"]

    on_http(bridge_url, token, work)


def test_lists_go_on_by_cursor(bridge_url: str, token: str) -> None:
    async def work(client: Client) -> None:
        for tool in ("list_tables", "get_metadata"):
            names, cursor = [], None
            while True:
                page = await ask(client, tool, limit=1, **({"cursor": cursor} if cursor else {}))
                names += [table["name"] for table in page["tables"]]
                assert page["total"] == 3
                cursor = page["next_cursor"]
                if cursor is None:
                    break
            assert names == ["case_child", "cases", "users"]

    on_http(bridge_url, token, work)


def test_a_table_is_described_with_joins_that_run_and_samples(bridge_url: str, token: str) -> None:
    async def work(client: Client) -> None:
        data = await ask(client, "describe_table", table="cases")
        assert [column["name"] for column in data["columns"]][:2] == ["case_id", "case_type"]
        assert data["columns"][2]["description"] == "Name of the case."
        assert data["primary_key"] == ["case_id"]
        assert len(data["sample"]["rows"]) == 3
        assert {offered["to"] for offered in data["joins"]} == {"users"}
        child = await ask(client, "describe_table", table="case_child", sample_rows=0)
        assert [offered["to"] for offered in child["joins"]] == ["cases"]
        for offered in data["joins"] + child["joins"]:
            assert (await ask(client, "query", sql=offered["sql"]))["row_count"] >= 2
        first = await ask(client, "describe_table", table="cases", limit=2)
        second = await ask(client, "describe_table", table="cases", limit=10, cursor=first["next_cursor"])
        assert [c["name"] for c in second["columns"]] == ["case_name", "owner_id", "date_opened"]

    on_http(bridge_url, token, work)


@pytest.mark.parametrize(
    ("tool", "arguments", "code", "suggestion"),
    [
        ("describe_table", {"table": "casse"}, "unknown_table", "cases"),
        ("get_lineage", {"table": "cases", "column": "case_nam"}, "unknown_column", "case_name"),
        ("query", {"sql": "select * from csaes"}, "unknown_relation", "cases"),
        ("query", {"sql": "select casename from cases"}, "unknown_column", "case_name"),
        ("run_materialization", {"pipeline": "comcare_sync"}, "unknown_pipeline", "commcare_sync"),
        ("run_materialization", {"assets": ["raw/case"]}, "invalid_argument", "raw/cases"),
        ("query", {"sql": "update cases set case_name = ''"}, "not_a_select", "SELECT"),
        ("query", {"sql": "select 1", "cursor": "x" * 80}, "cursor_invalid", "cursor"),
        ("describe_table", {"table": "cases", "cursor": "nope"}, "invalid_cursor", "cursor"),
    ],
)
def test_an_error_names_the_way_out(
    bridge_url: str, token: str, tool: str, arguments: dict[str, Any], code: str, suggestion: str
) -> None:
    async def work(client: Client) -> dict[str, Any]:
        return await refused(client, tool, **arguments)

    error = on_http(bridge_url, token, work)
    assert error["code"] == code
    assert suggestion in json.dumps(error)


def test_a_generated_table_is_a_source_with_run_and_age(bridge_url: str, token: str, materialized: str) -> None:
    async def work(client: Client) -> Any:
        sql = "with c as (select * from case_child) select count(*) from c join cases using (case_id)"
        return (await ask(client, "query", sql=sql))["sources"]

    child, cases = on_http(bridge_url, token, work)
    assert (child["table"], cases["table"]) == ("case_child", "cases")
    assert child["run_id"] == cases["run_id"] == materialized
    assert 0 <= child["age_s"] < 3600
    assert child["changed_at"].endswith("Z")
    # A failure on cases is reported there: it is no failure of each table made from cases.
    assert child["failing_checks"] == ["accepted_values (2 found)"]
    assert cases["failing_checks"] == ["owner_known"]


def test_a_table_that_the_latest_run_could_not_rebuild_is_not_called_fresh(stage: Stage, materialized: str) -> None:
    tenant = stage.tenants["demo:one"]
    services, schema = stage.services(), stage.catalog.schemas.get(tenant)
    key = ("commcare", "marts", "case_tables")
    built = [{"name": "case_child", "kind": "case_type", "row_count": None, "status": "error", "error": "boom"}]
    asset = AssetState(
        key, None, "tables", (), (), (), "run-2", datetime.now(UTC), Tables.from_metadata({"tables": built})
    )
    live = live_tables(services.databases, tenant, schema, with_raw=False)
    known = join(tenant, [], live, PartitionState({key: asset}))
    child = known.tables["case_child"]
    # Its rows are of the run that made them, as its record says.
    assert (child.freshness, child.source_row()["run_id"]) == ("stale", materialized)
    assert any(all(w in warning for w in ("case_child", "earlier", "boom")) for warning in table_warnings([child]))


def test_a_query_is_paged_by_signed_cursors(stage: Stage, bridge_url: str, token: str, materialized: str) -> None:
    sql = "select case_id from cases order by case_id"
    other = stage.token("other-reader", "demo:one")

    async def work(client: Client) -> str:
        first = await ask(client, "query", sql=sql, limit=2)
        assert first["columns"] == [{"name": "case_id", "type": "text"}]
        assert (first["rows"], first["truncated"], first["row_count"]) == ([["c1"], ["c2"]], True, 2)
        source = first["sources"][0]
        assert (source["table"], source["run_id"], source["failing_checks"]) == ("cases", materialized, ["owner_known"])
        last = await ask(client, "query", sql=sql, limit=2, cursor=first["next_cursor"])
        assert (last["rows"], last["truncated"], last["next_cursor"]) == ([["c3"]], False, None)
        error = await refused(client, "query", sql=f"{sql} desc", cursor=first["next_cursor"])
        assert error["code"] == "cursor_invalid"
        return str(first["next_cursor"])

    cursor = on_http(bridge_url, token, work)

    async def steal(client: Client) -> str:
        return str((await refused(client, "query", sql=sql, cursor=cursor))["code"])

    assert on_http(bridge_url, other, steal) == "cursor_invalid"


@pytest.mark.parametrize(
    "sql",
    [
        "select repeat(chr(1), 50) from generate_series(1, 5000)",
        "select repeat('x', 1000000) from generate_series(1, 50)",
        "select i, repeat('ab', 500) from generate_series(1, 100000) i",
        "select * from cases a, cases b, cases c, cases d, cases e, cases f",
    ],
)
def test_no_answer_is_over_8000_tokens(bridge_url: str, token: str, sql: str) -> None:
    async def work(client: Client) -> None:
        result = await client.call_tool("query", {"sql": sql, "limit": 100000})
        content = envelope(result)
        assert content["success"]
        assert len(result.content[0].text) <= MAX_CHARS  # type: ignore[union-attr]
        assert content["warnings"]

    on_http(bridge_url, token, work)


def test_lineage_tells_assets_and_says_unknown(bridge_url: str, token: str) -> None:
    async def work(client: Client) -> None:
        data = await ask(client, "get_lineage", table="cases", column="case_name")
        assert [asset["asset"] for asset in data["upstream"]] == ["raw/cases", "app_structure"]
        assert [asset["asset"] for asset in data["downstream"]] == ["marts/case_tables"]
        assert data["column"]["made_from"] == "unknown"
        unknown = await ask(client, "get_lineage", table="users")
        assert unknown["upstream"] == unknown["downstream"] == unknown["origin"] == "unknown"

    on_http(bridge_url, token, work)
