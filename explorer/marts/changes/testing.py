"""Runs dbt's tests of updated tables without dbt."""

import time
from collections.abc import Collection, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, wait
from functools import partial
from itertools import chain

import msgspec
import psycopg

from explorer.contract.bookkeeping import statements
from explorer.contract.bookkeeping.statements import Statement
from explorer.marts.changes.conditions import cut_down_test
from explorer.marts.changes.gathered import Change, is_small
from explorer.marts.changes.pool import POLL_S, Pool
from explorer.marts.changes.results import result_of
from explorer.marts.dbt.results import NodeResult
from explorer.marts.project import TenantProject
from explorer.postgres.connections import Connection

# This many tests of small tables share one query.
_AT_ONCE = 20


def run_tests(
    connection: Connection,
    pool: Pool,
    project: TenantProject,
    done: Mapping[str, Change],
    left: Collection[str],
    failed: Collection[str],
) -> Iterator[NodeResult]:
    """Run the tests that read the models `done`, except those that also read `left`: dbt will run these.

    A test that can be limited to changed records (`is_wanted`) checks only these, unless it is among `failed`, the
    tests that found something in the last run.
    """
    long: list[Statement] = []
    short: list[Statement] = []
    for node in statements.of_tests(connection, project.schemas, done, left):
        statement = node.statement
        if statement.name not in failed:
            changed_parents = {parent: done[parent] for parent in node.compiled.parents if parent in done}
            of_changes = cut_down_test(connection, project, statement.sql, node.model, changed_parents)
            statement = msgspec.structs.replace(statement, sql=of_changes)
        is_long = node.model in done and not is_small(done[node.model].rows)
        (long if is_long else short).append(statement)
    running = {pool(partial(_test, [statement])) for statement in long}
    running |= {pool(partial(_test, short[start : start + _AT_ONCE])) for start in range(0, len(short), _AT_ONCE)}
    while running:
        finished, running = wait(running, timeout=POLL_S, return_when=FIRST_COMPLETED)
        yield from chain.from_iterable(future.result() for future in finished)


def _test(statements: Sequence[Statement], connection: Connection) -> list[NodeResult]:
    """The results of these tests in one query: the round trip takes longer than most tests."""
    began = time.monotonic()
    try:
        query = ", ".join(f"(\n{statement.sql}\n)" for statement in statements)
        [counts] = connection.execute(f"select {query}".encode()).fetchall()
    except psycopg.Error as error:
        if connection.broken:
            raise
        if len(statements) > 1:
            return [_test([statement], connection)[0] for statement in statements]
        return [result_of(statements[0], "error", None, str(error), time.monotonic() - began)]
    each_s = (time.monotonic() - began) / len(statements)
    return [_found(statement, int(count), each_s) for statement, count in zip(statements, counts, strict=True)]


def _found(statement: Statement, found: int, duration_s: float) -> NodeResult:
    level = "warn" if statement.severity == "warn" else "fail"
    message = f"Got {found} result{'s' if found != 1 else ''}, configured to {level} if != 0" if found else None
    return result_of(statement, level if found else "pass", found, message, duration_s)
