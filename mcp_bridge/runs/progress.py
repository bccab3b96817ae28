"""The progress of a run for a waiting caller: a growing number, its total, and a line for each step."""

import time
from collections.abc import Awaitable, Callable
from typing import Any

from explorer.contract.materializations import Summary
from explorer.contract.names import within_pipeline
from explorer.contract.observations import LoadProgress, TableProgress
from mcp_bridge.clients.dagster.records import RunEvent

# The longest time without a notification.
_HEARTBEAT_S = 10.0
# (progress, total, line)
Send = Callable[[float, float | None, str], Awaitable[None]]


class ProgressLines:
    """Turns events into progress: a number that never falls, its total, and a line such as `raw/cases: 450 of 600 rows`."""

    def __init__(self) -> None:
        self.progress = 0.0
        self.total: float | None = None
        self._planned: set[tuple[str, ...]] = set()
        self._done: set[tuple[str, ...]] = set()
        self._part: dict[tuple[str, ...], float] = {}

    def line(self, event: RunEvent) -> str | None:
        """The line for one event; None when it is of no interest to a watcher."""
        line = self._line(event)
        self.total = float(len(self._planned | self._done)) or None
        reached = len(self._done) + sum(part for key, part in self._part.items() if key not in self._done)
        self.progress = max(self.progress, reached)
        return line

    def last_line(self, events: list[RunEvent]) -> str | None:
        """The last line from these events; None when there is none."""
        lines = [line for event in events if (line := self.line(event))]
        return lines[-1] if lines else None

    def _line(self, event: RunEvent) -> str | None:
        key = event.asset_key
        if event.kind == "AssetMaterializationPlannedEvent" and key:
            self._planned.add(key)
            return None
        if event.kind == "ObservationEvent" and key:
            return self._observed(key, event.metadata)
        if event.kind == "MaterializationEvent" and key:
            self._done.add(key)
            rows = Summary.from_metadata(event.metadata).row_count
            return f"{within_pipeline(key)}: {f'{rows} rows' if rows is not None else 'done'}"
        fixed = {
            "RunEnqueuedEvent": "queued",
            "RunStartingEvent": "starting",
            "RunStartEvent": "started",
            "RunSuccessEvent": "succeeded",
            "RunFailureEvent": "failed",
            "RunCancelingEvent": "cancelling",
            "RunCanceledEvent": "cancelled",
        }
        if event.kind in fixed:
            return f"run {fixed[event.kind]}"
        if event.kind == "ExecutionStepStartEvent":
            return f"{event.step_key}: started"
        if event.kind == "ExecutionStepFailureEvent":
            return f"{event.step_key}: {'canceled' if event.interrupted else 'failed'}"
        return None

    def _observed(self, key: tuple[str, ...], metadata: dict[str, Any]) -> str:
        name, built = within_pipeline(key), TableProgress.from_metadata(metadata)
        if built.table:
            state = f"{built.rows} rows" if built.rows is not None else built.state or "done"
            return f"{name}: {state}" if key[-1] == built.table else f"{name}: {built.table} {state}"
        loaded = LoadProgress.from_metadata(metadata)
        if loaded.rows is None:
            return f"{name}: working"
        if loaded.expected is None or loaded.expected <= 0:
            return f"{name}: {loaded.rows} rows"
        self._part[key] = min(0.95, loaded.rows / loaded.expected)
        return f"{name}: {loaded.rows} of {loaded.expected} rows"


class ProgressSender:
    """Sends progress notifications. The number grows with each, as MCP requires, even when only time has passed."""

    def __init__(self, send: Send) -> None:
        self._send_on = send
        self._lines = ProgressLines()
        self._sent = 0.0
        self._last_line = "waiting for the run"
        self._sent_at_s = time.monotonic()

    async def send(self, events: list[RunEvent]) -> None:
        for event in events:
            line = self._lines.line(event)
            if line is not None:
                self._last_line = line
                await self._send_line(line)
        if time.monotonic() - self._sent_at_s >= _HEARTBEAT_S:
            await self._send_line(f"{self._last_line} (still at work)")

    async def _send_line(self, line: str) -> None:
        self._sent = max(self._lines.progress, self._sent + 0.001)
        total = self._lines.total
        self._sent_at_s = time.monotonic()
        await self._send_on(self._sent, max(total, self._sent) if total else None, line)
