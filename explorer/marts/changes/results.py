"""Results of statements that ran without dbt, in the form of dbt's results."""

from explorer.contract.bookkeeping.statements import Statement
from explorer.marts.dbt.results import NodeResult


def result_of(
    statement: Statement, status: str, rows: int | None, message: str | None, duration_s: float
) -> NodeResult:
    """`rows`: of a table, or the count of a test."""
    return NodeResult(
        unique_id=statement.unique_id,
        name=statement.name,
        resource_type=statement.resource_type,
        status=status,
        message=message,
        relation=None,
        rows=rows,
        duration_s=duration_s,
        attached_node=statement.attached_node,
        severity=statement.severity,
    )
