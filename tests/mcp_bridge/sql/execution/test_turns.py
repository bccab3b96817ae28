"""Calls wait for their turn in order; a place is free when its backend is gone; overlong calls are slowed, then refused."""

import asyncio
import time
from collections.abc import Callable
from typing import Any

import psycopg
import pytest

from explorer.postgres.provisioning import RO_CONNECTIONS
from mcp_bridge.sql import Executor, QueryFailed, QueryLimits, ValidatedQuery
from mcp_bridge.sql.execution import reading
from mcp_bridge.sql.execution.slots import Slots, Tenants
from mcp_bridge.sql.execution.throttle import MEMORY_S, OUTLIVED, REFUSED_AT, TIMED_OUT, OverrunThrottle
from tests.mcp_bridge.sql.clinic import Clinic

SLOW = "select count(*) from generate_series(1, 60000) a, generate_series(1, 60000) b"


def executors(clinic: Clinic, count: int, **limits: Any) -> list[Executor]:
    """As many bridges as that: each has places of its own, the role has one limit."""
    return [clinic.executor(**limits) for _ in range(count)]


@pytest.mark.parametrize("bridges", [1, 3])
def test_fifty_sessions_are_all_served(clinic: Clinic, bridges: int) -> None:
    query = clinic.validate("select count(*) from visits")

    async def main() -> list[Any]:
        served = executors(clinic, bridges, wait_s=60)

        async def session(number: int) -> list[Any]:
            return [(await served[number % bridges].run(query)).rows for _ in range(4)]

        try:
            return await asyncio.gather(*(session(number) for number in range(50)))
        finally:
            for executor in served:
                executor.close()

    assert asyncio.run(main()) == [[[[40]]] * 4] * 50


def test_the_roles_limit_is_never_reached_by_one_bridge(clinic: Clinic, backends: Callable[[], int]) -> None:
    """Another session of the role can always begin."""
    query = clinic.validate("select 1")

    async def main() -> None:
        while backends():
            await asyncio.sleep(0.05)  # those of tests before
        executor = clinic.executor(wait_s=60)
        calls = asyncio.gather(*(executor.run(query) for _ in range(60)))
        for _ in range(5):
            connection = await psycopg.AsyncConnection.connect(**clinic.reader.conninfo())
            backend = connection.info.backend_pid
            await connection.close()
            while _is_there(clinic, backend):
                await asyncio.sleep(0.01)
        await calls
        executor.close()

    asyncio.run(main())


def _is_there(clinic: Clinic, backend: int) -> bool:
    with clinic.admin.connect(autocommit=True) as conn:
        return conn.execute("SELECT FROM pg_stat_activity WHERE pid = %s", [backend]).fetchone() is not None


def test_turns_come_in_the_order_of_asking() -> None:
    async def main() -> list[int]:
        slots, order = Slots(1), []

        async def call(number: int) -> None:
            await slots.acquire(10)
            order.append(number)
            await asyncio.sleep(0)
            slots.release()

        await asyncio.gather(*(call(number) for number in range(20)))
        return order

    assert asyncio.run(main()) == list(range(20))


def test_a_slow_tenant_takes_one_turn_at_a_time_while_others_are_served() -> None:
    """And all again when nobody else calls."""
    now = 0.0

    async def taken(slots: Slots) -> int:
        """How many of four calls get a slot at once; those are released afterwards."""
        calls = [asyncio.create_task(slots.acquire(10)) for _ in range(4)]
        await asyncio.sleep(0.2)
        got = sum(call.done() for call in calls)
        while not all(call.done() for call in calls):
            slots.release()
            await asyncio.sleep(0.06)
        for _ in range(got):
            slots.release()
        return got

    async def main() -> list[int]:
        nonlocal now
        tenants = Tenants(lambda: now)
        slow, quick = Slots(3, tenants=tenants), Slots(3, tenants=tenants)
        found = [await taken(slow), await taken(quick)]
        for _ in range(10):
            slow.took(1.0)
            quick.took(0.01)
        found += [await taken(slow), await taken(quick)]
        now = 60.0
        return [*found, await taken(slow)]

    assert asyncio.run(main()) == [3, 3, 1, 3, 3]


def test_who_waits_too_long_is_told_so(clinic: Clinic) -> None:
    async def main() -> QueryFailed:
        executor = clinic.executor(timeout_s=6, wait_s=0.5)
        slow = [asyncio.create_task(executor.run(clinic.validate(SLOW))) for _ in range(3)]
        await asyncio.sleep(0.3)
        with pytest.raises(QueryFailed) as caught:
            await executor.run(clinic.validate("select 1"))
        for task in slow:
            task.cancel()
        await asyncio.gather(*slow, return_exceptions=True)
        return caught.value

    error = asyncio.run(main())
    assert error.as_dict()["code"] == "busy"
    assert error.details["retry_after_s"] > 0
    assert "turn" in error.message


