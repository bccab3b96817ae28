"""Updates tables, each in one transaction."""

import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import FIRST_COMPLETED, Future, wait
from functools import partial
from graphlib import TopologicalSorter

import psycopg
from psycopg import sql

from explorer.contract.bookkeeping import statements
from explorer.contract.bookkeeping.statements import Statement
from explorer.marts.changes.conditions import in_table, rows_of_changes
from explorer.marts.changes.gathered import Change
from explorer.marts.changes.pool import POLL_S, Pool
from explorer.marts.changes.results import result_of
from explorer.marts.dbt.results import NodeResult
from explorer.marts.project import TenantProject
from explorer.postgres.connections import Connection

# Called with a model that could not be updated, and why.
OnFailure = Callable[[str, str], None]

# Statistics are renewed at once when a tenth of the rows is new; otherwise by autovacuum.
_ANALYZED = 10


def apply_changes(
    connection: Connection,
    pool: Pool,
    project: TenantProject,
    changes: Mapping[str, Change],
    on_failure: OnFailure,
) -> Iterator[NodeResult]:
    """Update the tables of these models, parents first, and report each result.

    A failed model and its children stay unchanged; `on_failure` is called for the failed one. `connection`: in autocommit mode;
    `pool`: runs the work.
    """
    kept = {
        node.model: (node.compiled.parents & set(changes), node.statement)
        for node in statements.of_models(connection, project.schemas, changes)
    }
    failed = set(changes) - set(kept)
    sorter = TopologicalSorter({name: parents for name, (parents, _) in kept.items()})
    sorter.prepare()
    running: dict[Future[NodeResult], str] = {}
    while sorter.is_active():
        for name in sorter.get_ready():
            if name in failed or kept[name][0] & failed:
                failed.add(name)
                sorter.done(name)
            else:
                running[pool(partial(_change, project, changes[name], kept[name][1]))] = name
        for future in wait(running, timeout=POLL_S, return_when=FIRST_COMPLETED).done:
            name = running.pop(future)
            result = future.result()
            if result.status == "success":
                yield result
            else:
                failed.add(name)
                on_failure(name, result.message or result.status)
            sorter.done(name)


def _change(project: TenantProject, change: Change, statement: Statement, connection: Connection) -> NodeResult:
    began = time.monotonic()
    try:
        rows = _apply(connection, project, change, statement.sql)
    except psycopg.Error as error:
        if connection.broken:
            raise
        return result_of(statement, "error", None, str(error), time.monotonic() - began)
    return result_of(statement, "success", rows, None, time.monotonic() - began)


def _apply(connection: Connection, project: TenantProject, change: Change, rows: str) -> int:
    """Returns the table's number of rows afterwards. `rows`: the model's SQL."""
    table = sql.Identifier(*change.relation)
    where: sql.Composable = sql.SQL("")
    if change.key is not None:
        rows = rows_of_changes(connection, project, change.key, change.group, rows)
        where = sql.SQL(" where ") + in_table(project, change.key, change.group)
    # Sent together, they are one transaction.
    delete = sql.SQL("delete from {table}{where}; insert into {table}").format(table=table, where=where)
    cursor = connection.execute(f"{delete.as_string(connection)} (\n{rows}\n)".encode())
    deleted = cursor.rowcount
    cursor.nextset()
    inserted = cursor.rowcount
    if max(deleted, inserted) * _ANALYZED > change.rows:
        connection.execute(sql.SQL("analyze {}").format(table))
    return inserted if change.key is None else change.rows - deleted + inserted
