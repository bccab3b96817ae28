"""How do a tenant's tables come up to date in one run? What changed is applied where that is enough, the rest is built by dbt.

A model whose changes cannot be applied, for whatever reason, is built by dbt in the same run.
"""

from collections.abc import Callable, Collection

from explorer.contract.bookkeeping import unfit_values
from explorer.marts.builds import Connection, Plan, begin, record
from explorer.marts.changes.applying import OnFailure, apply_changes
from explorer.marts.changes.gathered import drop_gathered
from explorer.marts.changes.pool import open_pool
from explorer.marts.changes.testing import run_tests
from explorer.marts.dbt.results import NodeResult
from explorer.marts.dbt.runner import run
from explorer.marts.project import TenantProject
from explorer.postgres.connections import Login


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
    """Bring the models `wanted` up to date and record it; `by_need`: those among them that are stale, else all, by dbt alone.

    `database`: the tenant's writing login; `connection`: to it, in autocommit mode. `on_result` is called in this thread as each
    model or test ends, `on_fallback` with a model whose changes could not be applied, so that dbt builds it, and the reason.

    Raises:
        TransformBusy, TransformFailed: dbt could not run.
        psycopg.Error: the connection broke.
    """
    select = set(wanted) & planned.stale if by_need else set(wanted)
    results: list[NodeResult] = []

    def collect(result: NodeResult) -> None:
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
