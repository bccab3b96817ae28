"""Limits the requests of a domain.

Fixed windows per domain, shared by all its clients, as in HQ. Off until limits are set. Only accepted requests count.
"""

import math
import time
from collections.abc import Mapping
from dataclasses import dataclass, field

from starlette.responses import Response

WINDOWS_S = {"second": 1, "minute": 60, "hour": 3_600, "day": 86_400, "week": 604_800}
_PER_WORKER = {"second": 0.2174, "minute": 3.043, "hour": 130.4, "day": 1000.0, "week": 5000.0}
_CONSTANT = {"second": 1, "minute": 10, "hour": 30, "day": 50, "week": 100}


def hq_limits(workers: int) -> dict[str, float]:
    """HQ's own limits for a project space with this many active mobile workers."""
    return {name: _PER_WORKER[name] * workers + _CONSTANT[name] for name in WINDOWS_S}


@dataclass
class Throttle:
    """`limits` maps window names (second, minute, hour, day, week) to requests. `retry_after`: None gives the float seconds
    until the longest exceeded window ends, a number gives exactly that, "absent" leaves the header out."""

    limits: dict[str, float] = field(default_factory=dict)
    retry_after: float | str | None = None
    _used: dict[tuple[str, str, int], int] = field(default_factory=dict)

    def configure(self, limits: Mapping[str, float], retry_after: float | str | None = None) -> None:
        """Set the limits and reset the counters; without limits throttling is off."""
        unknown = set(limits) - set(WINDOWS_S)
        if unknown:
            raise ValueError(f"unknown windows: {', '.join(sorted(unknown))}; known: {', '.join(WINDOWS_S)}")
        self.limits, self.retry_after = dict(limits), retry_after
        self._used.clear()

    def refuse(self, domain: str) -> Response | None:
        """The empty 429, or None after counting the request."""
        now = time.time()
        keys = {name: (domain, name, int(now // WINDOWS_S[name])) for name in self.limits}
        waits = [
            WINDOWS_S[name] - now % WINDOWS_S[name]
            for name, key in keys.items()
            if self._used.get(key, 0) >= math.floor(self.limits[name])
        ]
        if waits:
            return Response(status_code=429, headers=self._header(max(waits)))
        for key in keys.values():
            self._used[key] = self._used.get(key, 0) + 1
        return None

    def _header(self, wait_s: float) -> dict[str, str]:
        if self.retry_after == "absent":
            return {}
        return {"Retry-After": str(wait_s if self.retry_after is None else self.retry_after)}
