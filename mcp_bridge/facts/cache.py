"""Which answers about a tenant still hold? Values by tenant, each good for as long as what it was made from has the same mark."""

import asyncio
import logging
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Hashable
from dataclasses import dataclass
from typing import Generic, TypeVar

T = TypeVar("T")

# While a run is at work nothing stays as it is; between runs only what nobody tells the catalog of changes unnoticed: who asks
# after a while gets the cached value at once, and the next caller a new one.
_UNSETTLED_S = 2.0
_SETTLED_S = 600.0
_ANSWERED_S = 24 * 3600.0
_log = logging.getLogger(__name__)


@dataclass
class _Entry(Generic[T]):
    mark: Hashable
    value: T
    settled: bool
    good_until_s: float
    asked_at_s: float


class Cache(Generic[T]):
    """At most `capacity` values, those used last. For use inside one event loop.

    A settled value holds for `settled_s`; for `answered_s` more it is still given, and made anew behind the scenes.
    """

    def __init__(self, capacity: int, settled_s: float = _SETTLED_S, answered_s: float = _ANSWERED_S) -> None:
        self._capacity = capacity
        self._settled_s, self._answered_s = settled_s, answered_s
        self._entries: OrderedDict[Hashable, _Entry[T]] = OrderedDict()
        self._locks: dict[Hashable, tuple[asyncio.Lock, int]] = {}
        self._renewals: dict[Hashable, asyncio.Task[None]] = {}

    async def get(self, key: Hashable, mark: Hashable, make: Callable[[], Awaitable[tuple[T, bool]]]) -> T:
        """The value for `key` under `mark`, made anew when there is none that holds.

        `make` gives the value and whether it is settled: one that is not holds for two seconds.
        Of callers at the same time one makes it, the others wait.
        """
        entry = self._holding(key, mark)
        if entry is not None:
            if entry.good_until_s < time.monotonic():
                self._renew_later(key, mark, make)
            return entry.value
        lock, waiting = self._locks.get(key, (asyncio.Lock(), 0))
        self._locks[key] = (lock, waiting + 1)
        try:
            async with lock:
                entry = self._holding(key, mark)
                return entry.value if entry is not None else await self._made(key, mark, make)
        finally:
            lock, waiting = self._locks.pop(key)
            if waiting > 1:
                self._locks[key] = (lock, waiting - 1)

    def in_use(self, within_s: float) -> list[tuple[T, bool]]:
        """The values that were asked for not longer ago, and whether they are settled."""
        since_s = time.monotonic() - within_s
        return [(entry.value, entry.settled) for entry in self._entries.values() if entry.asked_at_s >= since_s]

    def close(self) -> None:
        """Make nothing anew behind the scenes any more."""
        for renewal in list(self._renewals.values()):
            renewal.cancel()

    def _holding(self, key: Hashable, mark: Hashable) -> _Entry[T] | None:
        entry = self._entries.get(key)
        now_s = time.monotonic()
        if entry is None or entry.mark != mark:
            return None
        if entry.good_until_s + (self._answered_s if entry.settled else 0.0) < now_s:
            return None
        entry.asked_at_s = now_s
        self._entries.move_to_end(key)
        return entry

    async def renew(self, key: Hashable, mark: Hashable, make: Callable[[], Awaitable[tuple[T, bool]]]) -> None:
        """Make the value anew before somebody asks; it does not count as asking."""
        before = self._entries.get(key)
        value, settled = await make()
        if self._entries.get(key) is before:
            self._put(key, mark, value, settled, before.asked_at_s if before else time.monotonic())

    def _renew_later(self, key: Hashable, mark: Hashable, make: Callable[[], Awaitable[tuple[T, bool]]]) -> None:
        async def work() -> None:
            try:
                await self.renew(key, mark, make)
            except Exception as error:
                # The next caller gets the error, when it still fails.
                _log.warning("A cached value could not be made anew: %s", error)
                self._entries.pop(key, None)
            finally:
                del self._renewals[key]

        if key not in self._renewals:
            self._renewals[key] = asyncio.create_task(work())

    async def _made(self, key: Hashable, mark: Hashable, make: Callable[[], Awaitable[tuple[T, bool]]]) -> T:
        value, settled = await make()
        self._put(key, mark, value, settled, time.monotonic())
        return value

    def _put(self, key: Hashable, mark: Hashable, value: T, settled: bool, asked_at_s: float) -> None:
        good_until_s = time.monotonic() + (self._settled_s if settled else _UNSETTLED_S)
        self._entries[key] = _Entry(mark, value, settled, good_until_s, asked_at_s)
        self._entries.move_to_end(key)
        if len(self._entries) > self._capacity:
            self._entries.popitem(last=False)
