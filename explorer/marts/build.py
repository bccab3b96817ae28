"""How are a tenant's models brought up to date? Plan, run dbt, and record what its tests found."""

from collections.abc import Callable, Iterable, Mapping, Sequence, Set
from dataclasses import dataclass
from datetime import UTC, datetime

from explorer.contract.bookkeeping.builds import Build
from explorer.contract.bookkeeping.dbt_tests import TestRecord
from explorer.contract.retirement import retired_since, retirement_of
from explorer.contract.schemas import TenantSchemas
from explorer.marts.causes import Cause, causes
from explorer.marts.command import TenantDbt, build_arguments
from explorer.marts.definitions import definitions
from explorer.marts.manifest import Models
from explorer.marts.planning import Work, find_work, names_of, updates
from explorer.marts.process import invoke
from explorer.marts.recording import record, version_of
from explorer.marts.results import FAILED, SUCCESS, NodeResult
from explorer.postgres.connections import Connection
from explorer.postgres.relations import Columns
from explorer.tables.engine import mark, unmark
from explorer.tables.engine.results import TableResult, Verb


@dataclass(frozen=True)
class TestResult:
    """What a dbt test said when it last ran. `tested`: its model or table; `status`: pass, warn, fail, error or skipped;
    `rows`: number of failing rows."""

    __test__ = False

    name: str
    tested: str
    status: str
    rows: int | None = None
    message: str | None = None


@dataclass(frozen=True)
class Built:
    """The result of a build. `results`: of the models that were wanted; `tests`: of all their tests, in this run or in the last
    one that had to run them; `builds`: how each existing table and model came to its rows; `columns`: of all relations."""

    results: Mapping[str, TableResult]
    tests: Mapping[str, TestResult]
    builds: Mapping[str, Build]
    columns: Columns


def build(
    dbt: TenantDbt,
    models: Models,
    *,
    wanted: Set[str] | None,
    by_need: bool,
    run_id: str,
    on_plan: Callable[[str], None],
    on_result: Callable[[TableResult], None],
) -> Built:
    """Build models: those `wanted` (None: all), `by_need` only the stale ones among them. `models`: of the tenant's provider;
    `on_plan` is called with a sentence about what will be done, `on_result` when a model ends.

    The caller holds the tenant's run lock. Any exception in this thread ends dbt and its queries; each model is then as before or
    as after.

    Raises:
        TransformFailed: dbt could not run.
        psycopg.Error: the connection broke.
    """
    now = definitions(dbt.settings, models)
    with dbt.login.connect(autocommit=True) as connection:
        work = find_work(connection, dbt.schemas, models, now, wanted=wanted, by_need=by_need)
        on_plan(_sentence(work, len(models.built)))
        _retire(connection, dbt.schemas, models, work)
        select = [*sorted(work.models), *sorted(work.tests)]
        known = updates(connection, dbt.schemas, models, work.state, now) if by_need and work.models else {}
        ran = _run(select, dbt.environment(run_id, now, known), on_result) if select else ()
        written = record(connection, dbt, models, work.state, ran, version=version_of(now), run_id=run_id)
    all_wanted = models.built if wanted is None else wanted & models.built
    results = _results(models, all_wanted, work.excluded, ran, written.builds)
    return Built(results, _tests(models, work.excluded, written.tests), written.builds, written.columns)


def _sentence(work: Work, total: int) -> str:
    tests = f" {len(work.tests)} tests did not see what there is now." if work.tests else ""
    left_out = f" {len(work.excluded)} need tables that this tenant has not." if work.excluded else ""
    return f"dbt builds {len(work.models)} of {total} models.{tests}{left_out}"


def _retire(connection: Connection, schemas: TenantSchemas, models: Models, work: Work) -> None:
    """Mark what was built of models that the tenant cannot have any more: it is dropped later, as tables are."""
    names = names_of(schemas, models)
    today = retired_since(datetime.now(UTC).date())
    for relation in work.retiring:
        mark(connection, schemas, relation, today, "a table that the model requires is gone")
    for relation in work.state.relations:
        if names.get((relation.schema, relation.name)) in work.models and retirement_of(relation.comment):
            unmark(connection, relation)


def _run(
    select: Sequence[str], environment: Mapping[str, str], on_result: Callable[[TableResult], None]
) -> tuple[NodeResult, ...]:
    def report(result: NodeResult) -> None:
        if result.resource_type == "model":
            on_result(_result(result, Cause(result.message or "")))

    return invoke(build_arguments(select), environment, report).results


def _results(
    models: Models,
    wanted: Iterable[str],
    excluded: Mapping[str, str],
    ran: Iterable[NodeResult],
    builds: Mapping[str, Build],
) -> dict[str, TableResult]:
    done, why = {result.name: result for result in ran if result.resource_type == "model"}, causes(models, ran)
    found = {}
    for name in wanted:
        rows = builds[name].rows if name in builds else None
        if name in excluded:
            found[name] = TableResult(name, "skipped", rows, excluded[name])
        elif name in done:
            found[name] = _result(done[name], why.get(name), rows)
        else:
            found[name] = TableResult(name, "unchanged", rows)
    return found


def _result(result: NodeResult, cause: Cause | None, rows: int | None = None) -> TableResult:
    verb: Verb = "built" if result.status in SUCCESS else "failed" if result.status in FAILED else "skipped"
    rows = result.rows if rows is None else rows
    if verb == "built" or cause is None:
        return TableResult(result.name, verb, rows, duration_s=result.duration_s)
    return TableResult(result.name, verb, rows, cause.message, result.duration_s, cause.roots)


def _tests(models: Models, excluded: Mapping[str, str], tested: Mapping[str, TestRecord]) -> dict[str, TestResult]:
    found = {}
    for name, test in models.test_named.items():
        of = models.tested(test)
        reasons = [excluded[each] for each in models.read_by(test) if each in excluded]
        if reasons:
            found[name] = TestResult(name, of, "skipped", None, reasons[0])
        elif (of_last := tested.get(name)) is not None:
            found[name] = TestResult(name, of, of_last.status, of_last.rows, of_last.message)
        else:
            found[name] = TestResult(name, of, "skipped", None, "It never ran: what it reads was not built.")
    return found
