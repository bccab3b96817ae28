"""Dagster's answers as records: runs, events, assets, schedules."""

from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Literal

from explorer.contract.materializations import Tables
from explorer.contract.tags import RunTags

RunStatus = Literal[
    "QUEUED",
    "NOT_STARTED",
    "MANAGED",
    "STARTING",
    "STARTED",
    "SUSPENDED",
    "SUCCESS",
    "FAILURE",
    "CANCELING",
    "CANCELED",
]
_ENDS = frozenset({"RunSuccessEvent", "RunFailureEvent", "RunCanceledEvent"})
ACTIVE: tuple[RunStatus, ...] = ("QUEUED", "NOT_STARTED", "STARTING", "STARTED", "CANCELING")
FINISHED: tuple[RunStatus, ...] = ("SUCCESS", "FAILURE", "CANCELED")


@dataclass(frozen=True)
class Run:
    """One Dagster run. Times are UTC. `assets`: the keys that it is restricted to; None for all assets of its job."""

    run_id: str
    job: str
    status: RunStatus
    tags: RunTags
    created_at: datetime | None
    started_at: datetime | None
    ended_at: datetime | None
    assets: frozenset[tuple[str, ...]] | None = None

    @property
    def tenant(self) -> str | None:
        return self.tags.partition_key

    @property
    def finished(self) -> bool:
        return self.status in FINISHED

    @property
    def duration_s(self) -> float | None:
        """Seconds from the start to the end, or until now while the run is active; None before it started.

        0 where the clock was set back since.
        """
        if self.started_at is None:
            return None
        return max(0.0, ((self.ended_at or datetime.now(UTC)) - self.started_at).total_seconds())


@dataclass(frozen=True)
class CheckResult:
    """One evaluation of an asset check."""

    name: str
    asset_key: tuple[str, ...]
    passed: bool
    severity: str
    description: str | None
    metadata: dict[str, Any]


@dataclass(frozen=True)
class RunEvent:
    """One entry of a run's log; `kind` is Dagster's type name (`ExecutionStepStartEvent`, `MaterializationEvent`).

    `interrupted`: the step failed only because the run was cancelled.
    """

    kind: str
    at: datetime
    message: str
    level: str
    step_key: str | None = None
    asset_key: tuple[str, ...] | None = None
    partition: str | None = None
    metadata: dict[str, Any] = field(default_factory=dict)
    check: CheckResult | None = None
    error: str | None = None
    interrupted: bool = False

    @property
    def ends_the_run(self) -> bool:
        """Whether a run ends with this event."""
        return self.kind in _ENDS


@dataclass(frozen=True)
class AssetState:
    """An asset's definition and its latest materialization in one partition (None: never materialized)."""

    key: tuple[str, ...]
    description: str | None
    group: str
    kinds: tuple[str, ...]
    upstream: tuple[tuple[str, ...], ...]
    downstream: tuple[tuple[str, ...], ...]
    run_id: str | None = None
    materialized_at: datetime | None = None
    metadata: Tables = field(default_factory=Tables)


@dataclass(frozen=True)
class Schedule:
    """A schedule's current state. Its ticks are not the tenants' turns, of which one tick takes many."""

    running: bool


@dataclass(frozen=True)
class Health:
    """The webserver's version, whether the code location is loaded, and which required daemons are unhealthy."""

    version: str
    code_loaded: bool
    error: str | None
    unhealthy_daemons: tuple[str, ...]
