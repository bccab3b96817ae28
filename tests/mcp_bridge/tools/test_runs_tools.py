"""Runs through the bridge, and schemas coming and going: against a real Dagster."""

import asyncio

import anyio
import pytest
from mcp.client import Client

from explorer.providers.commcare.structure import Form, Question, Structure
from explorer.providers.commcare.structure_diff import structure_diff
from mcp_bridge.clients.dagster.client import DagsterClient
from tests.mcp_bridge.clients.test_dagster_client import with_client
from tests.mcp_bridge.stage import Stage, ask, http_client, on_http, refused


def test_a_sync_is_launched_once_watched_and_told(stage: Stage, bridge_url: str, dagster_url: str) -> None:
    token = stage.token("runner", "demo:schema")
    seen: list[tuple[float, float | None, str | None]] = []

    async def progress(value: float, total: float | None, message: str | None) -> None:
        seen.append((value, total, message))

    async def work(client: Client) -> None:
        arguments = {"wait_s": 45, "idempotency_key": "once"}
        result = await client.call_tool("run_materialization", arguments, progress_callback=progress)
        data = (result.structured_content or {})["data"]
        assert (data["status"], data["launched"], data["requested_by"]) == ("SUCCESS", True, "runner")
        assert data["run_url"] == f"{dagster_url}/runs/{data['run_id']}"
        assert {"asset": "raw/cases", "row_count": 3, "rows_landed": 3, "rows_rejected": 1} in data["assets"]
        assert {check["check"] for check in data["failing_checks"]} == {
            "owner_known",
            "primary_keys",
            "accepted_values",
        }
        again = await ask(client, "run_materialization", **arguments)
        assert (again["run_id"], again["launched"]) == (data["run_id"], False)
        status = await ask(client, "get_materialization_status", run_id=data["run_id"])
        assert set(status["steps"].values()) == {"succeeded"}
        runs = await ask(client, "list_runs", status=["SUCCESS"], limit=1)
        assert [run["run_id"] for run in runs["runs"]] == [data["run_id"]]
        assert (await ask(client, "list_runs", status=["FAILURE"]))["runs"] == []
        assert (await ask(client, "cancel_materialization", run_id=data["run_id"]))["cancelled"] is False

    on_http(bridge_url, token, work)
    values = [value for value, _, _ in seen]
    assert values == sorted(set(values))
    assert "raw/cases: 2 of 3 rows" in [message for _, _, message in seen]


def test_a_second_launch_answers_with_the_first_run_and_a_cancel_stops_it(
    stage: Stage, bridge_url: str, token: str
) -> None:
    slow = stage.token("slow-runner", "demo:slow")

    async def work(client: Client) -> str:
        first = await ask(client, "run_materialization", wait_s=0)
        assert first["finished"] is False
        second = await ask(client, "run_materialization", wait_s=1)
        assert (second["run_id"], second["launched"], second["already_running"]) == (first["run_id"], False, True)
        assert "get_materialization_status" in second["next_step"]
        error = await refused(client, "teardown_schema", confirm="demo:slow")
        assert error["code"] == "run_active"
        assert (await ask(client, "cancel_materialization", run_id=first["run_id"]))["cancelled"] is True
        ended = await ask(client, "get_materialization_status", run_id=first["run_id"], wait_s=45)
        assert ended["status"] == "CANCELED"
        return str(first["run_id"])

    run_id = on_http(bridge_url, slow, work)

    async def foreign(client: Client) -> set[str]:
        status = await refused(client, "get_materialization_status", run_id=run_id)
        cancel = await refused(client, "cancel_materialization", run_id=run_id)
        return {str(status["code"]), str(cancel["code"])}

    assert on_http(bridge_url, token, foreign) == {"unknown_run"}


