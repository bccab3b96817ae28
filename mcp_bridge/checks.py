"""Which asset checks failed in a run? Read from the run's log, kept for runs that have ended.

An answer names the checks of exactly the run that filled a table: Dagster's own "latest" of a check is per asset, not per tenant.
"""

import asyncio
from collections import OrderedDict

from mcp_bridge.dagster_client import CheckResult
from mcp_bridge.run_results import RunResults

_KEPT_RUNS = 2000


class FailingChecks:
    """Failed checks by run."""

    def __init__(self, results: RunResults) -> None:
        self._results = results
        self._kept: OrderedDict[str, tuple[CheckResult, ...]] = OrderedDict()

    async def of(self, run_ids: set[str]) -> dict[str, tuple[CheckResult, ...]]:
        """Failed checks of each run; none for a run whose log was deleted."""
        found = await asyncio.gather(*(self._of_run(run_id) for run_id in sorted(run_ids)))
        return dict(zip(sorted(run_ids), found, strict=True))

    async def _of_run(self, run_id: str) -> tuple[CheckResult, ...]:
        if run_id in self._kept:
            self._kept.move_to_end(run_id)
            return self._kept[run_id]
        result = await self._results.of(run_id)
        if result.finished:
            self._kept[run_id] = result.failing
            if len(self._kept) > _KEPT_RUNS:
                self._kept.popitem(last=False)
        return result.failing
