"""When may the tenant's next request be sent, and how many parallel requests make sense?

Servers count requests per tenant over all its API clients. So all our requests for a tenant share one ceiling and one pause: the
threads of a process through one `RateLimiter`, processes and hosts through its `Slots`.
"""

import logging
import math
import threading
import time
from collections.abc import Callable
from typing import Protocol, TypeVar

from explorer.core.errors import TransientError
from explorer.http import constants

log = logging.getLogger(__name__)
T = TypeVar("T")


class Slots(Protocol):
    """The store of the tenant's next request time (the catalog's database, for several processes).

    Both methods raise TransientError when the store cannot be reached.
    """

    def reserve(self, rate: float) -> tuple[float, float]:
        """Take the next slot at `rate` requests per second. A burst of one second's worth is allowed.

        Returns seconds until the slot, and seconds until the end of the current pause (0 or less: none). Raises an ExplorerError
        when the tenant may send no request now.
        """
        ...

    def received(self, size: int) -> None:
        """An answer had so many bytes."""
        ...

    def pause(self, duration_s: float) -> None:
        """Give no slot within the next `duration_s` seconds. A longer current pause stays."""
        ...


class Paused(Exception):
    """The server accepts no requests for the next `remaining_s` seconds, which is longer than the caller waits."""

    def __init__(self, remaining_s: float) -> None:
        super().__init__(f"paused for {remaining_s:.0f} s")
        self.remaining_s = remaining_s


class ProcessSlots:
    """Slots of one process: the generic cell rate algorithm (a token bucket that needs no refill)."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._next_at = -math.inf
        self._not_before = -math.inf

    def reserve(self, rate: float) -> tuple[float, float]:
        """See `Slots.reserve`; never fails."""
        interval_s, burst_s = 1.0 / rate, max(1.0, 1.0 / rate)
        with self._lock:
            now = time.monotonic()
            # After a pause the bucket is empty: everybody waited for its end.
            after_pause = self._not_before + burst_s - interval_s
            self._next_at = max(self._next_at, after_pause, now) + interval_s
            return self._next_at - burst_s - now, self._not_before - now

    def pause(self, duration_s: float) -> None:
        """See `Slots.pause`; never fails."""
        with self._lock:
            self._not_before = max(self._not_before, time.monotonic() + duration_s)


class RateLimiter:
    """The request rate of this process for one tenant. Thread-safe.

    `requests_per_second`: our own ceiling. `shared`: slots shared with other processes; while they cannot be reached, the process
    limits itself, so that no load fails for that. `lifted_by`: the command that ends a shared pause.
    """

    def __init__(self, requests_per_second: float, shared: Slots | None = None, *, lifted_by: str = "") -> None:
        self.lifted_by = lifted_by
        self._ceiling = requests_per_second
        self._own = ProcessSlots()
        self._shared = shared
        self._shared_from = -math.inf
        self._lock = threading.Lock()
        self._part = 1.0
        self._part_since = -math.inf

    @property
    def rate(self) -> float:
        """Current requests per second: the ceiling, or less after a 429, from where it recovers within a minute."""
        since_s = time.monotonic() - self._part_since
        return self._ceiling * min(1.0, self._part + max(0.0, since_s) / constants.RATE_RECOVERY_S)

    def allowed_parallelism(self, latency_s: float) -> int:
        """How many parallel requests the rate keeps busy when each takes `latency_s` seconds: 1 to MAX_CONNECTIONS."""
        return max(1, min(constants.MAX_CONNECTIONS, math.ceil(self.rate * latency_s)))

    def wait(self, sleep: Callable[[float], object] = time.sleep, *, longest_pause_s: float = math.inf) -> None:
        """Return when a request may be sent. The place in the queue is taken at the call.

        Raises:
            Paused: the current pause ends later than `longest_pause_s` seconds from now. Nothing was waited.
            ExplorerError: the tenant has used up what it may ask; the message says when it may again.
        """
        rate = self.rate
        own = self._own.reserve(rate)
        wait_s, paused_s = self._from_shared(lambda slots: slots.reserve(rate)) or own
        if paused_s > longest_pause_s:
            raise Paused(paused_s)
        if wait_s > 0:
            sleep(wait_s)

    def received(self, size: int) -> None:
        """Tell who shares the requests that an answer had so many bytes."""
        if self._shared is not None:
            self._shared.received(size)

    def pause(self, duration_s: float) -> None:
        """After a 429: start no request of any client for `duration_s` seconds, then go slower.

        A pause of hours lasts one hour at most; then the server is asked again, since its limits may have been raised.
        """
        duration_s = min(duration_s, constants.PAUSE_MAX_S)
        with self._lock:
            ends_at = time.monotonic() + duration_s
            # Requests in flight at the first 429 are refused too: together they count once.
            if time.monotonic() >= self._part_since:
                self._part = max(constants.RATE_MIN_PART, self.rate / self._ceiling / 2)
            self._part_since = max(self._part_since, ends_at)
        self._own.pause(duration_s)
        self._from_shared(lambda slots: slots.pause(duration_s))

    def _from_shared(self, ask: Callable[[Slots], T]) -> T | None:
        """The result of the shared slots; None without any, and for some seconds after they failed."""
        if self._shared is None or time.monotonic() < self._shared_from:
            return None
        try:
            return ask(self._shared)
        except TransientError as error:
            self._shared_from = time.monotonic() + constants.SHARED_SLOTS_RETRY_S
            log.warning("Requests are paced by this process alone for a while: %s", error)
            return None
