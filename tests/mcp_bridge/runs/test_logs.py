"""Logs of runs, page by page: nothing twice, nothing left out, of one's own tenants only, and without secrets."""

import asyncio
from typing import Any

import pytest
from mcp.client import Client

from mcp_bridge.clients.dagster.client import DagsterClient
from mcp_bridge.clients.dagster.records import RunEvent
from mcp_bridge.runs.logs import redacted
from tests.mcp_bridge.clients.test_dagster_client import with_client
from tests.mcp_bridge.stage import Stage, ask, http_client, on_http, refused

KEY, SLOW = "demo:logged", "demo:slow-logged"


async def pages(client: Client, **arguments: Any) -> list[list[dict[str, Any]]]:
    """All pages of a log."""
    found, cursor = [], None
    while True:
        page = await ask(client, "get_run_logs", **arguments, **({"cursor": cursor} if cursor else {}))
        found.append(page["entries"])
        cursor = page["next_cursor"]
        if cursor is None:
            return found


def test_pages_give_the_whole_log_once(stage: Stage, bridge_url: str, dagster_url: str) -> None:
    async def work(client: Client) -> tuple[str, list[list[dict[str, Any]]], list[list[dict[str, Any]]]]:
        run = await ask(client, "run_materialization", wait_s=45)
        assert run["status"] == "SUCCESS"
        run_id = run["run_id"]
        by_seven = await pages(client, run_id=run_id, level="debug", limit=7)
        return run_id, by_seven, await pages(client, run_id=run_id)

    token = stage.token("reader-of-logs", KEY)
    run_id, by_seven, told = on_http(bridge_url, token, work)

    async def whole(dagster: DagsterClient) -> list[RunEvent]:
        return await dagster.events(run_id)

    events = with_client(dagster_url, whole)
    assert {len(page) for page in by_seven[:-1]} == {7}
    entries = [entry for page in by_seven for entry in page]
    assert [entry.get("step") for entry in entries] == [event.step_key for event in events]
    assert {entry["level"] for page in told for entry in page} == {"info"}
    said = [entry["message"] for page in told for entry in page]
    assert "Asked with Authorization: ApiKey ***" in said
    assert "0123456789abcdef" not in str(by_seven)

    async def other(client: Client) -> dict[str, Any]:
        return await refused(client, "get_run_logs", run_id=run_id)

    assert on_http(bridge_url, stage.token("stranger-to-logs", "demo:second"), other)["code"] == "unknown_run"

    async def forged(client: Client) -> dict[str, Any]:
        return await refused(client, "get_run_logs", run_id=run_id, cursor="5 abc")

    assert on_http(bridge_url, token, forged)["code"] == "invalid_cursor"


def test_errors_alone_tell_the_cause(stage: Stage, bridge_url: str) -> None:
    async def work(client: Client) -> list[list[dict[str, Any]]]:
        run = await ask(client, "run_materialization", wait_s=45)
        assert run["status"] == "FAILURE"
        return await pages(client, run_id=run["run_id"], level="error")

    [entries] = on_http(bridge_url, stage.token("reader-of-errors", "demo:broken"), work)
    assert {entry["level"] for entry in entries} == {"error"}
    assert "CommCare refused the key." in [entry.get("cause") for entry in entries]


def test_the_log_of_a_run_at_work_goes_on(stage: Stage, bridge_url: str) -> None:
    async def main() -> None:
        async with http_client(bridge_url, stage.token("watcher-of-logs", SLOW)) as client:
            run_id = (await ask(client, "run_materialization", wait_s=3))["run_id"]
            arguments = {"run_id": run_id, "level": "debug", "limit": 200}
            first = await ask(client, "get_run_logs", **arguments)
            assert first["next_cursor"]
            await ask(client, "cancel_materialization", run_id=run_id)
            async with asyncio.timeout(60):
                while not (await ask(client, "get_materialization_status", run_id=run_id, wait_s=5))["finished"]:
                    pass
            rest, cursor = [], first["next_cursor"]
            while cursor:
                page = await ask(client, "get_run_logs", **arguments, cursor=cursor)
                rest, cursor = [*rest, *page["entries"]], page["next_cursor"]
            whole = [entry for page in await pages(client, **arguments) for entry in page]
            assert [*first["entries"], *rest] == whole
            assert len(rest) > 0

    asyncio.run(main())


@pytest.mark.parametrize(
    ("said", "shown"),
    [
        ("Connecting to postgresql+psycopg://rw:geheim@db:5432/explorer now", "Connecting to postgresql://*** now"),
        (
            "GET https://user:geheim@www.example.org/a/d/api/case/v2/",
            "GET https://***@www.example.org/a/d/api/case/v2/",
        ),
        ("Authorization: ApiKey me@example.org:geheim", "Authorization: ApiKey ***"),
        ("authorization='Bearer geheim'", "authorization='Bearer ***'"),
        ("{'password': 'geheim', 'user': 'me'}", "{'password': '***', 'user': 'me'}"),
        ("client_secret=geheim&grant_type=refresh_token", "client_secret=***&grant_type=refresh_token"),
        ("The file /home/me/.explorer/secret.keys is missing", "The file <path> is missing"),
        ('It failed.\n\nTraceback (most recent call last):\n  File "x.py", line 1', "It failed."),
        ("raw/cases: 2 of 3 rows, 5 requests/s", "raw/cases: 2 of 3 rows, 5 requests/s"),
        ("Read tokens of 3 pages: 12 new", "Read tokens of 3 pages: 12 new"),
    ],
)
def test_secrets_and_paths_are_left_out(said: str, shown: str) -> None:
    assert redacted(said) == shown
