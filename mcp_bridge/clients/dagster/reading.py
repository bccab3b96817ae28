"""Turns the JSON of GraphQL answers into records."""

import json
import logging
from datetime import UTC, datetime
from typing import Any

from explorer.contract.materializations import Tables
from explorer.contract.tags import RunTags
from mcp_bridge.clients.dagster.errors import DagsterUnauthorized, unavailable
from mcp_bridge.clients.dagster.records import AssetState, CheckResult, Run, RunEvent

# The errors that a cancel causes in a step: Dagster's own, and the one in code that handles the signal itself.
_INTERRUPTS = frozenset({"DagsterExecutionInterruptedError", "KeyboardInterrupt"})
# A daemon tells that it lives every 30 s. Dagster itself believes in one for half an hour after its last sign, so that one that
# hangs would pass for healthy. The alert ExplorerDaemonSilent waits as long.
_SILENT_S = 120.0
_log = logging.getLogger(__name__)


def plain_metadata(entries: list[dict[str, Any]]) -> dict[str, Any]:
    """Dagster's typed metadata entries as `{label: plain value}`, without the kinds that have no plain value."""
    return {entry["label"]: value for entry in entries if (value := _metadata_value(entry)) is not None}


def _metadata_value(entry: dict[str, Any]) -> Any:
    if entry.get("intRepr") is not None:
        return int(entry["intRepr"])
    if entry.get("jsonString") is not None:
        return json.loads(entry["jsonString"])
    for name in ("floatValue", "text", "boolValue", "mdStr", "url", "path", "unixTime"):
        if entry.get(name) is not None:
            return entry[name]
    return None


def unhealthy_daemons(rows: list[dict[str, Any]], now: float) -> tuple[str, ...]:
    """The required ones that Dagster calls so, and those that have given no sign of life for two minutes. `now`: since 1970.

    Neither has one whose sign lies ahead: the clock was set back since, and it waits for that moment to come again.
    """

    def is_well(row: dict[str, Any]) -> bool:
        return bool(row["healthy"]) and abs(now - (row["lastHeartbeatTime"] or 0.0)) <= _SILENT_S

    return tuple(row["daemonType"] for row in rows if row["required"] and not is_well(row))


def read_run(row: dict[str, Any]) -> Run:
    return Run(
        run_id=row["runId"],
        job=row["jobName"],
        status=row["status"],
        tags=RunTags.from_tags({tag["key"]: tag["value"] for tag in row["tags"]}),
        created_at=_at(row.get("creationTime")),
        started_at=_at(row.get("startTime")),
        ended_at=_at(row.get("endTime")),
        assets=_asset_keys(row.get("assetSelection")),
    )


def _asset_keys(rows: list[dict[str, Any]] | None) -> frozenset[tuple[str, ...]] | None:
    return frozenset(tuple(row["path"]) for row in rows) if rows is not None else None


def read_event(row: dict[str, Any]) -> RunEvent:
    evaluation = row.get("evaluation")
    check = None
    if evaluation is not None:
        check = CheckResult(
            name=evaluation["checkName"],
            asset_key=tuple(evaluation["assetKey"]["path"]),
            passed=evaluation["success"],
            severity=evaluation["severity"],
            description=evaluation["description"],
            metadata=plain_metadata(evaluation["metadataEntries"]),
        )
    key = row.get("assetKey")
    return RunEvent(
        kind=row["__typename"],
        at=datetime.fromtimestamp(float(row["timestamp"]) / 1000, UTC),
        message=row["message"],
        level=row["level"],
        step_key=row["stepKey"],
        asset_key=tuple(key["path"]) if key else None,
        partition=row.get("partition"),
        metadata=plain_metadata(row.get("metadataEntries") or []),
        check=check,
        error=_innermost(row["error"]) if row.get("error") else None,
        interrupted=row["__typename"] == "ExecutionStepFailureEvent" and _is_interrupt(row.get("error")),
    )


def _is_interrupt(error: dict[str, Any] | None) -> bool:
    chain = [error, *(error.get("causes") or [])] if error else []
    return any(part["className"] in _INTERRUPTS for part in chain)


def _innermost(error: dict[str, Any]) -> str:
    """The root cause: the innermost error of the chain, without its stack trace."""
    causes = error.get("causes") or []
    return str((causes[-1] if causes else error)["message"]).strip()


def read_asset(node: dict[str, Any]) -> AssetState:
    latest = next((m for m in node.get("latestMaterializationByPartition") or [] if m), None)
    return AssetState(
        key=tuple(node["assetKey"]["path"]),
        description=node["description"],
        group=node["groupName"],
        kinds=tuple(node["kinds"]),
        upstream=tuple(tuple(key["path"]) for key in node["dependencyKeys"]),
        downstream=tuple(tuple(key["path"]) for key in node["dependedByKeys"]),
        run_id=latest["runId"] if latest else None,
        materialized_at=datetime.fromtimestamp(float(latest["timestamp"]) / 1000, UTC) if latest else None,
        metadata=Tables.from_metadata(plain_metadata(latest["metadataEntries"]) if latest else {}),
    )


def _at(seconds: float | None) -> datetime | None:
    return datetime.fromtimestamp(seconds, UTC) if seconds else None


def require(answer: dict[str, Any], typename: str) -> None:
    if answer["__typename"] == "UnauthorizedError":
        raise DagsterUnauthorized(
            "Dagster's webserver is read-only.", next_step="Point EXPLORER_DAGSTER_URL to one that accepts mutations."
        )
    if answer["__typename"] != typename:
        _log.info("Dagster answered %s: %s", answer["__typename"], answer.get("message", ""))
        raise unavailable("it failed while answering")


def require_no_fault(answer: dict[str, Any]) -> None:
    """Raise when Dagster reports an internal fault. Its message is only logged: it names addresses and classes."""
    if answer["__typename"] == "PythonError":
        require(answer, "")


def first_line(text: str) -> str:
    lines = text.strip().splitlines()
    return lines[0][:300] if lines else ""
