"""How are a tenant's tables updated in one run? Changes are applied where possible; dbt builds the rest.

When a model's changes cannot be applied, dbt builds it in the same run.
"""

from collections.abc import Callable, Collection

from explorer.contract.bookkeeping import unfit_values
from explorer.marts.builds import begin, record
from explorer.marts.changes.applying import OnFailure, apply_changes
from explorer.marts.changes.gathered import drop_gathered
from explorer.marts.changes.pool import open_pool
from explorer.marts.changes.testing import run_tests
from explorer.marts.dbt.results import NodeResult
from explorer.marts.dbt.runner import run
from explorer.marts.planning import Plan
from explorer.marts.project import TenantProject
from explorer.postgres.connections import Connection, Login


def refresh(
    connection: Connection,
    project: TenantProject,
    planned: Plan,
    wanted: Collection[str],
    *,
    by_need: bool,
    database: Login,
    on_result: Callable[[NodeResult], None],
    on_fallback: OnFailure,
) -> list[NodeResult]:
    """Update the models `wanted` and record their builds; `by_need`: only stale ones, otherwise all of them by dbt.

    `database`: the tenant's rw login; `connection`: to it, in autocommit mode. `on_result` is called in this thread when a model
    or test ends; `on_fallback` with each model whose changes could not be applied, and the reason.

    Raises:
        TransformBusy, TransformFailed: dbt could not run.
        psycopg.Error: the connection broke.
    """
    select = set(wanted) & planned.stale if by_need else set(wanted)
    results: list[NodeResult] = []

    def collect(result: NodeResult) -> None:
        # Yielding results while dbt runs would let an interrupt between two yields leave its queries running.
        results.append(result)
        on_result(result)

    begin(connection, project, select)
    incremental = {name: change for name, change in planned.changes.items() if name in select} if by_need else {}
    unfit_values.forget(connection, project.schemas, incremental)
    done = set()
    with open_pool(database) as pool:
        for result in apply_changes(connection, pool, project, incremental, on_fallback):
            done.add(result.name)
            collect(result)
        left = select - done
        failed = {finding.test for findings in planned.findings.values() for finding in findings}
        applied = {name: incremental[name] for name in done}
        for result in run_tests(connection, pool, project, applied, left, failed):
            collect(result)
    if left:
        everything = None if len(left) == len(planned.models) else sorted(left)
        run(project, login=database, select=everything, on_result=collect)
    record(connection, project, planned, results)
    drop_gathered(connection, project.schemas, project.change_keys)
    return results
