"""When may the next request of this tenant be sent, and how many at a time make sense?

Servers count requests per tenant, over all its API clients. So all of ours for one tenant share one ceiling and one pause: the
threads of a process through one `RateLimiter`, processes and hosts through the `Slots` behind it.
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
    """Where it is kept when the tenant's next request may go out (the catalog's database, for several processes).

    Both raise a TransientError when it cannot be asked.
    """

    def reserve(self, rate: float) -> tuple[float, float]:
        """Take the next slot at `rate` requests per second, one second's worth of which may go at once.

        Returns seconds until the slot, and seconds until the end of the pause in force (0 or less: none).
        """
        ...

    def pause(self, duration_s: float) -> None:
        """Let no slot come before `duration_s` seconds from now; a longer pause in force stays."""
        ...


class Paused(Exception):
    """The server wants no requests for the next `remaining_s` seconds, longer than the caller would wait."""

    def __init__(self, remaining_s: float) -> None:
        super().__init__(f"paused for {remaining_s:.0f} s")
        self.remaining_s = remaining_s


class ProcessSlots:
    """Slots of one process: the generic cell rate algorithm (a token bucket without a refill to run)."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._next_at = -math.inf
        self._not_before = -math.inf

    def reserve(self, rate: float) -> tuple[float, float]:
        """See `Slots.reserve`; never fails."""
        interval_s, burst_s = 1.0 / rate, max(1.0, 1.0 / rate)
        with self._lock:
            now = time.monotonic()
            # After a pause the bucket is empty: everybody has waited for its end.
            after_pause = self._not_before + burst_s - interval_s
            self._next_at = max(self._next_at, after_pause, now) + interval_s
            return self._next_at - burst_s - now, self._not_before - now

    def pause(self, duration_s: float) -> None:
        """See `Slots.pause`; never fails."""
        with self._lock:
            self._not_before = max(self._not_before, time.monotonic() + duration_s)


class RateLimiter:
    """The pace of all requests of this process for one tenant. Thread-safe.

    `requests_per_second`: our own ceiling. `shared`: slots in common with other processes; while they cannot be asked, the
    process keeps to the ceiling by itself, and a load never fails for them. `lifted_by`: the command that ends a shared pause.
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
        """Requests per second at present: the ceiling, or less after a 429, from where it grows back within a minute."""
        since_s = time.monotonic() - self._part_since
        return self._ceiling * min(1.0, self._part + max(0.0, since_s) / constants.RATE_RECOVERY_S)

    def allowed_parallelism(self, latency_s: float) -> int:
        """How many requests at a time the rate can keep going when each takes `latency_s` seconds: 1 to MAX_CONNECTIONS."""
        return max(1, min(constants.MAX_CONNECTIONS, math.ceil(self.rate * latency_s)))

    def wait(self, sleep: Callable[[float], object] = time.sleep, *, longest_pause_s: float = math.inf) -> None:
        """Return when a request may be sent; the place in the queue is taken at the call.

        Raises:
            Paused: a pause in force ends later than `longest_pause_s` seconds from now. Nothing was waited.
        """
        rate = self.rate
        own = self._own.reserve(rate)
        wait_s, paused_s = self._from_shared(lambda slots: slots.reserve(rate)) or own
        if paused_s > longest_pause_s:
            raise Paused(paused_s)
        if wait_s > 0:
            sleep(wait_s)

    def pause(self, duration_s: float) -> None:
        """A 429 came: let no request of anybody start for the next `duration_s` seconds, and go slower after that.

        A pause of hours is kept for one hour only, after which the server is asked again: its limits may have been raised.
        """
        duration_s = min(duration_s, constants.PAUSE_MAX_S)
        with self._lock:
            ends_at = time.monotonic() + duration_s
            # Requests that were under way when the first 429 came are refused too: together they are one sign.
            if time.monotonic() >= self._part_since:
                self._part = max(constants.RATE_MIN_PART, self.rate / self._ceiling / 2)
            self._part_since = max(self._part_since, ends_at)
        self._own.pause(duration_s)
        self._from_shared(lambda slots: slots.pause(duration_s))

    def _from_shared(self, ask: Callable[[Slots], T]) -> T | None:
        """The shared slots' answer; None without any, and for some seconds after they could not be asked."""
        if self._shared is None or time.monotonic() < self._shared_from:
            return None
        try:
            return ask(self._shared)
        except TransientError as error:
            self._shared_from = time.monotonic() + constants.SHARED_SLOTS_RETRY_S
            log.warning("Requests are paced by this process alone for a while: %s", error)
            return None
