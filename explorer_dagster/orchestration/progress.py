"""How a running step shows how far it is: asset observations, at most one a second for each asset.

An observation is stored at once and costs about 10 ms, so that every page of a fast load must not write one.
"""

import threading
import time
from collections.abc import Mapping

import dagster as dg

INTERVAL_S = 1.0


class Progress:
    """Reports of one step; `report` may be called from any thread."""

    def __init__(self, context: dg.AssetExecutionContext) -> None:
        self._context = context
        self._lock = threading.Lock()
        self._last: dict[dg.AssetKey, float] = {}

    def report(self, key: dg.AssetKey, facts: Mapping[str, int | str | None], *, final: bool = False) -> None:
        """Store `facts` (`rows`, `pages`, `expected`) as an observation of `key`, unless one was stored a moment ago."""
        now = time.monotonic()
        with self._lock:
            if not final and now - self._last.get(key, -INTERVAL_S) < INTERVAL_S:
                return
            self._last[key] = now
            known = {label: value for label, value in facts.items() if value is not None}
            self._context.log_event(
                dg.AssetObservation(asset_key=key, partition=self._context.partition_key, metadata=known)
            )