def test_no_more_wait_than_may() -> None:
    async def main() -> QueryFailed:
        slots = Slots(1, max_waiting=2)
        await slots.acquire(1)
        waiting = [asyncio.create_task(slots.acquire(5)) for _ in range(2)]
        await asyncio.sleep(0)
        with pytest.raises(QueryFailed) as caught:
            await slots.acquire(5)
        slots.release()
        slots.release()
        await asyncio.gather(*waiting)
        return caught.value

    assert asyncio.run(main()).as_dict()["code"] == "busy"


def test_connections_held_elsewhere_are_waited_for(clinic: Clinic) -> None:
    async def main(wait_s: float) -> Any:
        executor = clinic.executor(wait_s=wait_s)
        held = [await psycopg.AsyncConnection.connect(**clinic.reader.conninfo()) for _ in range(RO_CONNECTIONS)]

        async def let_go() -> None:
            await asyncio.sleep(1.0)
            for connection in held:
                await connection.close()

        letting = asyncio.create_task(let_go())
        try:
            return (await executor.run(clinic.validate("select 1"))).rows
        except QueryFailed as error:
            return error.as_dict()["code"]
        finally:
            await letting

    assert asyncio.run(main(30)) == [[1]]
    assert asyncio.run(main(0.3)) == "busy"


def test_a_place_stays_taken_until_the_backend_is_gone(clinic: Clinic, monkeypatch: pytest.MonkeyPatch) -> None:
    """The statement looks for no cancel and outlives the wait for it; nobody takes its place before it ends."""
    monkeypatch.setattr(reading, "_CANCEL_S", 0.05)
    stubborn = ValidatedQuery("select length(normalize(repeat(U&'\\0315\\0300', 9000)))", frozenset())

    async def main() -> tuple[float, float]:
        executor = Executor(clinic.reader, (clinic.schema,), QueryLimits(timeout_s=0.3, wait_s=60), max_concurrent=1)
        started = time.monotonic()
        with pytest.raises(QueryFailed):
            await executor.run(stubborn)
        answered = time.monotonic() - started
        assert (await executor.run(clinic.validate("select 1"))).rows == [[1]]
        with clinic.admin.connect(autocommit=True) as conn:
            left = conn.execute(
                "SELECT count(*) FROM pg_stat_activity WHERE usename = %s AND query LIKE '%%normalize%%'",
                [clinic.reader.user],
            ).fetchone()
        assert left == (0,)
        return answered, time.monotonic() - started

    answered, served = asyncio.run(main())
    assert served >= answered


def test_points_slow_then_refuse_and_are_forgotten() -> None:
    now = [0.0]
    throttle = OverrunThrottle(clock=lambda: now[0])
    assert throttle.delay_s("ana") == 0
    for _ in range(3):
        throttle.record("ana", TIMED_OUT)
    assert throttle.delay_s("ana") == 0, "a few are forgiven"
    throttle.record("ana", OUTLIVED)
    slowed = throttle.delay_s("ana")
    assert slowed > 0
    now[0] = 10.0
    for _ in range(REFUSED_AT):
        throttle.record("ana", TIMED_OUT)
    with pytest.raises(QueryFailed) as caught:
        throttle.delay_s("ana")
    assert caught.value.as_dict()["code"] == "slow_down"
    wait_s = caught.value.details["retry_after_s"]
    assert 0 < wait_s <= MEMORY_S
    assert throttle.delay_s("ben") == 0, "others are not touched"
    now[0] += wait_s
    assert throttle.delay_s("ana") == 0


def test_whose_statements_overrun_is_refused_with_words(clinic: Clinic) -> None:
    async def main() -> QueryFailed:
        throttle = OverrunThrottle()
        executor = Executor(clinic.reader, (clinic.schema,), QueryLimits(timeout_s=0.2), throttle=throttle)
        with pytest.raises(QueryFailed) as first:
            await executor.run(clinic.validate(SLOW), principal="ana")
        assert first.value.as_dict()["code"] == "timeout"
        throttle.record("ana", REFUSED_AT - 1)
        with pytest.raises(QueryFailed) as second:
            await executor.run(clinic.validate("select 1"), principal="ana")
        assert (await executor.run(clinic.validate("select 1"), principal="ben")).rows == [[1]]
        return second.value

    error = asyncio.run(main())
    assert (error.as_dict()["code"], error.details["retry_after_s"] > 0) == ("slow_down", True)
