"""Runs that are cancelled or killed in the middle: old data stay, no process remains, the next run repairs everything."""

import asyncio
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import anyio
import psycopg
import pytest
from mcp.client import Client

from demo_commcare import MATERNAL
from explorer.core.processes import WorkerIdentity
from tests.e2e.stack import ACTIVE, MOTHERS, Stack, call

COUNT = "select count(*) from cases"


@pytest.fixture(scope="module")
def once_synced(stack: Stack) -> Stack:
    assert stack.sync(MOTHERS)["status"] == "SUCCESS"
    return stack


@pytest.fixture
def synced(once_synced: Stack) -> Iterator[Stack]:
    """The first tenant, equal to the server before the test and again at its end, after another run if its last one failed."""
    stack = once_synced
    yield stack
    stack.demo.control.set_latency(0)
    stack.demo.control.clear_faults()
    [last] = stack.call("list_runs", tenant=MOTHERS, limit=1)["data"]["runs"]
    if last["status"] != "SUCCESS":
        assert stack.sync(MOTHERS)["status"] == "SUCCESS"
    assert stack.rows(MOTHERS, COUNT) == [[len(stack.demo.truth(MATERNAL).cases)]]


def until(condition: Callable[[], Any], what: str, deadline_s: float = 60) -> Any:
    end = time.monotonic() + deadline_s
    while not (value := condition()):
        assert time.monotonic() < end, f"waited in vain for: {what}"
        # Most conditions are asked for through the bridge, which costs the run that is waited for.
        time.sleep(0.4)
    return value


def worker_pid(stack: Stack, run_id: str) -> int | None:
    """The process that executes a run, found by its arguments."""
    query = '{ runOrError(runId: "%s") { ... on Run { tags { key value } status } } }' % run_id  # noqa: UP031
    tags = {tag["key"]: tag["value"] for tag in stack.graphql(query)["runOrError"]["tags"]}
    identity = tags.get(".explorer/worker")
    return WorkerIdentity.parse(identity).process.pid if identity else None


def backends(stack: Stack) -> list[str]:
    """The running queries of the tenants' writing logins."""
    with stack.admin() as connection:
        found = connection.execute(
            "select query from pg_stat_activity where usename ~ '^t_.*_rw$' and state <> 'idle'"
        ).fetchall()
    return [row[0] for row in found]


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] not in "ZX"
    except FileNotFoundError:
        return False


def launch(stack: Stack, **arguments: Any) -> str:
    answer = stack.call("run_materialization", tenant=MOTHERS, wait_s=0, **arguments)
    assert answer["success"], answer
    return str(answer["data"]["run_id"])


def mart_lock(stack: Stack, mode: str) -> "psycopg.Connection[Any]":
    """Hold a lock on the tenants' table `cases`: as a reader (`access share`), for which dbt must wait before it swaps the table,
    or with `share`, for which writers wait."""
    connection = stack.admin()
    connection.autocommit = False
    tables = "select schemaname from pg_tables where tablename = 'cases' and schemaname ~ '_marts$'"
    for (schema,) in connection.execute(tables).fetchall():
        connection.execute(f'lock table "{schema}".cases in {mode} mode')
    return connection


def status(stack: Stack, run_id: str) -> str:
    answer = stack.call("get_materialization_status", tenant=MOTHERS, run_id=run_id)
    assert answer["success"], answer
    return str(answer["data"]["status"])


def test_a_load_is_not_launched_twice_and_when_cancelled_stops_and_leaves_the_old_data(synced: Stack) -> None:
    before = synced.rows(MOTHERS, COUNT)
    synced.demo.control.set_latency(1.5)
    run_id = launch(synced, full_refresh=True)
    pid = until(lambda: worker_pid(synced, run_id), "a worker")
    until(lambda: status(synced, run_id) == "STARTED", "the run to start")
    assert launch(synced, full_refresh=True) == run_id
    answer = synced.call("cancel_materialization", tenant=MOTHERS, run_id=run_id)
    assert answer["success"], answer
    until(lambda: status(synced, run_id) == "CANCELED", "the run to be cancelled")
    until(lambda: not alive(pid), "the worker to end")
    assert backends(synced) == []
    assert synced.rows(MOTHERS, COUNT) == before


