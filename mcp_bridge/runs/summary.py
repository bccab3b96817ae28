"""Summarizes a run and its log for a caller, at any moment of the run.

Pure functions over runs and events. The Dagster client reads them; the tools wait.
"""

import re
from typing import Any

from explorer.contract.checks import facts_of
from explorer.contract.materializations import Summary
from explorer.contract.names import within_pipeline
from mcp_bridge.answers.envelope import age_s, iso, without_nulls
from mcp_bridge.clients.dagster.client import DagsterClient
from mcp_bridge.clients.dagster.records import Run, RunEvent
from mcp_bridge.runs.progress import ProgressLines

_MAX_LISTED = 60
_MAX_ERROR_CHARS = 2000
_CLASS = re.compile(r"^(?:\w+\.)+\w+: ")
# Source: dagster._daemon.monitoring, which puts the launcher's message between these.
_OF_THE_MONITOR = re.compile(r"Detected run worker status \w+: '(.+)'\. Marking run ", re.DOTALL)


def run_row(dagster: DagsterClient, run: Run) -> dict[str, Any]:
    """A run in a list."""
    return {
        "run_id": run.run_id,
        "pipeline": run.job,
        "status": run.status,
        "created_at": iso(run.created_at),
        "age_s": age_s(run.created_at),
        "duration_s": round(run.duration_s, 1) if run.duration_s is not None else None,
        "requested_by": run.tags.requested_by or run.tags.schedule,
        "full_refresh": run.tags.full_refresh,
        "run_url": dagster.run_url(run.run_id),
    }


def run_summary(dagster: DagsterClient, run: Run, events: list[RunEvent]) -> dict[str, Any]:
    """A run and its work so far: steps, rows per asset, failed checks, errors with their cause."""
    steps = _steps(run, events)
    summary = run_row(dagster, run) | {
        "finished": run.finished,
        "started_at": iso(run.started_at),
        "ended_at": iso(run.ended_at),
        "steps": steps,
        "assets": _assets(events)[:_MAX_LISTED],
        "failing_checks": _failing(events)[:_MAX_LISTED],
        "errors": _errors(events),
    }
    if not run.finished:
        summary["now"] = ProgressLines().last_line(events) or run.status.lower()
    return summary


def _steps(run: Run, events: list[RunEvent]) -> dict[str, str]:
    states = {
        "ExecutionStepStartEvent": "running",
        "ExecutionStepSuccessEvent": "succeeded",
        "ExecutionStepFailureEvent": "failed",
        "ExecutionStepSkippedEvent": "skipped",
        "ExecutionStepUpForRetryEvent": "waiting to retry",
    }
    steps = {event.step_key: states[event.kind] for event in events if event.step_key and event.kind in states}
    stopped = {event.step_key for event in events if event.interrupted}
    cut_off = {"running", "waiting to retry"} if run.status == "CANCELED" else set()
    return {name: "canceled" if name in stopped or state in cut_off else state for name, state in steps.items()}


def _assets(events: list[RunEvent]) -> list[dict[str, Any]]:
    rows = []
    for event in events:
        if event.kind == "MaterializationEvent" and event.asset_key:
            found = Summary.from_metadata(event.metadata)
            rows.append(
                without_nulls(
                    {
                        "asset": within_pipeline(event.asset_key),
                        "row_count": found.row_count,
                        "rows_landed": found.rows_landed,
                        "rows_rejected": found.rows_rejected or None,
                        "skipped_reason": found.skipped_reason,
                        "tables": found.table_count,
                        "tables_failed": found.failed or None,
                    }
                )
            )
    return rows


def _failing(events: list[RunEvent]) -> list[dict[str, Any]]:
    return [
        {
            "asset": within_pipeline(event.check.asset_key),
            "check": event.check.name,
            "severity": event.check.severity,
            **({"description": event.check.description} if event.check.description else {}),
            "facts": {
                key: value[:200] if isinstance(value, str) else value
                for key, value in facts_of(event.check.metadata).items()
            },
        }
        for event in events
        if event.check is not None and not event.check.passed
    ]


def first_cause(events: list[RunEvent]) -> str | None:
    """Why a run failed, in the words of the first failed step; None when its log does not say."""
    return next((error["cause"] for error in _errors(events)), None)


def without_frame(message: str) -> str:
    """The message without what Dagster adds: the error's class, the monitor's remark on a lost worker."""
    found = _OF_THE_MONITOR.search(message)
    return f"{found.group(1)}." if found else _CLASS.sub("", message)


def _errors(events: list[RunEvent]) -> list[dict[str, str]]:
    errors = [
        {"step": event.step_key or "run", "cause": without_frame(event.error)[:_MAX_ERROR_CHARS]}
        for event in events
        if event.kind == "ExecutionStepFailureEvent" and event.error and not event.interrupted
    ]
    if not errors:
        errors = [
            {"step": "run", "cause": without_frame(event.error or event.message)[:_MAX_ERROR_CHARS]}
            for event in events
            if event.kind == "RunFailureEvent"
        ]
    return errors[:10]
