"""Which answers about a tenant still hold? Values by tenant, each good for as long as what it was made from has the same mark."""

import asyncio
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Hashable
from dataclasses import dataclass
from typing import Generic, TypeVar

T = TypeVar("T")

# While a run is at work nothing stays as it is; between runs only what nobody tells the catalog of changes unnoticed.
_UNSETTLED_S = 2.0
_SETTLED_S = 600.0


@dataclass(frozen=True)
class _Entry(Generic[T]):
    mark: Hashable
    value: T
    good_until_s: float


class Kept(Generic[T]):
    """At most `capacity` values, those used last; settled ones hold for `settled_s`. For use inside one event loop."""

    def __init__(self, capacity: int, settled_s: float = _SETTLED_S) -> None:
        self._capacity = capacity
        self._settled_s = settled_s
        self._entries: OrderedDict[Hashable, _Entry[T]] = OrderedDict()
        self._locks: dict[Hashable, tuple[asyncio.Lock, int]] = {}

    async def get(self, key: Hashable, mark: Hashable, make: Callable[[], Awaitable[tuple[T, bool]]]) -> T:
        """The value for `key` under `mark`, made anew when there is none that holds.

        `make` gives the value and whether it is settled: one that is not is kept for two seconds.
        Of callers at the same time one makes it, the others wait.
        """
        entry = self._holding(key, mark)
        if entry is not None:
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

    def _holding(self, key: Hashable, mark: Hashable) -> _Entry[T] | None:
        entry = self._entries.get(key)
        if entry is None or entry.mark != mark or entry.good_until_s < time.monotonic():
            return None
        self._entries.move_to_end(key)
        return entry

    async def _made(self, key: Hashable, mark: Hashable, make: Callable[[], Awaitable[tuple[T, bool]]]) -> T:
        value, settled = await make()
        self._entries[key] = _Entry(mark, value, time.monotonic() + (self._settled_s if settled else _UNSETTLED_S))
        self._entries.move_to_end(key)
        if len(self._entries) > self._capacity:
            self._entries.popitem(last=False)
        return value