def test_a_cancelled_call_stops_its_run_in_the_queue_while_its_worker_comes_up_and_at_work(synced: Stack) -> None:
    synced.demo.control.set_latency(1.5)

    async def newest(client: Client) -> str:
        return str((await call(client, "list_runs", tenant=MOTHERS, limit=1))["data"]["runs"][0]["run_id"])

    async def launched_and_cancelled(delay_s: float) -> str:
        async with synced.http() as onlooker, synced.http() as client, anyio.create_task_group() as group:
            before = run_id = await newest(onlooker)
            arguments = {"tenant": MOTHERS, "wait_s": 45, "full_refresh": True}
            group.start_soon(client.call_tool, "run_materialization", arguments)
            async with asyncio.timeout(60):
                while run_id == before:
                    run_id = await newest(onlooker)
            await asyncio.sleep(delay_s)
            group.cancel_scope.cancel()
        return run_id

    for delay_s in (0.0, 0.5, 1.5):
        run_id = asyncio.run(launched_and_cancelled(delay_s))
        until(lambda run_id=run_id: status(synced, run_id) == "CANCELED", "the run to be cancelled")
        time.sleep(1)
        told = synced.call("get_materialization_status", tenant=MOTHERS, run_id=run_id)["data"]
        assert told["status"] == "CANCELED"
        assert not any("marts" in step for step in told["steps"]), delay_s
        assert set(told["steps"].values()) <= {"succeeded", "canceled"}, delay_s
        pid = worker_pid(synced, run_id)
        until(lambda pid=pid: pid is None or not alive(pid), "the worker to end")


def test_a_worker_killed_while_loading_is_noticed_and_the_next_run_heals(synced: Stack) -> None:
    before = synced.rows(MOTHERS, COUNT)
    case = next(case for case in synced.demo.truth(MATERNAL).cases if not case["closed"])
    synced.demo.control.update_case(MATERNAL, case["case_id"], {"note_after_kill": "kept"})
    synced.demo.control.set_latency(1.0)
    run_id = launch(synced)
    pid = until(lambda: worker_pid(synced, run_id), "a worker")
    until(lambda: status(synced, run_id) == "STARTED", "the run to start")
    os.kill(pid, signal.SIGKILL)
    until(lambda: status(synced, run_id) == "FAILURE", "the death to be noticed")
    assert synced.rows(MOTHERS, COUNT) == before
    synced.demo.control.set_latency(0)
    assert synced.sync(MOTHERS)["status"] == "SUCCESS"
    sql = f"select properties ->> 'note_after_kill' from cases where case_id = '{case['case_id']}'"
    assert synced.rows(MOTHERS, sql) == [["kept"]]


@pytest.mark.parametrize("full_refresh", [True, False], ids=["dbt", "changes"])
@pytest.mark.parametrize("end", ["cancel", "kill"])
def test_a_run_ended_inside_its_transform_leaves_no_query_and_the_old_tables(
    synced: Stack, end: str, full_refresh: bool
) -> None:
    """A full refresh builds tables by dbt, an ordinary one writes what changed into them."""
    before = synced.rows(MOTHERS, COUNT)
    case = next(case for case in synced.demo.truth(MATERNAL).cases if not case["closed"])
    note = f"select properties ->> 'note_meanwhile' from cases where case_id = '{case['case_id']}'"
    [[old]] = synced.rows(MOTHERS, note)
    synced.demo.control.update_case(MATERNAL, case["case_id"], {"note_meanwhile": f"{end} {full_refresh}"})
    with mart_lock(synced, "access share" if full_refresh else "share"):
        run_id = launch(synced, full_refresh=full_refresh)
        waiting = "select count(*) from pg_stat_activity where usename ~ '^t_.*_rw$' and wait_event_type = 'Lock'"

        def it_waits() -> bool:
            with synced.admin() as connection:
                row = connection.execute(waiting).fetchone()
            return bool(row and row[0])

        until(it_waits, "the transform to wait for the lock")
        pid = until(lambda: worker_pid(synced, run_id), "a worker")
        if end == "cancel":
            assert synced.call("cancel_materialization", tenant=MOTHERS, run_id=run_id)["success"]
        else:
            os.kill(pid, signal.SIGKILL)
        until(lambda: status(synced, run_id) not in ACTIVE, "the run to end")
        until(lambda: not backends(synced), "the queries to end", 15)
        assert not alive(pid)
    assert status(synced, run_id) == ("CANCELED" if end == "cancel" else "FAILURE")
    assert synced.rows(MOTHERS, COUNT) == before
    assert synced.rows(MOTHERS, note) == [[old]]
    assert synced.sync(MOTHERS)["status"] == "SUCCESS"
    assert synced.rows(MOTHERS, note) == [[f"{end} {full_refresh}"]]


