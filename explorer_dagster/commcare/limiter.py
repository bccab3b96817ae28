"""When may the next request to this project space be sent? One limiter per project space for all threads of the process.

CommCare counts requests per project space, over all its API clients, so that all of ours to it share one ceiling and one pause.
"""

import threading
import time
from collections.abc import Callable


class RateLimiter:
    """A token bucket that holds one second's worth of requests, and a pause that a 429 sets for everybody."""

    def __init__(self, requests_per_second: float) -> None:
        self._rate = requests_per_second
        self._lock = threading.Lock()
        self._tokens = max(1.0, requests_per_second)
        self._updated = time.monotonic()
        self._not_before = 0.0

    def wait(self, sleep: Callable[[float], object] = time.sleep) -> None:
        """Return when a request may be sent; the place in the queue is taken at the call."""
        delay_s = self._take()
        if delay_s > 0:
            sleep(delay_s)

    def pause(self, duration_s: float) -> None:
        """Let no request start for the next `duration_s` seconds."""
        with self._lock:
            self._not_before = max(self._not_before, time.monotonic() + duration_s)

    def _take(self) -> float:
        with self._lock:
            now = time.monotonic()
            self._tokens = min(max(1.0, self._rate), self._tokens + (now - self._updated) * self._rate) - 1.0
            self._updated = now
            owed_s = max(0.0, -self._tokens / self._rate)
            return max(owed_s, self._not_before - now)


_limiters: dict[tuple[str, str, float], RateLimiter] = {}
_limiters_lock = threading.Lock()


def shared_limiter(server: str, domain: str, requests_per_second: float) -> RateLimiter:
    """The process's limiter of this project space at this ceiling."""
    with _limiters_lock:
        return _limiters.setdefault((server, domain, requests_per_second), RateLimiter(requests_per_second))
