"""The GraphQL client against a real Dagster webserver."""

import asyncio
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from typing import Any, TypeVar

import pytest

from explorer.contract.observations import LoadProgress
from explorer.contract.tags import RunTags
from explorer.core.ports import free_port
from explorer.core.settings import Settings
from mcp_bridge.clients.dagster.client import DagsterClient
from mcp_bridge.clients.dagster.errors import DagsterUnavailable, LaunchRefused, UnknownRun
from mcp_bridge.clients.dagster.reading import unhealthy_daemons
from mcp_bridge.clients.dagster.records import Run, RunEvent

JOB = "commcare_sync"
T = TypeVar("T")


def with_client(url: str, work: Callable[[DagsterClient], Awaitable[T]]) -> T:
    async def main() -> T:
        async with DagsterClient(url) as client:
            return await work(client)

    return asyncio.run(main())


async def finish(client: DagsterClient, run_id: str) -> Run:
    async for _ in client.follow(run_id):
        pass
    return await client.run(run_id)


def test_a_run_is_launched_followed_and_its_results_read(dagster_url: str) -> None:
    async def work(client: DagsterClient) -> None:
        assert await client.add_partition("demo:client")
        assert not await client.add_partition("demo:client")
        run = await client.launch(JOB, "demo:client", tags=RunTags(idempotency_key="k1"))
        async with client.watch(run.run_id) as first, client.watch(run.run_id) as second:
            seen: list[list[str]] = [[], []]
            while not (first.done and second.done):
                for kinds, watch in zip(seen, (first, second), strict=True):
                    kinds += [event.kind for event in await watch.events(timeout_s=30)]
        assert seen[0] == seen[1]
        assert seen[0].count("MaterializationEvent") == 4
        assert seen[0][-1] in ("RunSuccessEvent", "EngineEvent")
        run = await client.run(run.run_id)
        assert (run.status, run.tenant, run.job) == ("SUCCESS", "demo:client", JOB)
        assert run.duration_s is not None
        assert run.duration_s > 0

        events = await client.events(run.run_id)
        assert [
            LoadProgress.from_metadata(event.metadata).rows for event in events if event.kind == "ObservationEvent"
        ] == [2, 3]
        checks = {event.check.name: event.check.passed for event in events if event.check}
        of_cases = {"unique_case_id": True, "owner_known": False}
        assert checks == of_cases | {"primary_keys": False, "accepted_values": False}

        assets = {asset.key: asset for asset in await client.assets(JOB, "demo:client")}
        cases = assets[("commcare", "marts", "cases")]
        assert cases.run_id == run.run_id
        assert cases.metadata.row_count == 3
        assert cases.upstream == (("commcare", "raw", "cases"),)
        assert assets[("commcare", "raw", "cases")].downstream == (("commcare", "marts", "cases"),)
        assert assets[("commcare", "marts", "case_tables")].metadata.tables[0].name == "case_child"
        other = {asset.key: asset for asset in await client.assets(JOB, "demo:never")}
        assert other[("commcare", "marts", "cases")].materialized_at is None

        assert [found.run_id for found in await client.runs(tags=RunTags(idempotency_key="k1"))] == [run.run_id]
        assert await client.runs(partition="demo:never") == []
        assert await client.active_run("demo:client") is None

    with_client(dagster_url, work)


def test_a_failed_run_tells_its_cause(dagster_url: str) -> None:
    async def work(client: DagsterClient) -> None:
        await client.add_partition("demo:broken")
        run = await client.launch(JOB, "demo:broken")
        assert (await finish(client, run.run_id)).status == "FAILURE"
        errors = [event.error for event in await client.events(run.run_id) if event.kind == "ExecutionStepFailureEvent"]
        assert len(errors) == 1
        assert "CommCare refused the key." in str(errors[0])

    with_client(dagster_url, work)


def test_a_running_run_is_cancelled_and_an_ended_one_is_not(dagster_url: str) -> None:
    async def work(client: DagsterClient) -> None:
        await client.add_partition("demo:slow")
        run = await client.launch(JOB, "demo:slow")
        async for event in client.follow(run.run_id):
            if event.kind == "ObservationEvent":
                break
        active = await client.active_run("demo:slow", JOB)
        assert active is not None
        assert active.run_id == run.run_id
        await client.stop(run.run_id)
        assert (await finish(client, run.run_id)).status == "CANCELED"
        assert (await client.stop(run.run_id)).status == "CANCELED"
        assert (await client.stop(run.run_id, force=True)).ended_at is not None

    with_client(dagster_url, work)


def test_unknown_runs_jobs_and_assets_are_named_errors(dagster_url: str) -> None:
    unknown = "00000000-0000-0000-0000-000000000000"

    async def work(client: DagsterClient) -> None:
        with pytest.raises(UnknownRun):
            await client.run(unknown)
        with pytest.raises(UnknownRun):
            await client.stop(unknown)
        with pytest.raises(UnknownRun):
            await finish(client, unknown)
        with pytest.raises(LaunchRefused):
            await client.launch("no_such_job", "demo:client")
        with pytest.raises(LaunchRefused):
            await client.launch(JOB, "demo:client", assets=[["no", "such", "asset"]])

    with_client(dagster_url, work)


def test_health_says_that_the_code_is_loaded(dagster_url: str) -> None:
    health = with_client(dagster_url, lambda client: client.health())
    assert health.code_loaded
    assert health.version.startswith("1.")


