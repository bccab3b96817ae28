"""How old may a table be before it counts as stale? The running schedule decides; without one, a day."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol

from explorer.registry import Pipeline

STALE_AFTER_S = 24 * 3600
# The time that a scheduled run may take.
_GRACE_S = 3600

Status = Literal["running", "stopped", "unknown"]


@dataclass(frozen=True)
class FreshnessRule:
    """Tables older than `stale_after_s` are stale; `because` is the reason in words."""

    stale_after_s: int = STALE_AFTER_S
    because: str = f"No schedule runs: older than {STALE_AFTER_S // 3600} h is stale."


NO_SCHEDULE = FreshnessRule()


def strictest(rules: Sequence[FreshnessRule]) -> FreshnessRule:
    """The rule for a tenant with several pipelines."""
    return min(rules, key=lambda rule: rule.stale_after_s, default=NO_SCHEDULE)


@dataclass(frozen=True)
class ScheduleState:
    """A pipeline's schedule. `interval_s`: seconds between its next two ticks, if it is running and has two."""

    cron: str
    timezone: str
    status: Status
    interval_s: int | None = None

    def row(self) -> dict[str, Any]:
        """The schedule in an answer."""
        return {"cron": self.cron, "timezone": self.timezone, "status": self.status}

    @property
    def rule(self) -> FreshnessRule:
        """The freshness rule that follows from the schedule."""
        hours = STALE_AFTER_S // 3600
        if self.status == "unknown":
            return FreshnessRule(
                because=f"Whether schedule {self.cron} ({self.timezone}) runs is unknown, Dagster does not answer: older than "
                f"{hours} h is stale."
            )
        if self.status == "stopped" or self.interval_s is None:
            return FreshnessRule(
                because=f"Schedule {self.cron} ({self.timezone}) is stopped, no run starts by itself: older than {hours} h "
                "is stale."
            )
        limit_s = self.interval_s + _GRACE_S
        return FreshnessRule(
            limit_s,
            f"Schedule {self.cron} ({self.timezone}) and an hour: older than {round(limit_s / 3600, 1):g} h is stale.",
        )


class FreshnessRules(Protocol):
    """Source of the freshness rules; it knows which schedules are running."""

    async def of(self, pipeline: Pipeline) -> FreshnessRule:
        """The current rule."""

    def latest(self, pipeline: Pipeline) -> FreshnessRule:
        """The last known rule, for answers that do not wait for Dagster. An old rule is refreshed for the next call."""
