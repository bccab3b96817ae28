"""A reader's session serves one call after the other, and no call sees that there was one before."""

import asyncio
import contextlib
from collections.abc import Callable
from typing import Any

import psycopg
import pytest

from explorer.postgres.connections import Connections
from explorer.postgres.hardening import lets_readers_leave_traces
from explorer.postgres.provisioning import RO_CONNECTIONS
from mcp_bridge.sql import Executor, QueryFailed, QueryLimits, ValidatedQuery
from mcp_bridge.sql.execution.session import Session, connect
from tests.mcp_bridge.sql.clinic import Clinic
from tests.mcp_bridge.sql.test_corpora import GENERATED, LEGIT, REFUSED, same, secrets_in

SLOW = "select count(*) from generate_series(1, 60000) a, generate_series(1, 60000) b"


@pytest.fixture
def sessions(clinic: Clinic) -> Callable[[], set[int]]:
    """The server processes of the reader's sessions at this moment."""

    def now() -> set[int]:
        with clinic.admin.connect(autocommit=True) as conn:
            rows = conn.execute("SELECT pid FROM pg_stat_activity WHERE usename = %s", [clinic.reader.user]).fetchall()
        return {pid for (pid,) in rows}

    return now


async def settled(executor: Executor) -> None:
    """Until no session is being reset or closed."""
    while executor._resets or executor._slots._reapers:
        await asyncio.sleep(0.01)


def test_one_session_serves_call_after_call(clinic: Clinic, sessions: Callable[[], set[int]]) -> None:
    async def main() -> list[set[int]]:
        executor, seen = clinic.executor(), []
        for _ in range(3):
            assert (await executor.run(clinic.validate("select count(*) from visits"))).rows == [[40]]
            await settled(executor)
            seen.append(sessions())
        executor.close()
        await settled(executor)
        return [*seen, sessions()]

    first, *later, closed = asyncio.run(main())
    assert len(first) == 1
    assert later == [first, first]
    assert closed == set()


def test_no_more_are_kept_than_run_at_a_time(clinic: Clinic, sessions: Callable[[], set[int]]) -> None:
    async def main() -> set[int]:
        executor = clinic.executor()
        await asyncio.gather(*(executor.run(clinic.validate("select 1")) for _ in range(20)))
        await settled(executor)
        kept = sessions()
        executor.close()
        return kept

    assert 1 <= len(asyncio.run(main())) <= 3


def test_a_statement_that_comes_again_brings_its_reset(clinic: Clinic) -> None:
    """The session is free with the page, and holds no transaction that a table's swap would wait for."""

    async def main() -> tuple[Any, ...] | None:
        executor, query = clinic.executor(), clinic.validate("select count(*) from visits")
        await executor.run(query)
        await settled(executor)
        assert (await executor.run(query)).rows == [[40]]
        assert not executor._resets
        with clinic.admin.connect(autocommit=True) as conn:
            found = conn.execute(
                "SELECT state, query, xact_start FROM pg_stat_activity WHERE usename = %s", [clinic.reader.user]
            ).fetchall()
        executor.close()
        await settled(executor)
        assert len(found) == 1
        return found[0]

    assert asyncio.run(main()) == ("idle", "DISCARD ALL", None)


def test_more_rows_than_the_last_time_are_all_there(clinic: Clinic) -> None:
    async def main() -> None:
        executor, query = clinic.executor(), clinic.validate("select i from generate_series(1, 100) i order by 1")
        for most, rows in ((5, 5), (1000, 100), (1000, 100), (5, 5), (5, 5), (1000, 100)):
            result = await executor.run(query, limits=QueryLimits(max_rows=most))
            assert result.rows == [[i + 1] for i in range(rows)]
            assert result.truncated == ("rows" if rows == 5 else None)
            await settled(executor)
        executor.close()
        await settled(executor)

    asyncio.run(main())


@pytest.mark.parametrize("how", ["error", "timeout", "cancel", "forbidden"])
def test_after_an_accident_the_session_is_closed(clinic: Clinic, sessions: Callable[[], set[int]], how: str) -> None:
    async def main() -> tuple[set[int], set[int]]:
        executor = clinic.executor()
        await executor.run(clinic.validate("select 1"))
        await settled(executor)
        before = sessions()
        texts = {"error": "select 1 / 0", "forbidden": "select set_config('a.b', 'c', false)"}
        work = asyncio.create_task(
            executor.run(ValidatedQuery(texts.get(how, SLOW), frozenset()), limits=QueryLimits(timeout_s=0.7))
        )
        if how == "cancel":
            await asyncio.sleep(0.3)
            work.cancel()
        with contextlib.suppress(QueryFailed, asyncio.CancelledError):
            await work
        await settled(executor)
        executor.close()
        return before, sessions()

    before, after = asyncio.run(main())
    assert len(before) == 1
    assert after == set()


