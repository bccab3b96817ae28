"""One run per tenant and key with any bridge, also when a bridge dies; and a cancelled call's run is cancelled."""

import asyncio
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import anyio
import pytest
from mcp.client import Client

from explorer.postgres.connections import load_connections
from explorer.tenants import provision_schema, teardown_schema
from mcp_bridge.clients.dagster.client import DagsterClient
from mcp_bridge.clients.dagster.records import Run
from tests.mcp_bridge.clients.test_dagster_client import with_client
from tests.mcp_bridge.proxy import Proxy, proxy
from tests.mcp_bridge.stage import (
    Stage,
    ask,
    bridge_process,
    envelope,
    http_client,
    on_http,
    refused,
    stdio_server,
)

ROUNDS = 2


@dataclass
class Delayed:
    """A bridge whose requests to Dagster go through `between`."""

    between: Proxy
    url: str


@pytest.fixture(scope="module")
def one_delayed(stage: Stage, dagster_url: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Delayed]:
    with proxy(dagster_url) as between:
        folder = tmp_path_factory.mktemp("delayed")
        with bridge_process(stage, folder, EXPLORER_DAGSTER_URL=between.url) as (url, _):
            yield Delayed(between, url)


@pytest.fixture
def delayed(one_delayed: Delayed) -> Iterator[Delayed]:
    yield one_delayed
    one_delayed.between.reset()


async def runs_of(client: DagsterClient, tenant: str) -> list[Run]:
    return await client.runs(partition=tenant, limit=50)


async def idle(client: DagsterClient, tenant: str) -> list[Run]:
    """The tenant's runs, after whatever an earlier test has left at work was stopped."""
    for run in await runs_of(client, tenant):
        if not run.finished:
            await client.stop(run.run_id)
    return await ended(client, tenant)


async def ended(client: DagsterClient, tenant: str) -> list[Run]:
    """The tenant's runs, once all have ended."""
    async with asyncio.timeout(60):
        while True:
            found = await runs_of(client, tenant)
            if all(run.finished for run in found):
                return found
            await asyncio.sleep(0.2)


def test_two_bridges_asked_at_once_launch_one_run(
    stage: Stage, bridge_url: str, dagster_url: str, tmp_path: Path
) -> None:
    """An stdio bridge beside the HTTP one, each asked by its own client in the same moment."""
    token = stage.token("two-doors", "demo:slow-launch")

    async def main() -> None:
        dagster = DagsterClient(dagster_url)
        async with (
            http_client(bridge_url, token) as one,
            Client(stdio_server(stage, EXPLORER_TOKEN=token)) as two,
            dagster,
        ):
            for number in range(ROUNDS):
                before = len(await runs_of(dagster, "demo:slow-launch"))
                asked = [
                    ask(client, "run_materialization", wait_s=0, idempotency_key=f"both-{number}")
                    for client in (one, two, one, two)
                ]
                answers = await asyncio.gather(*asked)
                assert len({answer["run_id"] for answer in answers}) == 1
                assert sorted(answer["launched"] for answer in answers) == [False, False, False, True]
                assert len(await runs_of(dagster, "demo:slow-launch")) == before + 1
                cancelled = await ask(one, "cancel_materialization", run_id=answers[0]["run_id"])
                assert cancelled["cancelled"]
                assert (await ended(dagster, "demo:slow-launch"))[0].status == "CANCELED"

    asyncio.run(main())


def test_many_who_ask_at_once_are_told_of_one_run(stage: Stage, bridge_url: str, dagster_url: str) -> None:
    tokens = [stage.token(f"crowd-{number}", "demo:slow-launch") for number in range(40)]

    async def asked(token: str) -> dict[str, Any]:
        async with http_client(bridge_url, token) as client:
            return await ask(client, "run_materialization", wait_s=0)

    async def main() -> None:
        async with DagsterClient(dagster_url) as dagster:
            before = len(await idle(dagster, "demo:slow-launch"))
            answers = await asyncio.gather(*map(asked, tokens))
            assert len({answer["run_id"] for answer in answers}) == 1
            assert sum(answer["launched"] for answer in answers) == 1
            assert len(await runs_of(dagster, "demo:slow-launch")) == before + 1
            await idle(dagster, "demo:slow-launch")

    asyncio.run(main())


