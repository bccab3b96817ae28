"""Delays the calls of principals whose statements run over their time limit, and refuses them if it goes on.

The state belongs to one bridge process. Points expire after `MEMORY_S`, so a caller with a corrected statement is soon served
as before.
"""

import asyncio
import time
from collections import defaultdict, deque
from collections.abc import Callable

from mcp_bridge.sql.errors import QueryFailed

# Points for a statement that was stopped at its time limit.
TIMED_OUT = 1
# Points for a statement that continued after it was told to stop.
OUTLIVED = 4
MEMORY_S = 300.0
SLOWED_AT = 4
REFUSED_AT = 10
_LONGEST_DELAY_S = 5.0


class OverrunThrottle:
    """The points of each principal, with the times when they were given."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._points: defaultdict[str, deque[tuple[float, int]]] = defaultdict(deque)

    def record(self, principal: str, points: int) -> None:
        """Record that a statement of the principal had to be stopped (`TIMED_OUT`) or did not stop (`OUTLIVED`)."""
        self._points[principal].append((self._clock(), points))

    def delay_s(self, principal: str) -> float:
        """The delay of the principal's next statement. Raises `QueryFailed` (`slow_down`) when it is refused."""
        now, given = self._clock(), self._points.get(principal)
        if given is None:
            return 0.0
        while given and now - given[0][0] >= MEMORY_S:
            given.popleft()
        if not given:
            del self._points[principal]
            return 0.0
        points = sum(point for _, point in given)
        if points >= REFUSED_AT:
            raise _refused(self._wait_s(given, points, now))
        return min(float(points - SLOWED_AT + 1), _LONGEST_DELAY_S) if points >= SLOWED_AT else 0.0

    async def wait(self, principal: str) -> None:
        """Sleep for `delay_s`. Raises `QueryFailed`."""
        if (delay_s := self.delay_s(principal)) > 0:
            await asyncio.sleep(delay_s)

    def _wait_s(self, given: deque[tuple[float, int]], points: int, now: float) -> float:
        for at, point in given:
            points -= point
            if points < REFUSED_AT:
                return max(at + MEMORY_S - now, 1.0)
        return MEMORY_S


def _refused(wait_s: float) -> QueryFailed:
    return QueryFailed(
        "slow_down",
        f"Too many of your statements of the last {MEMORY_S / 60:.0f} minutes ran into the time limit; none is run for now.",
        next_step=f"Wait {wait_s:.0f} s. Then filter earlier, aggregate less, check joins for a missing condition, and do not "
        "send the same statements again.",
        details={"retry_after_s": round(wait_s)},
    )