STATES = {
    "setting": ("SET work_mem = '1GB'", "SHOW work_mem", "16MB"),
    "time limit": ("SET statement_timeout = 0", "SHOW statement_timeout", "15s"),
    "writing": ("SET default_transaction_read_only = off", "SHOW default_transaction_read_only", "on"),
    "search path": ("SET search_path = pg_catalog", "SELECT current_setting('search_path') <> 'pg_catalog'", True),
    "time zone": ("SET timezone = 'Asia/Kolkata'", "SHOW timezone", "UTC"),
    "role": ("SET ROLE pg_monitor", "SELECT current_user = 'pg_monitor'", False),
    "session's user": ("SET SESSION AUTHORIZATION {reader}", "SELECT session_user = '{reader}'", False),
    "prepared statement": ("PREPARE left_over AS SELECT 1", "SELECT count(*) FROM pg_prepared_statements", 0),
    "cached plan": (
        "SET plan_cache_mode = force_generic_plan; PREPARE planned (int) AS SELECT $1; EXECUTE planned (1)",
        "SELECT count(*) FROM pg_prepared_statements",
        0,
    ),
    "temporary table": ("CREATE TEMP TABLE left_over AS SELECT 1", "SELECT to_regclass('left_over') IS NULL", True),
    "advisory lock": (
        "SELECT pg_advisory_lock(4711)",
        "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND pid = pg_backend_pid()",
        0,
    ),
    "channel": ("LISTEN left_over", "SELECT count(*) FROM pg_listening_channels()", 0),
    "cursor": ("DECLARE left_over CURSOR WITH HOLD FOR SELECT 1", "SELECT count(*) FROM pg_cursors", 0),
    "open transaction": ("BEGIN; CREATE TABLE left_over (a int)", "SELECT to_regclass('left_over') IS NULL", True),
    "failed transaction": ("BEGIN; SELECT 1 / 0", "SELECT 1", 1),
}


@pytest.mark.parametrize("state", STATES)
def test_a_reset_takes_back_what_a_session_can_hold(clinic: Clinic, connections: Connections, state: str) -> None:
    """As the administrator, who may leave everything."""
    leave, look, expected = (
        text.format(reader=clinic.reader.user) if isinstance(text, str) else text for text in STATES[state]
    )

    async def main() -> Any:
        session = await connect(connections.admin, (clinic.schema,), 15.0)
        try:
            with contextlib.suppress(psycopg.errors.DivisionByZero):
                await session.connection.execute("SET default_transaction_read_only = off")
                await session.connection.execute(leave.encode())
            assert await session.reset()
            row = await (await session.connection.execute(look.encode())).fetchone()
            return row[0] if row else None
        finally:
            await session.connection.close()
            session.backend.socket.close()

    assert asyncio.run(main()) == expected


def test_a_sequences_last_value_is_taken_back(clinic: Clinic) -> None:
    async def main() -> None:
        session = await connect(clinic.owner, (clinic.schema,), 15.0)
        await session.connection.execute("SET default_transaction_read_only = off")
        await session.connection.execute("CREATE SEQUENCE counting")
        try:
            await session.connection.execute("SELECT nextval('counting')")
            assert await session.reset()
            for look in ("SELECT lastval()", "SELECT currval('counting')"):
                with pytest.raises(psycopg.errors.ObjectNotInPrerequisiteState):
                    await session.connection.execute(look)
        finally:
            await session.connection.execute("SET default_transaction_read_only = off")
            await session.connection.execute("DROP SEQUENCE counting")
            await session.connection.close()
            session.backend.socket.close()

    asyncio.run(main())