@pytest.mark.parametrize("point", ["before the launch arrives", "after it was taken"])
def test_a_bridge_killed_while_it_launches_leaves_no_second_run_and_blocks_nobody(
    stage: Stage, bridge_url: str, dagster_url: str, tmp_path: Path, point: str
) -> None:
    token = stage.token(f"killed-{point}", "demo:slow-launch")
    arguments: dict[str, Any] = {"wait_s": 0, "idempotency_key": point}

    async def main() -> None:
        async with DagsterClient(dagster_url) as dagster:
            before = len(await idle(dagster, "demo:slow-launch"))
            with (
                proxy(dagster_url) as between,
                bridge_process(stage, tmp_path, EXPLORER_DAGSTER_URL=between.url) as doomed,
            ):
                if point == "before the launch arrives":
                    between.before = between.hold
                else:
                    between.after = between.hold
                url, process = doomed
                # Whatever a killed server looks like to its client.
                with suppress(Exception, BaseExceptionGroup):
                    async with http_client(url, token) as client, anyio.create_task_group() as group:
                        group.start_soon(client.call_tool, "run_materialization", arguments)
                        assert await asyncio.to_thread(between.held.wait, 60)
                        process.kill()
            async with http_client(bridge_url, token) as client:
                answer = await ask(client, "run_materialization", **arguments)
                assert len(await runs_of(dagster, "demo:slow-launch")) == before + 1
                assert answer["launched"] is (point == "before the launch arrives")
                again = await ask(client, "run_materialization", **arguments)
                assert (again["run_id"], again["launched"]) == (answer["run_id"], False)
                await ask(client, "cancel_materialization", run_id=answer["run_id"])
            await ended(dagster, "demo:slow-launch")

    asyncio.run(main())


def test_a_launch_that_arrives_late_is_settled(
    stage: Stage, bridge_url: str, dagster_url: str, delayed: Delayed
) -> None:
    """A bridge that was thought dead goes on: its run is the second of one launch, and is cancelled."""
    token = stage.token("late", "demo:slow-launch")

    async def main() -> None:
        async with DagsterClient(dagster_url) as dagster:
            before = {run.run_id for run in await idle(dagster, "demo:slow-launch")}
            between = delayed.between
            between.before = between.hold
            async with http_client(delayed.url, token) as late, http_client(bridge_url, token) as other:
                waiting = asyncio.create_task(ask(late, "run_materialization", wait_s=0))
                assert await asyncio.to_thread(between.held.wait, 60)
                answer = await ask(other, "run_materialization", wait_s=0)
                assert answer["launched"]
                between.go_on.set()
                told = await waiting
                assert (told["run_id"], told["launched"]) == (answer["run_id"], False)
                made = [run for run in await runs_of(dagster, "demo:slow-launch") if run.run_id not in before]
                assert len({run.tags.launch for run in made}) == 1
                at_work = [run.run_id for run in made if run.status not in ("CANCELED", "CANCELING")]
                assert at_work == [answer["run_id"]]
                await ask(other, "cancel_materialization", run_id=answer["run_id"])
            await ended(dagster, "demo:slow-launch")

    asyncio.run(main())


def test_a_launch_that_dagster_does_not_take_holds_up_nobody(stage: Stage, dagster_url: str, delayed: Delayed) -> None:
    """Dagster goes away in the middle of a launch: the next may try at once, and the first after it is back launches."""
    token = stage.token("outage", "demo:launch")
    arguments: dict[str, Any] = {"wait_s": 0, "idempotency_key": "outage"}
    launches = stage.catalog.launches

    async def main() -> None:
        async with DagsterClient(dagster_url) as dagster:
            before = len(await ended(dagster, "demo:launch"))
            between = delayed.between
            between.before = between.close_at_launch
            async with http_client(delayed.url, token) as client:
                for _ in range(3):
                    error = await refused(client, "run_materialization", **arguments)
                    assert error["code"] == "dagster_unavailable"
                    claim = launches.claim(stage.tenants["demo:launch"], "test", None, None, 60.0)
                    assert claim is not None
                    assert claim.taken_over
                    launches.leave(claim)
                between.reset()
                assert (await ask(client, "run_materialization", **arguments))["launched"]
            assert len(await ended(dagster, "demo:launch")) == before + 1

    asyncio.run(main())


