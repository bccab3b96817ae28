"""How are tables updated without dbt? By the SQL that dbt compiled in their last build, run for changed rows only.

A model whose rows each come from one case, one submission or one day's submissions declares that (macro `is_wanted`): its rows
of the changed ones are deleted and inserted again. A small table of any other kind is rewritten. Both are one transaction that
keeps the table: readers do not wait and see the rows before or after. The tests of these tables, and tests that read them, run
as dbt compiled them.

`builds` decides for which models this is possible. dbt builds every model whose definition changed.
"""

import re
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from graphlib import TopologicalSorter
from itertools import chain
from queue import Empty, SimpleQueue
from typing import Any, LiteralString, Protocol, TypeVar

import msgspec
import psycopg
from psycopg import sql

from explorer.contract.bookkeeping import statements
from explorer.contract.bookkeeping.statements import CompiledModel, CompiledNode, Statement
from explorer.contract.schemas import TenantSchemas
from explorer.marts.project import TenantProject
from explorer.marts.runner import SESSION, NodeResult
from explorer.postgres.connections import Login
from explorer.tables.plan import ChangeKey

Connection = psycopg.Connection[tuple[Any, ...]]
Relation = tuple[str, str]
T = TypeVar("T")
# Called with a model that could not be updated, and why.
OnFailure = Callable[[str, str], None]

_CHANGED = "explorer_changed_"
# Beyond this part of the table a full build costs less and leaves no dead rows behind.
_SHARE, _FEW = 5, 200
_SMALL = 50_000
# Statistics are renewed at once when a tenth of the rows is new; otherwise by autovacuum.
_ANALYZED = 10
# The marks that the macro `is_wanted` writes: a key and, where it refers to another table, the column.
_MARK = re.compile(r"""true /\*'(\w+)'(?: (\w+))?\*/""")
# This many tests of small tables share one query.
_AT_ONCE = 20
# As many threads as dbt has.
_CONNECTIONS = 4
_WAIT_S, _CANCEL_EVERY_S = 0.2, 0.05
# The last commit, of the builds' records, waits for the disk; the commits before need not.
_SET_SESSION = sql.SQL("; ").join(
    sql.SQL("set {} = {}").format(sql.Identifier(name), sql.Literal(value))
    for name, value in {**SESSION, "synchronous_commit": "off"}.items()
)


class Pool(Protocol):
    """Runs work on one of a few connections."""

    def __call__(self, work: Callable[[Connection], T]) -> Future[T]: ...


@dataclass(frozen=True)
class Change:
    """What to do with one table. `key`: of the changed rows, None to rewrite the table; `group`: the case type or form whose
    rows it holds; `rows`: its number of rows."""

    relation: Relation
    key: str | None
    group: str | None
    rows: int


