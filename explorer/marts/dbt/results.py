"""The result of each model and test, from dbt's events while it runs and from its results at the end."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class NodeResult:
    """The result of one model or test.

    `status`: success, error, skipped for models; pass, fail, warn, error, skipped for tests. `message`: dbt's text, None on
    success. `relation`: schema.table of a model. `rows`: of a built table; failing rows of a test.
    `columns`: name to description. `attached_node`: unique id of the model that a test belongs to. `severity`: of a test.
    `sql`: what dbt compiled: it returns the rows of a table or the number of a test; empty when nothing was compiled.
    """

    unique_id: str
    name: str
    resource_type: str
    status: str
    message: str | None
    relation: str | None
    rows: int | None
    duration_s: float
    description: str = ""
    columns: Mapping[str, str] = field(default_factory=dict)
    depends_on: tuple[str, ...] = ()
    attached_node: str | None = None
    severity: str = "error"
    sql: str = field(default="", repr=False)

    @property
    def tested_model(self) -> str:
        """Name of the model that a test belongs to; empty if there is none."""
        return name_of(self.attached_node or "")


@dataclass(frozen=True)
class DbtResult:
    """All results of a run. `success`: no model or test failed or was skipped."""

    success: bool
    results: tuple[NodeResult, ...]
    duration_s: float

    @property
    def failed(self) -> tuple[NodeResult, ...]:
        """Results other than success."""
        return tuple(
            result for result in self.results if result.status in ("error", "fail", "skipped", "runtime error")
        )


def name_of(unique_id: str) -> str:
    """The model's name in dbt's `model.<package>.<name>`."""
    return unique_id.rpartition(".")[2]


def from_event(data: Any, node: Any) -> NodeResult:
    """`data`: of dbt's event `NodeFinished`; `node`: of the manifest."""
    result, info = data.run_result, data.node_info
    rows = dict(result.adapter_response).get("rows_affected") if node.resource_type == "model" else result.num_failures
    return _result(node, info.node_status, result.message, rows, result.execution_time)


def from_run_result(result: Any) -> NodeResult:
    """`result`: dbt's `RunResult`."""
    rows = result.adapter_response.get("rows_affected") if result.node.resource_type == "model" else result.failures
    return _result(result.node, str(result.status), result.message, rows, result.execution_time)


def _result(node: Any, status: str, message: str | None, rows: Any, duration_s: float) -> NodeResult:
    is_model = node.resource_type == "model"
    good = status in ("success", "pass")
    is_view = is_model and node.config.materialized == "view"
    return NodeResult(
        unique_id=node.unique_id,
        name=node.name,
        resource_type=str(node.resource_type),
        status=status,
        message=None if good else (message or None),
        relation=f"{node.schema}.{node.alias}" if is_model else None,
        rows=int(rows) if rows is not None and rows >= 0 and not is_view and (good or not is_model) else None,
        duration_s=float(duration_s),
        description=node.description,
        columns={name: column.description for name, column in getattr(node, "columns", {}).items()},
        depends_on=tuple(node.depends_on.nodes),
        attached_node=getattr(node, "attached_node", None),
        severity=node.config.severity.lower() if node.resource_type == "test" else "error",
        sql="" if is_view else _sql(node),
    )


def _sql(node: Any) -> str:
    compiled = getattr(node, "compiled_code", None) or ""
    if not compiled or node.resource_type != "test":
        return compiled
    return f"select {node.config.fail_calc} from (\n{compiled}\n) as found"  # noqa: S608 - dbt's own
