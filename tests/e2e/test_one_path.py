"""One real path: CommCare server, Dagster run launched by an MCP client, tables, SQL answers. Nothing is mocked."""

import asyncio
import json
from typing import Any

import pytest

from demo_commcare import MATERNAL, NUTRITION
from tests.e2e.stack import CHILDREN, MOTHERS, Stack, call


def test_a_sync_launched_over_http_lands_exactly_what_the_server_has(stack: Stack) -> None:
    seen: list[tuple[float, str | None]] = []

    async def progress(done: float, _total: float | None, message: str | None) -> None:
        seen.append((done, message))

    async def launch() -> dict[str, Any]:
        async with stack.http() as client:
            return await call(client, "run_materialization", progress, tenant=MOTHERS, wait_s=45)

    launched = asyncio.run(launch())
    assert launched["success"], launched
    assert launched["tenant"] == MOTHERS
    assert launched["data"]["run_url"].startswith(stack.dagster_url)
    run = stack.finished(launched["data"]["run_id"], MOTHERS)
    assert run["status"] == "SUCCESS", run
    assert len(seen) >= 3
    assert [done for done, _ in seen] == sorted(done for done, _ in seen)

    truth = stack.demo.truth(MATERNAL)
    rows = stack.rows(MOTHERS, "select case_id, case_type, case_name, closed, properties from cases order by case_id")
    expected = sorted(truth.cases, key=lambda case: case["case_id"])
    assert [row[0] for row in rows] == [case["case_id"] for case in expected]
    for row, case in zip(rows, expected, strict=True):
        properties = json.loads(row[4]) if isinstance(row[4], str) else row[4]
        cleaned = {name: value.replace("\x00", "\ufffd") for name, value in case["properties"].items()}
        assert row[1:4] == [case["case_type"], case["case_name"], case["closed"]]
        assert {n: v.replace("\x00", "\ufffd") for n, v in properties.items()} == cleaned


@pytest.mark.parametrize(
    ("table", "key", "resource", "id_of"),
    [
        ("forms", "form_id", "forms", "id"),
        ("web_users", "web_user_id", "web_users", "id"),
        ("groups", "group_id", "groups", "id"),
        ("locations", "location_id", "locations", "location_id"),
        ("lookup_tables", "lookup_table_id", "lookup_tables", "id"),
        ("lookup_table_items", "item_id", "lookup_table_items", "id"),
        ("users", "user_id", "users", "id"),
        ("location_types", "location_type_id", "location_types", "id"),
        ("ucr_data_sources", "data_source_id", "ucr_data_sources", "id"),
    ],
)
def test_every_resource_is_there(stack: Stack, table: str, key: str, resource: str, id_of: str) -> None:
    ids = {row[0] for row in stack.rows(MOTHERS, f"select {key} from {table}")}
    assert ids == {str(record[id_of]) for record in getattr(stack.demo.truth(MATERNAL), resource)}


def test_links_between_forms_and_cases_resolve(stack: Stack) -> None:
    [[links, dangling]] = stack.rows(
        MOTHERS,
        "select count(*), count(*) filter (where c.case_id is null) from form_cases fc left join cases c using (case_id)",
    )
    assert links > len(stack.demo.truth(MATERNAL).cases)
    assert dangling == 0


def test_generated_tables_answer_what_an_analyst_asks(stack: Stack) -> None:
    tables = stack.call("list_tables", tenant=MOTHERS, limit=50)
    names = {table["name"]: table for table in tables["data"]["tables"]}
    mothers = [case for case in stack.demo.truth(MATERNAL).cases if case["case_type"] == "mother"]
    assert stack.rows(MOTHERS, "select count(*) from case_mother") == [[len(mothers)]]
    assert names["case_mother"]["row_count"] == len(mothers)
    assert names["cases"]["materialized_at"]
    assert any(name.startswith("form_") for name in names)
    assert any("__" in name for name in names)


def test_an_answer_says_where_it_comes_from(stack: Stack) -> None:
    answer = stack.call("query", tenant=MOTHERS, sql="select count(*) as n from cases where not closed")
    assert answer["data"]["columns"] == [{"name": "n", "type": "bigint"}]
    [source] = answer["data"]["sources"]
    assert source["table"] == "cases"
    assert source["run_id"]
    assert 0 <= source["age_s"] < 3600
    assert answer["data"]["truncated"] in (False, None)


def test_the_same_over_stdio(stack: Stack) -> None:
    async def path() -> tuple[dict[str, Any], dict[str, Any]]:
        async with stack.stdio() as client:
            run = await call(client, "run_materialization", tenant=CHILDREN, wait_s=45)
            while run["data"]["status"] not in ("SUCCESS", "FAILURE", "CANCELED"):
                run = await call(
                    client, "get_materialization_status", tenant=CHILDREN, run_id=run["data"]["run_id"], wait_s=20
                )
            return run, await call(client, "query", tenant=CHILDREN, sql="select count(*) from cases")

    run, answer = asyncio.run(path())
    assert run["data"]["status"] == "SUCCESS", run
    assert answer["data"]["rows"] == [[len(stack.demo.truth(NUTRITION).cases)]]


def test_a_token_reaches_its_own_tenant_only(stack: Stack) -> None:
    listed = stack.call("list_tenants", stack.mothers_token)
    assert [tenant["key"] for tenant in listed["data"]["tenants"]] == [MOTHERS]
    refused = stack.call("query", stack.mothers_token, tenant=CHILDREN, sql="select 1")
    unknown = stack.call("query", stack.mothers_token, tenant="no:such", sql="select 1")
    assert refused["error"]["code"] == unknown["error"]["code"] == "unknown_tenant"
    assert refused["error"]["message"].replace(CHILDREN, "X") == unknown["error"]["message"].replace("no:such", "X")


def test_the_command_line_asks_the_same_way(stack: Stack) -> None:
    answer = json.loads(stack.cli("query", MOTHERS, "select count(*) from cases", "--json").stdout)
    assert answer["data"]["rows"] == [[len(stack.demo.truth(MATERNAL).cases)]]


def test_changes_on_the_server_arrive_with_the_next_sync(stack: Stack) -> None:
    case = next(
        case for case in stack.demo.truth(MATERNAL).cases if case["case_type"] == "mother" and not case["closed"]
    )
    stack.demo.control.update_case(MATERNAL, case["case_id"], {"village_note": "moved to the river"})
    run = stack.sync(MOTHERS)
    assert run["status"] == "SUCCESS", run
    sql = f"select properties ->> 'village_note' from cases where case_id = '{case['case_id']}'"
    assert stack.rows(MOTHERS, sql) == [["moved to the river"]]
    assert stack.rows(MOTHERS, "select count(*) from cases") == [[len(stack.demo.truth(MATERNAL).cases)]]
