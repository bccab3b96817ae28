"""One real path: CommCare server, Dagster run launched by an MCP client, tables, SQL answers. Nothing is mocked."""

import asyncio
import json
from typing import Any

import pytest

from demo_commcare import MATERNAL, NUTRITION
from explorer_cli.supervision.processes import wait_until
from tests.collector import Span
from tests.e2e.stack import CHILDREN, MOTHERS, Stack, call

# A third of what such a run wrote before events that say nothing were left out.
MOST_EVENTS = 98


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


def test_the_sync_is_one_trace_from_the_call_to_its_statements_and_its_lines_name_it(stack: Stack) -> None:
    def named(name: str) -> list[Span]:
        return [each for each in stack.collector.spans if each.name == name]

    # Spans are sent in the background.
    assert wait_until(lambda: bool(named("tools/call run_materialization") and named("run commcare_sync")), 60), {
        each.name for each in stack.collector.spans
    }
    call, collector = named("tools/call run_materialization")[0], stack.collector
    assert (call.service, call.attributes["explorer.tenant"]) == ("explorer-bridge", MOTHERS)
    [launch] = collector.below(call, "launch")
    [run] = collector.below(launch, "run commcare_sync")
    assert (run.service, run.attributes["explorer.tenant"]) == ("explorer-run", MOTHERS)
    assert run.attributes["explorer.run"] == launch.attributes["explorer.run"]
    assert [len(collector.below(run, step)) for step in ("discovery", "loading", "tables", "dbt")] == [1, 1, 1, 1]
    loads = collector.below(collector.below(run, "loading")[0], "load")
    [cases] = [each for each in loads if each.attributes["table"] == "raw_cases"]
    operations = {each.attributes["operation"] for each in collector.below(cases, "statement")}
    assert {"COPY", "SELECT"} <= operations

    lines = (stack.home / "logs" / "warm-pool.log").read_text().splitlines()
    told = [json.loads(line) for line in lines if line.startswith("{")]
    of_run = [line for line in told if line.get("run") == run.attributes["explorer.run"]]
    assert {line["tenant"] for line in of_run} == {MOTHERS}
    assert {line["trace_id"] for line in of_run} >= {call.trace}


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
    assert names["cases"]["changed_at"]
    assert any(name.startswith("form_") for name in names)
    assert any("__" in name for name in names)


def test_what_fails_in_a_generated_table_is_told_of_it_and_of_no_other(stack: Stack) -> None:
    tables = stack.call("list_tables", tenant=MOTHERS, kind="form", limit=50)["data"]["tables"]
    failing = {table["name"]: set(table["failing_checks"]) for table in tables}
    unfit = {
        name: stack.rows(MOTHERS, f"select count(*) from {name} cross join lateral unnest(unfit_columns)")[0][0]
        for name in ("form_anc_visit", "form_household_survey")
    }
    assert unfit["form_anc_visit"] > 0
    for name, count in unfit.items():
        told = {check for check in failing[name] if check.startswith(("values_fit", "accepted_values"))}
        assert sum(int(check.partition("(")[2].split()[0]) for check in told) == count, told


def test_what_is_called_the_key_of_a_table_names_each_of_its_rows(stack: Stack) -> None:
    """This covers every table, static or generated; parts of a key may be NULL."""

    async def work() -> None:
        async with stack.http() as client:
            tables, cursor = [], {}
            while True:
                page = (await call(client, "list_tables", tenant=MOTHERS, **cursor))["data"]
                tables += [table["name"] for table in page["tables"]]
                if not page["next_cursor"]:
                    break
                cursor = {"cursor": page["next_cursor"]}
            assert {"user_locations", "ucr_rows", "form_cases", "case_activity", "data_quality"} < set(tables)
            keys = {}
            for table in tables:
                about = await call(client, "describe_table", tenant=MOTHERS, table=table, limit=1, sample_rows=0)
                keys[table] = about["data"]["primary_key"]
                columns = ", ".join(keys[table])
                sql = f"select count(*) from (select {columns} from {table} group by {columns} having count(*) > 1) as twice"
                assert (await call(client, "query", tenant=MOTHERS, sql=sql))["data"]["rows"] == [[0]], table
            assert keys["user_locations"] == ["user_id", "location_id"]
            assert keys["web_users"] == ["web_user_id"]
            assert keys["lookup_table_items"] == ["item_id"]
            # A part of a key does not identify a row.
            sql = "select count(*) - count(distinct form_id) from form_cases"
            assert (await call(client, "query", tenant=MOTHERS, sql=sql))["data"]["rows"][0][0] > 0

    asyncio.run(work())