@pytest.mark.parametrize("mode", ["auto", "legacy"])
def test_cancelling_the_call_cancels_the_run_it_started(
    stage: Stage, bridge_url: str, dagster_url: str, mode: str
) -> None:
    token = stage.token(f"impatient-{mode}", "demo:slow")

    async def main() -> None:
        started = anyio.Event()

        async def progress(value: float, total: float | None, message: str | None) -> None:
            if message == "raw/cases: 3 of 3 rows":
                started.set()

        async with http_client(bridge_url, token, mode=mode) as client, anyio.create_task_group() as group:

            async def call() -> None:
                await client.call_tool("run_materialization", {"wait_s": 45}, progress_callback=progress)

            group.start_soon(call)
            with anyio.fail_after(60):
                await started.wait()
            group.cancel_scope.cancel()

    asyncio.run(main())

    async def last_run_ends(client: DagsterClient) -> str:
        run = (await client.runs(partition="demo:slow", limit=1))[0]
        async with asyncio.timeout(60):
            while not run.finished:
                await asyncio.sleep(0.2)
                run = await client.run(run.run_id)
        return run.status

    assert with_client(dagster_url, last_run_ends) == "CANCELED"


def test_a_failed_run_tells_its_cause(stage: Stage, bridge_url: str) -> None:
    token = stage.token("unlucky", "demo:broken")

    async def work(client: Client) -> None:
        data = await ask(client, "run_materialization", wait_s=45)
        assert data["status"] == "FAILURE"
        assert data["steps"]["commcare__raw__cases"] == "failed"
        assert "CommCare refused the key." in data["errors"][0]["cause"]

    on_http(bridge_url, token, work)


def test_schemas_go_only_when_confirmed_and_come_back(stage: Stage, bridge_url: str) -> None:
    """What was discovered of the applications, version by version, outlives the schemas."""
    token = stage.token("janitor", "demo:schema")
    weight, age = Question(("weight",), "Weight", "Int"), Question(("age",), "Age", "Int")
    for version, questions in enumerate([(weight,), (Question(("weight",), "Weight", "Double"), age)]):
        form = Form("http://x/visit", {"en": "Visit"}, "Visit", "a", "App", "Module", None, questions)
        structure = Structure(apps=(), case_types=(), forms=(form,)).to_dict()
        stage.catalog.discovered.save(stage.tenants["demo:schema"], structure, f"run-{version}", diff=structure_diff)

    async def work(client: Client) -> None:
        error = await refused(client, "teardown_schema", confirm="yes")
        assert error["code"] == "confirmation_required"
        before = await ask(client, "get_schema_status")
        assert before["state"] == "active"
        found = before["structure"]
        assert (found["version"], found["run_id"]) == (2, "run-1")
        assert found["brought"] == "1 question new, 1 question of another type"
        assert found["changes"] == [
            "Form 'Visit': 1 question new (age); 1 question of another type (weight from Int to Double)."
        ]
        assert [(v["version"], v["brought"]) for v in found["earlier_versions"]] == [(1, "1 form new")]
        assert (await ask(client, "get_metadata"))["structure"]["brought"] == found["brought"]
        loaded = {"wait_s": 45, "idempotency_key": "loaded"}
        first = await ask(client, "run_materialization", **loaded)
        gone = await ask(client, "teardown_schema", confirm="demo:schema")
        assert (gone["state"], gone["dropped"]) == ("absent", True)
        for tool, arguments in (("list_tables", {}), ("query", {"sql": "select 1"}), ("run_materialization", {})):
            assert (await refused(client, tool, **arguments))["code"] == "schema_absent"
        kept = (await ask(client, "get_schema_status"))["structure"]
        assert (kept["version"], kept["changes"]) == (2, found["changes"])
        made = await ask(client, "provision_schema")
        assert (made["state"], made["created"]) == ("active", True)
        assert made["schemas"]["marts"] != before["schemas"]["marts"]
        assert (await ask(client, "provision_schema"))["created"] is False
        assert (await ask(client, "list_tables"))["tables"] == []
        # What the key's run had loaded is gone with the schemas.
        again = await ask(client, "run_materialization", **loaded)
        assert again["launched"]
        assert again["run_id"] != first["run_id"]

    on_http(bridge_url, token, work)
    actions = [(r.entry.action, r.entry.outcome) for r in stage.catalog.audit.read(actor="janitor")]
    assert actions.index(("teardown_schema", "ok")) < actions.index(("teardown_schema", "attempted"))
