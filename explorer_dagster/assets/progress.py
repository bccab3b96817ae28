"""How does a running step show its progress? By asset observations, at most one a second, and none in its first second.

An observation is stored at once and takes about 10 ms, during which the rest of the process waits.
"""

import threading
import time

import dagster as dg

from explorer.contract.records import Record
from explorer_dagster.metadata import as_metadata

INTERVAL_S = 1.0


class Progress:
    """Progress reports of one step. `report` is thread-safe. `per_asset`: one a second for each asset, not for all together."""

    def __init__(self, context: dg.AssetExecutionContext, *, per_asset: bool) -> None:
        self._context = context
        self._per_asset = per_asset
        self._lock = threading.Lock()
        self._began = time.monotonic()
        self._last: dict[dg.AssetKey | None, float] = {}

    def report(self, key: dg.AssetKey, state: Record) -> None:
        """Store a record of `contract.observations` as an observation of `key`, unless the step began, or one was stored, within
        the last second."""
        slot = key if self._per_asset else None
        now = time.monotonic()
        with self._lock:
            if now - self._last.get(slot, self._began) < INTERVAL_S:
                return
            self._last[slot] = now
            self._context.log_event(
                dg.AssetObservation(asset_key=key, partition=self._context.partition_key, metadata=as_metadata(state))
            )