def test_what_a_reset_leaves_no_reader_can_change(clinic: Clinic, connections: Connections) -> None:
    """The seed of random() and the names of made-up settings outlive DISCARD ALL."""

    async def outlives() -> tuple[bool, bool]:
        session = await connect(connections.admin, (clinic.schema,), 15.0)
        await session.connection.execute("SELECT setseed(0.25), set_config('made.up', 'x', false)")
        assert await session.reset()
        row = await (
            await session.connection.execute("SELECT random(), current_setting('made.up', true) IS NOT NULL")
        ).fetchone()
        await session.connection.execute("SELECT setseed(0.25)")
        again = await (await session.connection.execute("SELECT random()")).fetchone()
        await session.connection.close()
        session.backend.socket.close()
        assert row
        assert again
        return row[0] == again[0], row[1]

    assert asyncio.run(outlives()) == (True, True)
    for text in ("select setseed(0.25)", "select set_config('made.up', 'x', false)"):
        with pytest.raises(QueryFailed) as caught:
            clinic.run_unvalidated(text)
        assert caught.value.as_dict()["code"] == "unknown_relation", "as if there were no such function"
    with clinic.admin.connect() as conn:
        assert not lets_readers_leave_traces(conn)
        conn.execute("GRANT EXECUTE ON FUNCTION pg_catalog.setseed(double precision) TO PUBLIC")
        assert lets_readers_leave_traces(conn)
        conn.rollback()


def test_without_hardening_each_call_has_a_session_of_its_own(clinic: Clinic, sessions: Callable[[], set[int]]) -> None:
    async def main() -> set[int]:
        executor = Executor(clinic.reader, (clinic.schema,), keeps_sessions=False)
        await executor.run(clinic.validate("select 1"))
        await settled(executor)
        return sessions()

    assert asyncio.run(main()) == set()


def test_a_session_that_ended_while_it_was_idle_is_replaced(clinic: Clinic, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also when the bridge notices only as it sends the statement."""

    async def main() -> Any:
        executor = clinic.executor()
        query = clinic.validate("select count(*) from visits")
        await executor.run(query)
        await settled(executor)
        with clinic.admin.connect(autocommit=True) as conn:
            conn.execute(
                "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity WHERE usename = %s", [clinic.reader.user]
            )
        monkeypatch.setattr(Session, "is_ready", property(lambda _: True))
        try:
            return (await executor.run(query)).rows
        finally:
            executor.close()
            await settled(executor)

    assert asyncio.run(main()) == [[40]]


@pytest.mark.parametrize("busy", [False, True])
def test_a_connection_is_given_up_to_a_bridge_that_waits(
    clinic: Clinic, sessions: Callable[[], set[int]], busy: bool
) -> None:
    """An idle one at once, and else one whose call has ended though others wait."""
    query = clinic.validate("select count(*) from visits")

    async def main() -> None:
        ours = Executor(clinic.reader, (clinic.schema,), QueryLimits(wait_s=30))

        async def want() -> None:
            ours.give_up()

        theirs = Executor(clinic.reader, (clinic.schema,), QueryLimits(wait_s=15), want=want)
        await asyncio.gather(*(ours.run(query) for _ in range(30)))
        await settled(ours)
        others = [
            await psycopg.AsyncConnection.connect(**clinic.reader.conninfo())
            for _ in range(RO_CONNECTIONS - len(sessions()))
        ]
        working = [asyncio.create_task(ours.run(query)) for _ in range(150 if busy else 0)]
        await asyncio.sleep(0)
        assert (await theirs.run(query)).rows == [[40]]
        assert all(result.rows == [[40]] for result in await asyncio.gather(*working))
        for connection in others:
            await connection.close()
        for executor in (ours, theirs):
            executor.close()
            await settled(executor)

    asyncio.run(main())


def test_every_attack_leaves_a_session_that_serves_honest_callers(
    clinic: Clinic, sessions: Callable[[], set[int]]
) -> None:
    """The hostile statements go past the validator, one after the other over kept sessions, an honest one after each."""
    skip = {"attribute", "typeof_oracle", "reg_types"}  # the validator's alone, as in the corpora's own test
    honest = [clinic.fill(case["sql"]) for case in LEGIT]
    wanted = {text: clinic.raw(text) for text in honest}
    texts = [
        text
        for case in REFUSED
        if case["technique"] not in skip
        and "\x00" not in (text := GENERATED.get(case["sql"]) or clinic.fill(case["sql"]))
    ]

    async def main() -> list[Any]:
        executor, found = clinic.executor(timeout_s=2.0), []
        for number, text in enumerate(texts):
            try:
                answer: Any = (await executor.run(ValidatedQuery(text, frozenset()))).rows
            except QueryFailed as failed:
                answer = failed.as_dict()
            found += secrets_in(str(answer), text, clinic)
            statement = honest[number % len(honest)]
            result = await executor.run(clinic.validate(statement))
            pairs = zip(wanted[statement], result.rows, strict=True)
            if not all(same(a, b) for raw, row in pairs for a, b in zip(raw, row, strict=True)):
                found.append((text, statement, result.rows))
            await settled(executor)
            assert len(sessions()) <= 2
        executor.close()
        return found

    assert asyncio.run(main()) == []