def test_a_launch_that_the_catalog_was_not_told_of_is_found(stage: Stage, dagster_url: str, delayed: Delayed) -> None:
    """The database is away when Dagster has taken a launch: the key stands for its run all the same."""
    token = stage.token("untold", "demo:launch")
    tenant = stage.tenants["demo:launch"]
    lock = "LOCK TABLE catalog.launches IN ACCESS EXCLUSIVE MODE"

    async def main() -> None:
        async with DagsterClient(dagster_url) as dagster:
            before = len(await ended(dagster, "demo:launch"))
            between = delayed.between
            between.after = between.hold
            async with http_client(delayed.url, token) as client:
                waiting = asyncio.create_task(
                    client.call_tool("run_materialization", {"wait_s": 0, "idempotency_key": "untold"})
                )
                assert await asyncio.to_thread(between.held.wait, 60)
                with load_connections(stage.settings).admin.connect() as admin:
                    admin.execute(lock)
                    between.go_on.set()
                    assert envelope(await waiting)["error"]["code"] == "database_unavailable"
                await ended(dagster, "demo:launch")
                found = await ask(client, "run_materialization", wait_s=0, idempotency_key="untold")
                assert not found["launched"]
            assert [run.run_id for run in (await ended(dagster, "demo:launch"))[: -before or None]] == [found["run_id"]]

    asyncio.run(main())
    assert stage.catalog.launches.run_of(tenant, "untold")


def test_nothing_is_launched_into_schemas_that_went_meanwhile(stage: Stage, bridge_url: str, dagster_url: str) -> None:
    tenant = stage.tenants["demo:schema"]
    token = stage.token("meanwhile", "demo:schema")
    own = stage.settings, stage.catalog, load_connections(stage.settings), tenant

    async def main() -> None:
        async with DagsterClient(dagster_url) as dagster, http_client(bridge_url, token) as client:
            before = len(await ended(dagster, "demo:schema"))
            claim = stage.catalog.launches.claim(tenant, "janitor", None, None, 60.0)
            assert claim is not None
            waiting = asyncio.create_task(refused(client, "run_materialization", wait_s=0))
            await asyncio.sleep(1.0)
            await asyncio.to_thread(teardown_schema, *own)
            stage.catalog.launches.release(claim)
            assert (await waiting)["code"] == "schema_absent"
            assert len(await runs_of(dagster, "demo:schema")) == before
            await asyncio.to_thread(provision_schema, *own)

            # One run of the day was, and no more may be.
            stage.catalog.quotas.set(tenant, {"runs": 1}, actor="test")
            stage.catalog.quotas.take_run(tenant)
            try:
                error = await refused(client, "run_materialization", wait_s=0)
                told = (await ask(client, "get_schema_status"))["quota"]
            finally:
                stage.catalog.quotas.set(tenant, {"runs": None}, actor="test")
            assert (error["code"], error["details"]["exhausted"]) == ("quota_exhausted", "runs")
            assert error["details"]["retry_after_s"] > 80_000
            assert (told["runs"]["per_day"], told["exhausted"]) == (1, "runs")
            assert told["runs"]["used"] >= 1
            assert told["again_at"].endswith("Z")
            assert "quota" not in await ask(client, "get_schema_status")

    asyncio.run(main())


def test_runs_launched_elsewhere_count_and_what_they_ignore_is_said(
    stage: Stage, bridge_url: str, dagster_url: str
) -> None:
    token = stage.token("elsewhere", "demo:slow-launch")

    async def main() -> None:
        async with DagsterClient(dagster_url) as dagster, http_client(bridge_url, token) as client:
            await idle(dagster, "demo:slow-launch")
            scheduled = await dagster.launch("commcare_sync", "demo:slow-launch")
            result = await client.call_tool(
                "run_materialization", {"wait_s": 0, "full_refresh": True, "assets": ["raw/cases"]}
            )
            content = envelope(result)
            assert (content["data"]["run_id"], content["data"]["launched"]) == (scheduled.run_id, False)
            assert any("Ignored: full_refresh and assets" in warning for warning in content["warnings"])
            plain = envelope(await client.call_tool("run_materialization", {"wait_s": 0}))
            assert not any("gnored" in warning for warning in plain["warnings"])
            await ask(client, "cancel_materialization", run_id=scheduled.run_id)
            await ended(dagster, "demo:slow-launch")

            part = await ask(client, "run_materialization", wait_s=0, assets=["raw/cases"])
            content = envelope(await client.call_tool("run_materialization", {"wait_s": 0}))
            assert content["data"]["run_id"] == part["run_id"]
            assert any("of these assets only: raw/cases" in warning for warning in content["warnings"])
            await ask(client, "cancel_materialization", run_id=part["run_id"], force=True)
            await ended(dagster, "demo:slow-launch")

    asyncio.run(main())


