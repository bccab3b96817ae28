"""Results of statements that ran without dbt, as dbt would have given them."""

from explorer.contract.bookkeeping.statements import Statement
from explorer.marts.dbt.results import NodeResult


def result_of(
    statement: Statement, status: str, rows: int | None, message: str | None, duration_s: float
) -> NodeResult:
    """`rows`: of a table, or that a test found."""
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