def test_a_column_is_traced_from_the_table_to_the_source(stack: Stack) -> None:
    lineage = stack.call("get_lineage", tenant=MOTHERS, table="case_mother", column="age")["data"]
    assert [app["name"] for app in lineage["origin"]["apps"]] == ["Maternal Health Register"]
    assert any(asked["question"] == "age" for asked in lineage["column"]["property"]["asked_by"])
    steps, step = [], lineage["column"]
    while step.get("made_from"):
        [step] = step["made_from"]
        steps.append((step["table"], step["column"], step["path"]))
    assert steps == [
        ("cases", "properties", "age"),
        ("raw_cases", "record", "properties/age"),
    ]
    assert step["resource"]["name"] == "cases"
    recorded = {path: _recorded_lineage(stack, path) for path in (("marts", "case_tables"), ("marts", "cases"))}
    assert recorded["marts", "case_tables"]["case_mother.age"] == [(["commcare", "marts", "cases"], "properties")]
    assert recorded["marts", "cases"]["case_name"] == [(["commcare", "raw", "cases"], "record")]


def _recorded_lineage(stack: Stack, path: tuple[str, str]) -> dict[str, list[tuple[list[str], str]]]:
    """Dagster's column lineage of an asset of the first tenant."""
    query = """query($k: [AssetKeyInput!], $p: [String!]) { assetNodes(assetKeys: $k) {
      latestMaterializationByPartition(partitions: $p) { metadataEntries { label
        ... on TableColumnLineageMetadataEntry { lineage { columnName columnDeps { assetKey { path } columnName } } } } } } }"""
    nodes = stack.graphql(query, k=[{"path": ["commcare", *path]}], p=[MOTHERS])["assetNodes"]
    [materialization] = nodes[0]["latestMaterializationByPartition"]
    [entry] = [e for e in materialization["metadataEntries"] if e["label"] == "dagster/column_lineage"]
    return {
        row["columnName"]: [(dep["assetKey"]["path"], dep["columnName"]) for dep in row["columnDeps"]]
        for row in entry["lineage"]
    }


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
    # The run that is to be kept for a month: docs/capacity.md.
    with stack.admin("dagster") as connection:
        of_run = "SELECT dagster_event_type, count(*) FROM event_logs WHERE run_id = %s GROUP BY 1"
        stored = dict(connection.execute(of_run, [run["run_id"]]).fetchall())
    assert sum(stored.values()) <= MOST_EVENTS, stored
    told = {row["asset"] for row in run["assets"]}
    assert {"raw/cases", "marts/cases", "marts/case_tables"} <= told
    assert "marts/users" not in told
    sql = f"select properties ->> 'village_note' from cases where case_id = '{case['case_id']}'"
    assert stack.rows(MOTHERS, sql) == [["moved to the river"]]
    assert stack.rows(MOTHERS, "select count(*) from cases") == [[len(stack.demo.truth(MATERNAL).cases)]]


def test_all_tenants_are_synced_by_one_command_and_those_that_failed_by_another(stack: Stack) -> None:
    stack.demo.control.set_latency(8.0)
    try:
        launched = json.loads(stack.cli("sync", "--all", "--json").stdout)
        assert launched["launched"].keys() == {MOTHERS, CHILDREN}
        again = json.loads(stack.cli("sync", "--all", "--json").stdout)
        assert (again["launched"], sorted(again["at_work_already"])) == ({}, sorted([MOTHERS, CHILDREN]))
    finally:
        stack.demo.control.set_latency(0.0)
    for tenant, run_id in launched["launched"].items():
        assert stack.finished(run_id, tenant)["status"] == "SUCCESS"
    assert json.loads(stack.cli("sync", "--all", "--failed", "--json").stdout) == {
        "launched": {},
        "at_work_already": [],
    }


def test_a_backfill_over_tenants_runs_each_of_them_behind_those_who_wait(stack: Stack) -> None:
    """As a person starts it in the UI, from an asset and partitions. Dagster's daemon submits the runs in threads."""
    launch = """mutation($of: LaunchBackfillParams!) { launchPartitionBackfill(backfillParams: $of) {
      __typename ... on LaunchBackfillSuccess { backfillId } ... on PythonError { message } } }"""
    asset = {"path": ["commcare", "raw", "users"]}
    chosen = {"assetSelection": [asset], "partitionNames": [MOTHERS, CHILDREN]}
    launched = stack.graphql(launch, of=chosen)["launchPartitionBackfill"]
    assert launched["__typename"] == "LaunchBackfillSuccess", launched
    state = """query($id: String!) { partitionBackfillOrError(backfillId: $id) { ... on PartitionBackfill {
      status runs { status tags { key value } assetSelection { path } } } } }"""
    seen: list[dict[str, Any]] = []

    def is_over() -> bool:
        seen.append(stack.graphql(state, id=launched["backfillId"])["partitionBackfillOrError"])
        return seen[-1]["status"] in ("COMPLETED", "COMPLETED_SUCCESS", "COMPLETED_FAILED", "FAILED")

    wait_until(is_over, 150.0)
    assert seen[-1]["status"] == "COMPLETED_SUCCESS", seen[-1]
    runs = seen[-1]["runs"]
    tags = [{tag["key"]: tag["value"] for tag in run["tags"]} for run in runs]
    assert sorted(each["dagster/partition"] for each in tags) == sorted([MOTHERS, CHILDREN])
    assert {(run["status"], each["dagster/priority"]) for run, each in zip(runs, tags, strict=True)} == {
        ("SUCCESS", "-20")
    }
    assert [run["assetSelection"] for run in runs] == [[asset], [asset]]