def test_a_key_guards_what_is_active_or_succeeded_and_nothing_else(
    stage: Stage, bridge_url: str, dagster_url: str
) -> None:
    token = stage.token("keys", "demo:slow-cancel", "demo:launch", "demo:broken")

    async def work(client: Client) -> None:
        slow = {"tenant": "demo:slow-cancel", "idempotency_key": "again"}
        first = await ask(client, "run_materialization", **slow, wait_s=0)
        error = await refused(client, "run_materialization", **slow, wait_s=0, full_refresh=True)
        assert (error["code"], error["details"]["other"]) == ("idempotency_key_reused", ["full_refresh"])
        await ask(client, "cancel_materialization", run_id=first["run_id"])
        second = envelope(await client.call_tool("run_materialization", {**slow, "wait_s": 0}))
        assert second["data"]["launched"]
        assert second["data"]["run_id"] != first["run_id"]
        assert any(first["run_id"] in warning and "cancelled" in warning for warning in second["warnings"])
        await ask(client, "cancel_materialization", run_id=second["data"]["run_id"])

        unlucky = {"tenant": "demo:broken", "idempotency_key": "again", "wait_s": 45}
        failed = await ask(client, "run_materialization", **unlucky)
        assert failed["status"] == "FAILURE"
        retried = envelope(await client.call_tool("run_materialization", unlucky))
        assert retried["data"]["launched"]
        assert retried["data"]["run_id"] != failed["run_id"]
        assert any(f"Run {failed['run_id']} of this idempotency_key failed" in w for w in retried["warnings"])

        good = {"tenant": "demo:launch", "idempotency_key": "again", "wait_s": 45}
        done = await ask(client, "run_materialization", **good)
        assert done["status"] == "SUCCESS"
        kept = await ask(client, "run_materialization", **good)
        assert (kept["run_id"], kept["launched"], kept["already_running"]) == (done["run_id"], False, False)
        error = await refused(client, "run_materialization", **good, assets=["raw/cases"])
        assert (error["code"], error["details"]["run_id"]) == ("idempotency_key_reused", done["run_id"])

    on_http(bridge_url, token, work)
    with_client(dagster_url, lambda client: ended(client, "demo:slow-cancel"))


@pytest.mark.parametrize("delay_s", [0.0, 0.4, 0.8, 1.5])
def test_a_call_cancelled_at_any_time_after_the_launch_stops_its_run(
    stage: Stage, bridge_url: str, dagster_url: str, delay_s: float
) -> None:
    token = stage.token(f"cancelled-{delay_s}", "demo:slow-cancel")

    async def main() -> None:
        async with DagsterClient(dagster_url) as dagster:
            before = len(await idle(dagster, "demo:slow-cancel"))
            async with http_client(bridge_url, token) as client, anyio.create_task_group() as group:
                group.start_soon(client.call_tool, "run_materialization", {"wait_s": 45})
                async with asyncio.timeout(60):
                    while len(await runs_of(dagster, "demo:slow-cancel")) == before:
                        await asyncio.sleep(0.02)
                await asyncio.sleep(delay_s)
                group.cancel_scope.cancel()
            run = (await ended(dagster, "demo:slow-cancel"))[0]
            assert run.status == "CANCELED"
            # A worker that comes up late must find that there is nothing to do.
            await asyncio.sleep(1.0)
            events = await dagster.events(run.run_id)
            started = [event.step_key for event in events if event.kind == "ExecutionStepStartEvent"]
            assert "commcare__marts__cases" not in started
            assert (await dagster.run(run.run_id)).status == "CANCELED"

    asyncio.run(main())


def test_what_a_cancel_did_is_said_in_words(stage: Stage, bridge_url: str, dagster_url: str) -> None:
    token = stage.token("words", "demo:slow-cancel", "demo:launch")

    async def work(client: Client) -> None:
        done = await ask(client, "run_materialization", tenant="demo:launch", wait_s=45)
        told = await ask(client, "cancel_materialization", run_id=done["run_id"])
        assert (told["cancelled"], told["message"]) == (False, "Nothing to cancel: the run had succeeded already.")
        run = await ask(client, "run_materialization", tenant="demo:slow-cancel", wait_s=0)
        async with asyncio.timeout(60):
            while (
                "running"
                not in (await ask(client, "get_materialization_status", run_id=run["run_id"]))["steps"].values()
            ):
                await asyncio.sleep(0.1)
        told = await ask(client, "cancel_materialization", run_id=run["run_id"])
        assert told["cancelled"]
        assert told["status"] in ("CANCELING", "CANCELED")
        once_more = await ask(client, "cancel_materialization", run_id=run["run_id"])
        assert "already" in once_more["message"]
        after = await ask(client, "get_materialization_status", run_id=run["run_id"], wait_s=45)
        assert after["status"] == "CANCELED"
        assert after["steps"]["commcare__raw__cases"] == "canceled"
        assert after["errors"] == []
        told = await ask(client, "cancel_materialization", run_id=run["run_id"])
        assert (told["cancelled"], told["message"]) == (False, "Nothing to cancel: the run had been cancelled already.")

    on_http(bridge_url, token, work)
