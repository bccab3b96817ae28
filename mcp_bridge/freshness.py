"""How old may a table be before it counts as stale? As old as its pipeline's schedule lets it become, else a day."""

import time
from dataclasses import dataclass

from explorer_dagster.registry import Pipeline
from mcp_bridge.dagster_client import DagsterClient

STALE_AFTER_S = 24 * 3600
# What a run may take after the schedule has started it.
_GRACE_S = 3600
_ASKED_AGAIN_S = 60.0


@dataclass(frozen=True)
class FreshnessRule:
    """Tables older than `stale_after_s` are stale; `because` says why, in words."""

    stale_after_s: int = STALE_AFTER_S
    because: str = f"No schedule runs: older than {STALE_AFTER_S // 3600} h is stale."


NO_SCHEDULE = FreshnessRule()


class FreshnessRules:
    """The rule of each pipeline; whether its schedule runs is asked of Dagster at most once a minute, for all tenants."""

    def __init__(self, dagster: DagsterClient) -> None:
        self._dagster = dagster
        self._known: dict[str, tuple[float, FreshnessRule]] = {}

    async def of(self, pipeline: Pipeline) -> FreshnessRule:
        """Raises: DagsterUnavailable."""
        now_s = time.monotonic()
        asked_at_s, rule = self._known.get(pipeline.name, (-_ASKED_AGAIN_S, NO_SCHEDULE))
        if now_s - asked_at_s >= _ASKED_AGAIN_S:
            rule = await self._ask(pipeline)
            self._known[pipeline.name] = (now_s, rule)
        return rule

    async def _ask(self, pipeline: Pipeline) -> FreshnessRule:
        if pipeline.schedule is None:
            return NO_SCHEDULE
        schedule = await self._dagster.schedule(f"{pipeline.name}_schedule")
        if schedule is None or not schedule.running or schedule.interval_s is None:
            return NO_SCHEDULE
        limit_s = schedule.interval_s + _GRACE_S
        hours = round(limit_s / 3600, 1)
        return FreshnessRule(
            limit_s, f"Schedule {schedule.cron} ({schedule.timezone}) and an hour: older than {hours:g} h is stale."
        )
