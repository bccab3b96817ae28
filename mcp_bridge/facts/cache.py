"""A cache of values by tenant. A value is valid while the mark (version) of its source stays the same."""

import asyncio
import logging
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Hashable
from dataclasses import dataclass
from typing import Generic, TypeVar

T = TypeVar("T")

# While a run is active, everything may change. Between runs the catalog reports nearly all changes. So an older value is still
# returned at once, and refreshed for the next caller.
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
    """Keeps the `capacity` most recently used values. For use inside one event loop.

    A settled value is fresh for `settled_s`. For `answered_s` more it is still returned, and refreshed in the background.
    """

    def __init__(self, capacity: int, settled_s: float = _SETTLED_S, answered_s: float = _ANSWERED_S) -> None:
        self._capacity = capacity
        self._settled_s, self._answered_s = settled_s, answered_s
        self._entries: OrderedDict[Hashable, _Entry[T]] = OrderedDict()
        self._locks: dict[Hashable, tuple[asyncio.Lock, int]] = {}
        self._renewals: dict[Hashable, asyncio.Task[None]] = {}

    async def get(self, key: Hashable, mark: Hashable, make: Callable[[], Awaitable[tuple[T, bool]]]) -> T:
        """The value for `key` under `mark`, made when the cache has no valid one.

        `make` returns the value and whether it is settled; an unsettled value is valid for two seconds.
        Among concurrent callers one makes the value and the others wait.
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
        """The values that were requested within the last `within_s` seconds, and whether each is settled."""
        since_s = time.monotonic() - within_s
        return [(entry.value, entry.settled) for entry in self._entries.values() if entry.asked_at_s >= since_s]

    def close(self) -> None:
        """Stop refreshing in the background."""
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
        """Refresh the value before somebody requests it. This does not count as a request."""
        before = self._entries.get(key)
        value, settled = await make()
        if self._entries.get(key) is before:
            self._put(key, mark, value, settled, before.asked_at_s if before else time.monotonic())

    def _renew_later(self, key: Hashable, mark: Hashable, make: Callable[[], Awaitable[tuple[T, bool]]]) -> None:
        async def work() -> None:
            try:
                await self.renew(key, mark, make)
            except Exception as error:
                # If it still fails, the next caller gets the error.
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
