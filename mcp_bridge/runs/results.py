"""What did a run leave with Dagster: what it materialized of its tenant, and which checks failed? Read once from the run's log.

Cached for runs that have ended. A run that the bridge has followed to its end costs no further question.
"""

from collections import OrderedDict
from dataclasses import dataclass, field
from datetime import datetime

from explorer.contract.materializations import Tables
from mcp_bridge.clients.dagster.client import DagsterClient
from mcp_bridge.clients.dagster.errors import UnknownRun
from mcp_bridge.clients.dagster.records import CheckResult, Run, RunEvent
from mcp_bridge.runs.summary import first_cause

AssetKey = tuple[str, ...]
# Needed until the tenant's tables are known; those are cached for longer.
_CACHED_RUNS = 100


@dataclass(frozen=True)
class Materialization:
    """An asset materialized for one tenant; `metadata`: what answers are made of, the rest is for people and long."""

    run_id: str
    at: datetime
    metadata: Tables


@dataclass(frozen=True)
class RunResult:
    """`finished`: the run has ended, so that nothing will be added; `failed`: it ended before it had done everything, for the
    `cause`, where the log tells one."""

    finished: bool
    failed: bool = False
    failing: tuple[CheckResult, ...] = ()
    cause: str | None = None
    materialized: dict[AssetKey, Materialization] = field(default_factory=dict)


class RunResults:
    """Results by run id, those of ended runs remembered. For use inside one event loop."""

    def __init__(self, dagster: DagsterClient) -> None:
        self._dagster = dagster
        self._cache: OrderedDict[str, RunResult] = OrderedDict()

    async def of(self, run_id: str) -> RunResult:
        """A run's result; of one that Dagster does not know any more an empty one. Raises: DagsterUnavailable."""
        if run_id in self._cache:
            self._cache.move_to_end(run_id)
            return self._cache[run_id]
        try:
            return self.remember(*await self._dagster.results(run_id))
        except UnknownRun:
            return RunResult(finished=True)

    def remember(self, run: Run, events: list[RunEvent]) -> RunResult:
        """The result that a run's log tells."""
        failing: list[CheckResult] = []
        materialized: dict[AssetKey, Materialization] = {}
        for event in events:
            if event.check is not None and not event.check.passed:
                failing.append(event.check)
            elif event.kind == "MaterializationEvent" and event.asset_key and event.partition == run.tenant:
                tables = Tables.from_metadata(event.metadata)
                materialized[event.asset_key] = Materialization(run.run_id, event.at, tables)
        failed = run.finished and run.status != "SUCCESS"
        result = RunResult(run.finished, failed, tuple(failing), first_cause(events), materialized)
        if run.finished:
            self._cache[run.run_id] = result
            if len(self._cache) > _CACHED_RUNS:
                self._cache.popitem(last=False)
        return result