class Changes:
    """The changed records, collected once into tables of the staging schema."""

    def __init__(
        self,
        connection: Connection,
        schemas: TenantSchemas,
        change_keys: Mapping[str, ChangeKey],
        marts: Collection[str],
    ) -> None:
        """`marts`: existing tables."""
        self._connection, self._schemas, self._marts = connection, schemas, marts
        self._change_keys = change_keys
        self._groups: dict[str, dict[str | None, int]] = {}

    def gather(self, key: str, since: Iterable[str]) -> None:
        """Collect the records that changed since the earliest of these times, by the loader's clock."""
        source = self._change_keys[key]
        is_there = source.mart in self._marts
        names = {
            "table": changed(self._schemas, key),
            "raw": sql.Identifier(self._schemas.raw, source.raw_table),
            "mart": sql.Identifier(self._schemas.marts, source.mart) if is_there else sql.SQL(source.no_mart),
            "since": sql.SQL("least({})").format(
                sql.SQL(", ").join(sql.SQL("{}::timestamptz").format(sql.Literal(moment)) for moment in since)
            ),
        }
        for statement in (
            "drop table if exists {table}",
            "create unlogged table {table} as "
            + source.gather
            + " where r._loaded_at > {since} or r._deleted_at > {since}",
            "create index on {table} (kind)",
            "create index on {table} (previous_kind)",
            "analyze {table}",
        ):
            self._connection.execute(sql.SQL(statement).format(**names))
        counts: dict[str | None, int] = {}
        query = sql.SQL("select kind, previous_kind, count(*) from {table} group by 1, 2").format(**names)
        for kind, before, count in self._connection.execute(query):
            for each in {kind, before}:
                counts[each] = counts.get(each, 0) + count
        self._groups[key] = counts

    def touches(self, key: str, group: str | None) -> bool:
        """Whether rows of this group changed. If their former groups are unknown, they may be of any group."""
        return key not in self._groups or self._change_keys[key].mart not in self._marts or group in self._groups[key]

    def are_few(self, key: str, group: str | None, rows: int) -> bool:
        """Whether it is worth while to update a table of so many rows for these changes."""
        counts = self._groups.get(key)
        if counts is None:
            return False
        count = sum(counts.values()) if group is None else counts.get(group, 0)
        return count <= max(_FEW, rows // _SHARE)


def changed(schemas: TenantSchemas, key: str) -> sql.Identifier:
    """The table of the changed records."""
    return sql.Identifier(schemas.staging, _CHANGED + key)


def is_small(rows: int) -> bool:
    """Whether a table of so many rows may be rewritten in place, which leaves as many dead rows."""
    return rows <= _SMALL


def forget(connection: Connection, schemas: TenantSchemas, change_keys: Iterable[str]) -> None:
    """Drop the tables of changed records."""
    for key in change_keys:
        connection.execute(sql.SQL("drop table if exists {}").format(changed(schemas, key)))


def keep(
    connection: Connection,
    project: TenantProject,
    definitions: Mapping[str, str],
    raw_tables: Collection[str],
    results: Sequence[NodeResult],
) -> None:
    """Store the SQL that dbt compiled for tables and their tests. `definitions`: of all models; `results`: of a run. Results
    without SQL were not compiled by dbt."""
    tests: dict[str, list[NodeResult]] = {}
    for result in results:
        if result.resource_type == "test" and result.attached_node:
            tests.setdefault(_name(result.attached_node), []).append(result)
    nodes: list[CompiledNode] = []
    models = [result for result in results if result.resource_type == "model" and result.sql]
    for model in models:
        own = [model, *tests.get(model.name, ())]
        # A test that dbt did not run cannot be run without dbt either.
        if model.status == "success" and all(node.sql for node in own):
            nodes += [_compiled(project, node, model.name, definitions[model.name], raw_tables) for node in own]
    statements.write(connection, project.schemas, nodes, replaced=[model.name for model in models], current=definitions)


def _compiled(
    project: TenantProject, node: NodeResult, model: str, definition: str, raw_tables: Collection[str]
) -> CompiledNode:
    statement = Statement(node.unique_id, node.name, node.resource_type, node.sql, node.attached_node, node.severity)
    parents = frozenset(_name(parent) for parent in node.depends_on if parent.startswith("model."))
    marks = _MARK.findall(node.sql) if node.name == model else ()
    key = next((key for key in project.change_keys if (key, "") in marks), None)
    return CompiledNode(model, CompiledModel(definition, frozenset(raw_tables), parents, key), statement)


def apply(
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
        # A wait without a time limit would block interrupts.
        for future in wait(running, timeout=_WAIT_S, return_when=FIRST_COMPLETED).done:
            name = running.pop(future)
            result = future.result()
            if result.status == "success":
                yield result
            else:
                failed.add(name)
                on_failure(name, result.message or result.status)
            sorter.done(name)


def test(
    connection: Connection,
    pool: Pool,
    project: TenantProject,
    done: Mapping[str, Change],
    left: Collection[str],
    failed: Collection[str],
) -> Iterator[NodeResult]:
    """Run the tests that read the models `done`, except those that also read `left`: dbt will run these.

    A test that can be limited to changed cases or submissions (`is_wanted`) checks only these, unless it is among `failed`, the
    tests that found something in the last run.
    """
    long: list[Statement] = []
    short: list[Statement] = []
    for node in statements.of_tests(connection, project.schemas, done, left):
        statement = node.statement
        if statement.name not in failed:
            changed_parents = {parent: done[parent] for parent in node.compiled.parents if parent in done}
            of_changes = _cut_down(connection, project, statement.sql, node.model, changed_parents)
            statement = msgspec.structs.replace(statement, sql=of_changes)
        is_long = node.model in done and not is_small(done[node.model].rows)
        (long if is_long else short).append(statement)
    running = {pool(partial(_test, [statement])) for statement in long}
    running |= {pool(partial(_test, short[start : start + _AT_ONCE])) for start in range(0, len(short), _AT_ONCE)}
    while running:
        finished, running = wait(running, timeout=_WAIT_S, return_when=FIRST_COMPLETED)
        yield from chain.from_iterable(future.result() for future in finished)


@contextmanager
def open_pool(database: Login) -> Iterator[Pool]:
    """Connections to `database`; an exception cancels their queries."""
    idle: SimpleQueue[Connection] = SimpleQueue()
    opened: list[Connection] = []
    begun: list[Future[Any]] = []

    def do(work: Callable[[Connection], T]) -> T:
        try:
            connection = idle.get_nowait()
        except Empty:
            connection = database.connect(autocommit=True)
            opened.append(connection)
            connection.execute(_SET_SESSION)
        try:
            return work(connection)
        finally:
            idle.put(connection)

    def submit(work: Callable[[Connection], T]) -> Future[T]:
        future = executor.submit(do, work)
        begun.append(future)
        return future

    executor = ThreadPoolExecutor(_CONNECTIONS, thread_name_prefix="changes")
    try:
        yield submit
    except BaseException:
        executor.shutdown(wait=False, cancel_futures=True)
        # Repeatedly: a statement may be about to begin.
        while wait(begun, timeout=_CANCEL_EVERY_S).not_done:
            for connection in list(opened):
                connection.cancel()
        raise
    finally:
        executor.shutdown(cancel_futures=True)
        for connection in opened:
            connection.close()


def _change(project: TenantProject, change: Change, statement: Statement, connection: Connection) -> NodeResult:
    began = time.monotonic()
    try:
        rows = _apply(connection, project, change, statement.sql)
    except psycopg.Error as error:
        if connection.broken:
            raise
        return _result(statement, "error", None, str(error), time.monotonic() - began)
    return _result(statement, "success", rows, None, time.monotonic() - began)


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
        return [_result(statements[0], "error", None, str(error), time.monotonic() - began)]
    each_s = (time.monotonic() - began) / len(statements)
    return [_found(statement, int(count), each_s) for statement, count in zip(statements, counts, strict=True)]


def _found(statement: Statement, found: int, duration_s: float) -> NodeResult:
    level = "warn" if statement.severity == "warn" else "fail"
    message = f"Got {found} result{'s' if found != 1 else ''}, configured to {level} if != 0" if found else None
    return _result(statement, level if found else "pass", found, message, duration_s)


def _apply(connection: Connection, project: TenantProject, change: Change, rows: str) -> int:
    """Returns the table's number of rows afterwards."""
    table = sql.Identifier(*change.relation)
    those: sql.Composable = sql.SQL("")
    if change.key is not None:
        condition = _condition(connection, project, change.key, change.group)
        rows = _MARK.sub(lambda mark: condition if mark.groups() == (change.key, None) else mark[0], rows)
        of_group = _of_group("{group} in (kind, previous_kind)", change.group)
        in_table = project.change_keys[change.key].in_table
        column = sql.SQL(in_table) if in_table else sql.Identifier(change.key)
        those = sql.SQL(" where ") + _among(project, change.key, column, of_group)
    # Sent together, they are one transaction.
    delete = sql.SQL("delete from {table}{those}; insert into {table}").format(table=table, those=those)
    cursor = connection.execute(f"{delete.as_string(connection)} (\n{rows}\n)".encode())
    deleted = cursor.rowcount
    cursor.nextset()
    inserted = cursor.rowcount
    if max(deleted, inserted) * _ANALYZED > change.rows:
        connection.execute(sql.SQL("analyze {}").format(table))
    return inserted if change.key is None else change.rows - deleted + inserted


def _cut_down(
    connection: Connection, project: TenantProject, statement: str, model: str, done: Mapping[str, Change]
) -> str:
    """The SQL of a test of `model`, limited to rows that changes may affect; `done`: the changes of the models that it reads.

    A mark with a column refers to another table's cases or submissions.
    """
    marks = _MARK.findall(statement)
    if not all(change.key in {key for key, _ in marks} for change in done.values()):
        return statement

    def condition(mark: re.Match[str]) -> str:
        key, column = mark.groups()
        changed_so = {name for name, change in done.items() if change.key == key}
        if column:
            return _condition(connection, project, key, None, column) if changed_so - {model} else "false"
        group = done[model].group if model in done else None
        return _condition(connection, project, key, group) if changed_so else "false"

    return _MARK.sub(condition, statement)


def _condition(
    connection: Connection, project: TenantProject, key: str, group: str | None, column: str | None = None
) -> str:
    """The condition in place of an `is_wanted` mark."""
    of_group = _of_group("kind = {group}", group)
    return _among(project, key, sql.Identifier(column or key), of_group).as_string(connection)


def _among(project: TenantProject, key: str, column: sql.Composable, of_group: sql.Composable) -> sql.Composable:
    """Whether `column` is among the changes. An array instead of a join, so that an index is used through every view."""
    condition: LiteralString = "{column} = any(array(select {key} from {changed}{of_group}))"
    if not project.change_keys[key].is_indexed:
        condition = "{column} in (select {key} from {changed}{of_group})"
    names = {
        "column": column,
        "key": sql.Identifier(key),
        "changed": changed(project.schemas, key),
        "of_group": of_group,
    }
    return sql.SQL(condition).format(**names)


def _of_group(condition: LiteralString, group: str | None) -> sql.Composable:
    """Limits the changes to a case type or form: all changes are far more than one table has."""
    return sql.SQL(" where " + condition).format(group=group) if group is not None else sql.SQL("")


def _name(unique_id: str) -> str:
    return unique_id.rpartition(".")[2]


def _result(statement: Statement, status: str, rows: int | None, message: str | None, duration_s: float) -> NodeResult:
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
