"""The bridge's cache: only valid entries, a limited number of tenants, and one computation for simultaneous callers."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from mcp_bridge.facts import cache
from mcp_bridge.facts.cache import Cache


class Maker:
    """Counts how often it was asked."""

    def __init__(self, *, settled: bool = True) -> None:
        self.made = 0
        self._settled = settled

    async def __call__(self) -> tuple[int, bool]:
        await asyncio.sleep(0)
        self.made += 1
        return self.made, self._settled


def run(work: Callable[[], Awaitable[Any]]) -> Any:
    async def main() -> Any:
        return await work()

    return asyncio.run(main())


def test_a_value_holds_until_its_mark_changes() -> None:
    async def work() -> list[int]:
        store, make = Cache[int](10), Maker()
        return [await store.get("t", mark, make) for mark in ("a", "a", "b", "a")]

    assert run(work) == [1, 1, 2, 3]


def test_many_that_ask_at_once_are_answered_by_one() -> None:
    async def work() -> tuple[set[int], int]:
        store, make = Cache[int](10), Maker()
        found = await asyncio.gather(*(store.get("t", "a", make) for _ in range(20)))
        return set(found), len(store._locks)

    assert run(work) == ({1}, 0)


def test_one_that_gives_up_leaves_the_others_their_answer() -> None:
    async def work() -> int:
        store, make = Cache[int](10), Maker()
        first = asyncio.create_task(store.get("t", "a", make))
        second = asyncio.create_task(store.get("t", "a", make))
        await asyncio.sleep(0)
        first.cancel()
        return await second

    assert run(work) == 1


def test_a_failure_is_not_remembered() -> None:
    async def fail() -> tuple[int, bool]:
        raise ValueError

    async def work() -> int:
        store = Cache[int](10)
        with pytest.raises(ValueError):  # noqa: PT011
            await store.get("t", "a", fail)
        return await store.get("t", "a", Maker())

    assert run(work) == 1


@pytest.mark.parametrize(
    ("settled", "after_s", "given", "next"),
    [(True, 500, 1, 1), (True, 700, 1, 2), (True, 90_000, 2, 2), (False, 1, 1, 1), (False, 3, 2, 2)],
)
def test_what_is_old_is_given_while_it_is_made_anew_and_what_is_not_settled_is_not(
    monkeypatch: pytest.MonkeyPatch, settled: bool, after_s: float, given: int, next: int
) -> None:
    clock = [1000.0]

    async def work() -> list[int]:
        store, make = Cache[int](10), Maker(settled=settled)
        await store.get("t", "a", make)
        clock[0] += after_s
        first = await store.get("t", "a", make)
        await asyncio.gather(*store._renewals.values())
        return [first, await store.get("t", "a", make)]

    class Clock:
        monotonic = staticmethod(lambda: clock[0])

    monkeypatch.setattr(cache, "time", Clock)
    assert run(work) == [given, next]


def test_what_cannot_be_made_anew_is_asked_for_again_and_renewing_is_not_asking(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    clock = [1000.0]

    async def fail() -> tuple[int, bool]:
        raise ValueError

    async def work() -> None:
        store = Cache[int](10)
        await store.get("t", "a", Maker())
        clock[0] += 700
        assert await store.get("t", "a", fail) == 1
        await asyncio.gather(*store._renewals.values())
        with pytest.raises(ValueError):  # noqa: PT011
            await store.get("t", "a", fail)
        await store.get("t", "a", Maker())
        clock[0] += 100
        await store.renew("t", "b", Maker())
        assert store.in_use(within_s=50) == []
        assert await store.get("t", "b", fail) == 1
        assert store.in_use(within_s=50) == [(1, True)]

    class Clock:
        monotonic = staticmethod(lambda: clock[0])

    monkeypatch.setattr(cache, "time", Clock)
    run(work)


def test_a_closed_cache_makes_nothing_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = [1000.0]

    class Clock:
        monotonic = staticmethod(lambda: clock[0])

    async def work() -> tuple[int, bool]:
        store, make = Cache[int](10), Maker()
        await store.get("t", "a", make)
        clock[0] += 700
        await store.get("t", "a", make)
        (renewal,) = store._renewals.values()
        store.close()
        await asyncio.wait({renewal})
        return make.made, renewal.cancelled()

    monkeypatch.setattr(cache, "time", Clock)
    assert run(work) == (1, True)


def test_those_used_last_are_kept() -> None:
    async def work() -> int:
        store, make = Cache[int](2), Maker()
        for key in ("a", "b", "a", "c", "a"):
            await store.get(key, "m", make)
        return make.made

    assert run(work) == 3