def test_a_sync_waits_for_a_command_of_dbt(synced: Stack) -> None:
    """The command is kept from its rows by a lock on a table that it reads, until the run says what it waits for."""
    case = next(case for case in synced.demo.truth(MATERNAL).cases if not case["closed"])
    synced.demo.control.update_case(MATERNAL, case["case_id"], {"note_behind_dbt": "kept"})
    command = [sys.executable, "-m", "explorer_cli", "dbt", MOTHERS, "--", "build", "--select", "case_life"]
    with mart_lock(synced, "access exclusive"):
        dbt = subprocess.Popen(command, env=synced.env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        try:
            until(lambda: any("case_life" in query for query in backends(synced)), "dbt to read the table", 150)
            run_id = launch(synced)
            waits = f"are being changed by explorer dbt, process {dbt.pid}: this waits"
            until(lambda: any(waits in line for line in messages(synced, run_id)), "the run to wait for dbt", 150)
            assert status(synced, run_id) == "STARTED"
        except BaseException:
            dbt.kill()
            raise
    said, _ = dbt.communicate(timeout=150)
    assert dbt.returncode == 0, said
    assert synced.finished(run_id, MOTHERS)["status"] == "SUCCESS"
    note = f"select properties ->> 'note_behind_dbt' from cases where case_id = '{case['case_id']}'"
    assert synced.rows(MOTHERS, note) == [["kept"]]


def messages(stack: Stack, run_id: str) -> list[str]:
    """The log of a run."""
    of_events = "... on EventConnection { events { ... on MessageEvent { message } } }"
    query = f"query ($run: ID!) {{ logsForRun(runId: $run) {{ {of_events} }} }}"
    return [event["message"] for event in stack.graphql(query, run=run_id)["logsForRun"]["events"]]


def test_readers_see_whole_tables_during_a_full_refresh(synced: Stack) -> None:
    expected = synced.rows(MOTHERS, "select count(*), count(distinct case_id) from cases")
    run_id = launch(synced, full_refresh=True)
    seen = []
    while status(synced, run_id) in ACTIVE:
        seen.append(synced.rows(MOTHERS, "select count(*), count(distinct case_id) from cases"))
    assert status(synced, run_id) == "SUCCESS"
    assert seen
    assert all(rows == expected for rows in seen), seen


def test_a_postgres_that_was_killed_comes_back_with_everything(synced: Stack) -> None:
    before = synced.rows(MOTHERS, COUNT)
    record = json.loads((synced.home / "connection.json").read_text())
    [postmaster] = synced.home.rglob("postmaster.pid")
    pid = int(postmaster.read_text().splitlines()[0])
    os.kill(pid, signal.SIGKILL)

    def answers() -> bool:
        try:
            return synced.rows(MOTHERS, COUNT) == before
        except (
            AssertionError,
            BaseExceptionGroup,
        ):  # the bridge cannot read tokens meanwhile and answers with an HTTP error
            return False

    until(answers, "the database to be started again", 90)
    assert json.loads((synced.home / "connection.json").read_text())["port"] == record["port"]
    assert synced.sync(MOTHERS)["status"] == "SUCCESS"


@pytest.mark.parametrize(("path", "resource"), [("case/v2", "cases"), ("application", "app_structure")])
def test_a_server_that_fails_is_named_and_nothing_is_lost(synced: Stack, path: str, resource: str) -> None:
    before = synced.rows(MOTHERS, COUNT)
    synced.demo.control.fail(path, kind="status", status=200, body="<html>down for maintenance</html>", times=50)
    run = synced.sync(MOTHERS)
    assert run["status"] == "FAILURE"
    told = json.dumps(run["errors"])
    assert resource in told
    assert "is a web page, not data" in told
    assert synced.rows(MOTHERS, COUNT) == before
