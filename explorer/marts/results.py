"""What did dbt say of one model or test? Plain values, that pass from dbt's process to ours."""

from dataclasses import dataclass
from typing import Any

SUCCESS = frozenset({"success", "pass", "no-op"})
FAILED = frozenset({"error", "fail", "runtime error"})
SKIPPED = frozenset({"skipped", "partial success"})


@dataclass(frozen=True)
class NodeResult:
    """The result of one model or test.

    `status`: success, error, skipped for models; pass, fail, warn, error, skipped for tests. `message`: dbt's text, None on
    success. `rows`: those that a statement wrote, or that a test found.
    """

    unique_id: str
    name: str
    resource_type: str
    status: str
    message: str | None
    rows: int | None
    duration_s: float


@dataclass(frozen=True)
class Outcome:
    """The end of a command. `is_success`: nothing failed; `error`: why dbt could not do it at all; `results`: of all nodes."""

    is_success: bool
    error: str | None = None
    results: tuple[NodeResult, ...] = ()


def from_event(data: Any) -> NodeResult:
    """`data`: of dbt's structured log event `NodeFinished`."""
    node, result = data.node_info, data.run_result
    rows = dict(result.adapter_response).get("rows_affected") if node.resource_type == "model" else result.num_failures
    return _result(
        node.unique_id,
        node.node_name,
        node.resource_type,
        status=node.node_status,
        message=result.message,
        rows=rows,
        duration_s=result.execution_time,
    )


def is_of_interest(result: Any) -> bool:
    """Whether an entry of dbt's results is that of a model or test."""
    return str(result.node.resource_type) in ("model", "test")


def from_run_result(result: Any) -> NodeResult:
    """`result`: an entry of dbt's `RunExecutionResult`."""
    node, is_model = result.node, str(result.node.resource_type) == "model"
    rows = result.adapter_response.get("rows_affected") if is_model else result.failures
    return _result(
        node.unique_id,
        node.name,
        str(node.resource_type),
        status=str(result.status),
        message=result.message,
        rows=rows,
        duration_s=result.execution_time,
    )


def _result(
    unique_id: str, name: str, kind: str, *, status: str, message: str | None, rows: Any, duration_s: float
) -> NodeResult:
    """A model that failed and a view have no rows: dbt gives them none, or -1."""
    told = int(rows) if rows is not None and rows >= 0 and (status in SUCCESS or kind != "model") else None
    return NodeResult(
        unique_id, name, kind, status, None if status in SUCCESS else message or None, told, float(duration_s)
    )
