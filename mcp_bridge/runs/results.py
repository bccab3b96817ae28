"""The result of a run: what it materialized for its tenant, and which checks failed. Read once from the run's log.

Cached for runs that have ended. A run that the bridge followed to its end needs no further request.
"""

from collections import OrderedDict
from dataclasses import dataclass, field
from datetime import datetime
from typing import Literal

from explorer.contract.materializations import Tables
from mcp_bridge.clients.dagster.client import DagsterClient
from mcp_bridge.clients.dagster.errors import UnknownRun
from mcp_bridge.clients.dagster.records import CheckResult, Run, RunEvent
from mcp_bridge.runs.summary import first_cause

AssetKey = tuple[str, ...]
# Results are needed only until the tenant's tables are read, and those are cached longer.
_CACHED_RUNS = 100


@dataclass(frozen=True)
class Materialization:
    """An asset materialized for one tenant. `metadata`: only the entries that answers use; the others are long."""

    run_id: str
    at: datetime
    metadata: Tables


@dataclass(frozen=True)
class RunResult:
    """`finished`: the run has ended, so nothing will be added; `failing`: its failed checks; `told`: the assets of which its log
    has checks; `succeeded_with`: those that a good run was of; `cause`: why it failed, if the log says so."""

    finished: bool
    failing: tuple[CheckResult, ...] = ()
    told: frozenset[AssetKey] = frozenset()
    succeeded_with: frozenset[AssetKey] | Literal["all", "none"] = "none"
    cause: str | None = None
    materialized: dict[AssetKey, Materialization] = field(default_factory=dict)

    def checked(self, key: AssetKey) -> bool:
        """Whether `failing` has all that fails of the asset. A good run's log has no checks that passed as before."""
        good = self.succeeded_with
        return key in self.told or (key in good if isinstance(good, frozenset) else good == "all")


class RunResults:
    """Results by run id; results of ended runs are cached. For use inside one event loop."""

    def __init__(self, dagster: DagsterClient) -> None:
        self._dagster = dagster
        self._cache: OrderedDict[str, RunResult] = OrderedDict()

    async def of(self, run_id: str) -> RunResult:
        """A run's result; empty when Dagster no longer knows the run. Raises: DagsterUnavailable."""
        if run_id in self._cache:
            self._cache.move_to_end(run_id)
            return self._cache[run_id]
        try:
            return self.remember(*await self._dagster.results(run_id))
        except UnknownRun:
            return RunResult(finished=True)

    def remember(self, run: Run, events: list[RunEvent]) -> RunResult:
        """Make the result from a run's log, and cache it."""
        checks = [event.check for event in events if event.check is not None]
        materialized: dict[AssetKey, Materialization] = {}
        for event in events:
            if event.kind == "MaterializationEvent" and event.asset_key and event.partition == run.tenant:
                tables = Tables.from_metadata(event.metadata)
                materialized[event.asset_key] = Materialization(run.run_id, event.at, tables)
        failing = tuple(check for check in checks if not check.passed)
        told = frozenset(check.asset_key for check in checks)
        good: frozenset[AssetKey] | Literal["all", "none"] = "none"
        if run.status == "SUCCESS":
            good = run.assets if run.assets is not None else "all"
        result = RunResult(run.finished, failing, told, good, first_cause(events), materialized)
        if run.finished:
            self._cache[run.run_id] = result
            if len(self._cache) > _CACHED_RUNS:
                self._cache.popitem(last=False)
        return result