def test_a_daemon_that_hangs_is_not_called_healthy() -> None:
    now = 1_800_000_000.0

    def daemon(name: str, age_s: float | None, *, required: bool = True, healthy: bool = True) -> dict[str, Any]:
        at = None if age_s is None else now - age_s
        return {"daemonType": name, "required": required, "healthy": healthy, "lastHeartbeatTime": at}

    rows = [
        daemon("SCHEDULER", 40.0), daemon("QUEUED_RUN_COORDINATOR", 150.0), daemon("SENSOR", 10.0, healthy=False),
        daemon("BACKFILL", 900.0, required=False), daemon("MONITORING", None), daemon("ASSET", -7200.0),
    ]  # fmt: skip
    assert unhealthy_daemons(rows, now) == ("QUEUED_RUN_COORDINATOR", "SENSOR", "MONITORING", "ASSET")


def test_a_runs_page_is_named_as_browsers_reach_it() -> None:
    assert DagsterClient("http://webserver:3000").run_url("r") == "http://webserver:3000/runs/r"
    settings = Settings(_env_file=None, dagster_url="http://webserver:3000", ui_url="https://runs.example.org")
    assert DagsterClient.from_settings(settings).run_url("r") == "https://runs.example.org/runs/r"


def test_no_dagster_is_a_named_error_and_a_moved_one_is_found(dagster_url: str) -> None:
    dead = f"http://127.0.0.1:{free_port()}"
    with pytest.raises(DagsterUnavailable):
        with_client(dead, lambda client: client.health())

    async def moved() -> bool:
        addresses = iter([dead, dagster_url, dagster_url])
        async with DagsterClient(lambda: next(addresses)) as client:
            return (await client.health()).code_loaded

    assert asyncio.run(moved())


class Scripted(DagsterClient):
    """A Dagster whose answers to one question after the other are these."""

    def __init__(self, *answers: tuple[str, list[str], bool]) -> None:
        self.answers = list(answers)

    async def _poll(
        self, run_id: str, cursor: str | None, document: str = "log"
    ) -> tuple[Run, list[RunEvent], str | None, bool]:
        status, kinds, more = self.answers.pop(0)
        run = Run(run_id, JOB, status, RunTags(), None, None, None)  # type: ignore[arg-type]
        return run, [RunEvent(kind, datetime.now(UTC), "", "INFO") for kind in kinds], "next", more


@pytest.mark.parametrize(
    "answers",
    [
        # The log was read before the run's state: what came in between is on the next page.
        [("SUCCESS", [], False), ("SUCCESS", ["MaterializationEvent", "RunSuccessEvent"], False)],
        [("STARTED", [], True), ("SUCCESS", ["MaterializationEvent", "RunSuccessEvent"], False)],
        # Of a run whose last event was deleted no more is asked than once.
        [("FAILURE", ["MaterializationEvent"], False), ("FAILURE", [], False)],
    ],
)
def test_the_results_of_a_run_that_has_ended_are_whole(answers: list[tuple[str, list[str], bool]]) -> None:
    client = Scripted(*answers)
    run, events = asyncio.run(client.results("r"))
    assert run.finished
    assert "MaterializationEvent" in [event.kind for event in events]
    assert client.answers == []


class Closing:
    """A webserver that closes each connection on its second request, without an answer; it counts what it gets."""

    def __init__(self) -> None:
        self.requests = 0

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        for number in range(2):
            head = await reader.readuntil(b"\r\n\r\n")
            lengths = (line for line in head.lower().splitlines() if line.startswith(b"content-length:"))
            length = int(next(lengths).split(b":")[1])
            await reader.readexactly(length)
            self.requests += 1
            if number == 0:
                body = b'{"data": {"runsOrError": {"__typename": "Runs", "results": []}}}'
                writer.write(
                    b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n" % len(body)
                )
                writer.write(body)
                await writer.drain()
        writer.close()


def test_a_connection_that_is_closed_meanwhile_fails_no_question_and_repeats_no_change() -> None:
    closing = Closing()

    async def main() -> None:
        server = await asyncio.start_server(closing.serve, "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        async with server, DagsterClient(f"http://127.0.0.1:{port}") as client:
            assert [await client.runs(), await client.runs()] == [[], []]
            assert closing.requests == 3
            with pytest.raises(DagsterUnavailable):
                await client.add_partition("demo:client")
            assert closing.requests == 4

    asyncio.run(main())


def test_what_dagster_fails_to_tell_is_not_called_unknown(monkeypatch: pytest.MonkeyPatch) -> None:
    """A fault of Dagster while it reads a run or its log: the run may well be there."""
    run = {"__typename": "Run", "runId": "r", "jobName": JOB, "status": "STARTED", "tags": []}
    fault = {"__typename": "PythonError", "message": "database is locked"}
    answers = iter([{"runOrError": fault}, {"runOrError": run, "logsForRun": fault}])

    async def post(*_: object, **__: object) -> dict[str, object]:
        return next(answers)

    async def work(client: DagsterClient) -> None:
        monkeypatch.setattr(client._transport, "query", post)
        with pytest.raises(DagsterUnavailable):
            await client.run("r")
        with pytest.raises(DagsterUnavailable):
            await client.events("r")

    with_client("http://127.0.0.1:9", work)
