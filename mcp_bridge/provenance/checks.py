"""Which asset checks failed in a run, and for which table? Read from the run's log, cached for runs that have ended.

An answer names the checks of exactly the run that filled a table, because Dagster's "latest" check is per asset, not per tenant.
"""

import asyncio
from collections import OrderedDict
from collections.abc import Iterable

from explorer.contract.checks import FailingTable, TableChecks
from mcp_bridge.clients.dagster.records import CheckResult
from mcp_bridge.facts.partition_state import FailedCheck
from mcp_bridge.runs.results import RunResults

_CACHED_RUNS = 2000


class FailingChecks:
    """Failed checks by run."""

    def __init__(self, results: RunResults) -> None:
        self._results = results
        self._cache: OrderedDict[str, tuple[FailedCheck, ...]] = OrderedDict()

    async def of(self, run_ids: set[str]) -> dict[str, tuple[FailedCheck, ...]]:
        """The failed checks of each run; none for a run whose log was deleted."""
        found = await asyncio.gather(*(self._of_run(run_id) for run_id in sorted(run_ids)))
        return dict(zip(sorted(run_ids), found, strict=True))

    async def _of_run(self, run_id: str) -> tuple[FailedCheck, ...]:
        if run_id in self._cache:
            self._cache.move_to_end(run_id)
            return self._cache[run_id]
        result = await self._results.of(run_id)
        failed = tuple(_failed(check) for check in result.failing)
        if result.finished:
            self._cache[run_id] = failed
            if len(self._cache) > _CACHED_RUNS:
                self._cache.popitem(last=False)
        return failed


def _failed(check: CheckResult) -> FailedCheck:
    """The part of a check's evaluation that answers use."""
    rows = TableChecks.from_metadata(check.metadata).failing
    return FailedCheck(check.name, check.asset_key, None if rows is None else _tables(rows))


def _tables(rows: Iterable[FailingTable]) -> dict[str, int | None]:
    """The failing tables and their counts. The check gives a row per table and test; the counts of a table are added."""
    found: dict[str, int | None] = {}
    for row in rows:
        before = found.get(row.table, 0)
        found[row.table] = None if before is None or row.failing_rows is None else before + row.failing_rows
    return found
