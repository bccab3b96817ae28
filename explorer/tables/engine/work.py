"""How is the work of an update done? Each table after those that it reads, several at a time."""

import time
from collections.abc import Callable, Mapping
from concurrent.futures import FIRST_COMPLETED, Future, wait
from dataclasses import replace
from functools import partial
from graphlib import TopologicalSorter

import psycopg

from explorer.contract.bookkeeping import builds as build_records
from explorer.contract.bookkeeping.run_changes import RowCounts
from explorer.contract.schemas import TenantSchemas
from explorer.postgres.connections import Connection
from explorer.tables.engine.applying import apply
from explorer.tables.engine.building import build
from explorer.tables.engine.causes import because_of, cause_of, named
from explorer.tables.engine.changed import Changed
from explorer.tables.engine.planning import Task
from explorer.tables.engine.results import TableResult
from explorer.tables.engine.sessions import POLL_S, Pool

OnResult = Callable[[TableResult], None]


def do_tasks(
    pool: Pool, schemas: TenantSchemas, tasks: Mapping[str, Task], run_id: str, on_result: OnResult
) -> dict[str, TableResult]:
    """Build and change the tables; those that read a failed one are skipped. `on_result` is called in this thread."""
    order = TopologicalSorter(
        {name: [read for read in task.table.reads if read in tasks] for name, task in tasks.items()}
    )
    order.prepare()
    results: dict[str, TableResult] = {}
    running: dict[Future[TableResult], str] = {}
    while order.is_active():
        for name in order.get_ready():
            if failed := _failed_before(tasks[name], results):
                results[name] = TableResult(name, "skipped", None, because_of(failed), roots=tuple(failed))
                order.done(name)
                on_result(results[name])
            else:
                running[pool(partial(_do, schemas, tasks[name], run_id))] = name
        for future in wait(running, timeout=POLL_S, return_when=FIRST_COMPLETED).done:
            name = running.pop(future)
            results[name] = future.result()
            order.done(name)
            on_result(results[name])
    return results


def _failed_before(task: Task, results: Mapping[str, TableResult]) -> dict[str, str]:
    """The failed tables that this one needs, and why they failed."""
    reads = [results[read] for read in task.table.reads if read in results]
    names = dict.fromkeys(root for result in reads for root in result.roots)
    return {name: results[name].message or "" for name in names}


def _do(schemas: TenantSchemas, task: Task, run_id: str, connection: Connection) -> TableResult:
    began = time.monotonic()
    try:
        result = _change_or_build(connection, schemas, task, run_id)
    except psycopg.Error as error:
        if connection.broken:
            raise
        name = task.table.name
        result = TableResult(name, "failed", None, cause_of(error), roots=(name,))
    return replace(result, duration_s=time.monotonic() - began)


def _change_or_build(connection: Connection, schemas: TenantSchemas, task: Task, run_id: str) -> TableResult:
    said = []
    if task.changed is not None:
        try:
            return _change(connection, schemas, task, task.changed, run_id)
        except psycopg.errors.QueryCanceled:
            raise
        except psycopg.Error as error:
            if connection.broken:
                raise
            said.append(f"built as a whole, because its changes could not be applied: {cause_of(error)}")
    with connection.transaction():
        rows, counts, lost = build(connection, schemas, task.table)
        _record(connection, schemas, task, run_id, rows, counts, whole=True)
    if lost:
        said.append(f"without the views {named(lost)}, which do not fit it any more: dbt builds them again")
    return TableResult(task.table.name, "built", rows, "; ".join(said) or None)


def _change(connection: Connection, schemas: TenantSchemas, task: Task, changed: Changed, run_id: str) -> TableResult:
    name, before = task.table.name, (task.before.rows if task.before else None) or 0
    with connection.transaction():
        rows, counts = apply(connection, schemas, task.table, changed, before)
        if counts:
            _record(connection, schemas, task, run_id, rows, counts, whole=False)
        else:
            build_records.unchanged_since(connection, schemas, {name: (task.definition, task.built_from)})
    return TableResult(name, "applied" if counts else "unchanged", rows)


def _record(
    connection: Connection,
    schemas: TenantSchemas,
    task: Task,
    run_id: str,
    rows: int,
    counts: RowCounts | None,
    *,
    whole: bool,
) -> None:
    build_records.record(
        connection,
        schemas,
        task.table.name,
        definition=task.definition,
        built_from=task.built_from,
        run_id=run_id,
        rows=rows,
        whole=whole,
        counts=counts,
    )
