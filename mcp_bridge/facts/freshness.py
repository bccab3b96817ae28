"""How old may a table be before it counts as stale? The running schedule decides; without one, a day.

A schedule looks for news before it reads. So two ages count: since somebody last asked the tenant's server, and since all that a
table is made from was read.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal, Protocol

from explorer.catalog import Tenant
from explorer.registry import Pipeline
from mcp_bridge.answers.envelope import age_s

STALE_AFTER_S = 24 * 3600
# The time that a scheduled run may take.
_GRACE_S = 3600

Status = Literal["running", "stopped", "unknown"]
Freshness = Literal["fresh", "stale", "unknown"]


@dataclass(frozen=True)
class FreshnessRule:
    """Tables are stale when the tenant's server was not asked for `stale_after_s`, or part of what they are made from was not
    read for `read_after_s`; `because` is the reason in words."""

    stale_after_s: int = STALE_AFTER_S
    read_after_s: int = STALE_AFTER_S
    because: str = f"No schedule runs: older than {STALE_AFTER_S // 3600} h is stale."

    def judge(self, read_at: datetime | None, asked_at: datetime | None) -> Freshness:
        """`read_at`: all that something is made from was read since; `asked_at`: when the tenant's server was last asked."""
        read, asked = age_s(read_at), age_s(asked_at)
        if read is None:
            return "unknown"
        is_old = read > self.read_after_s or (read if asked is None else asked) > self.stale_after_s
        return "stale" if is_old else "fresh"


NO_SCHEDULE = FreshnessRule()


def strictest(rules: Sequence[FreshnessRule]) -> FreshnessRule:
    """The rule for a tenant with several pipelines."""
    return min(rules, key=lambda rule: rule.stale_after_s, default=NO_SCHEDULE)


@dataclass(frozen=True)
class ScheduleState:
    """What tenants follow, or one of them. `interval_s`: seconds between two turns; `trusted_s`: the longest time without a run
    where looks find no news; `target_s`: how long ago the server may have been asked, where that was set."""

    cron: str
    timezone: str
    status: Status
    interval_s: int
    trusted_s: int = STALE_AFTER_S
    target_s: int | None = None

    def row(self) -> dict[str, Any]:
        """The schedule in an answer."""
        return {"cron": self.cron, "timezone": self.timezone, "status": self.status}

    @property
    def rule(self) -> FreshnessRule:
        """The freshness rule that follows from the schedule."""
        hours = STALE_AFTER_S // 3600
        if self.target_s is not None:
            read_s = max(self.target_s, self.trusted_s + _GRACE_S)
            return FreshnessRule(
                self.target_s,
                read_s,
                f"The target: stale when the server was not asked for news for {_hours(self.target_s)} h, or a part not read for "
                f"{_hours(read_s)} h.",
            )
        if self.status == "unknown":
            return FreshnessRule(
                because=f"Whether schedule {self.cron} ({self.timezone}) runs is unknown, Dagster does not answer: older than "
                f"{hours} h is stale."
            )
        if self.status == "stopped":
            return FreshnessRule(
                because=f"Schedule {self.cron} ({self.timezone}) is stopped, no run starts by itself: older than {hours} h "
                "is stale."
            )
        limit_s, read_s = self.interval_s + _GRACE_S, max(self.interval_s, self.trusted_s) + _GRACE_S
        return FreshnessRule(
            limit_s,
            read_s,
            f"Schedule {self.cron} ({self.timezone}) and an hour: stale when the server was not asked for news for "
            f"{_hours(limit_s)} h, or a part not read for {_hours(read_s)} h.",
        )


def _hours(seconds: int) -> str:
    return f"{round(seconds / 3600, 1):g}"


class FreshnessRules(Protocol):
    """Source of the freshness rules; it knows which schedules are running, and what was chosen for tenants."""

    async def of(self, pipeline: Pipeline, tenant: Tenant | None = None) -> FreshnessRule:
        """The current rule."""

    def latest(self, pipeline: Pipeline, tenant: Tenant) -> FreshnessRule:
        """The last known rule, for answers that do not wait for Dagster. An old rule is refreshed for the next call."""
