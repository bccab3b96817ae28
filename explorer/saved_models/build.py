"""How are a tenant's saved models brought up to date? Plan, run dbt as their own login, and record what it found.

Each has a record beside those of tables and marts, so that provenance and freshness are told in the same way.
"""

import hashlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import msgspec
from psycopg import sql

from explorer.catalog.tenants.saved_models import ModelText
from explorer.contract.bookkeeping import builds as build_records
from explorer.contract.bookkeeping import columns as column_records
from explorer.contract.bookkeeping.builds import SAVED, Build, Finding
from explorer.contract.bookkeeping.columns import ColumnFacts
from explorer.contract.schemas import TenantSchemas
from explorer.core.settings import Settings
from explorer.marts.causes import cause_of
from explorer.marts.command import QUIET, TenantDbt, environment_for
from explorer.marts.process import invoke
from explorer.marts.results import FAILED, SKIPPED, SUCCESS, NodeResult
from explorer.postgres.connections import Connection, Login
from explorer.postgres.relations import Relation, relations
from explorer.saved_models.files import test_names, write_project
from explorer.tables.engine.results import TableResult, Verb

_GROUP = "saved_models"


@dataclass(frozen=True)
class SavedModelsDbt:
    """dbt for the saved models of one tenant. `rw`: the tenant's login, which keeps the records; `own`: the one that builds."""

    settings: Settings
    provider: str
    schemas: TenantSchemas
    rw: Login
    own: Login

    @property
    def folder(self) -> Path:
        """The project, and what dbt keeps of it."""
        return self.settings.home / "dbt" / self.schemas.prefix / _GROUP

    def environment(self, run_id: str) -> Mapping[str, str]:
        """As for the tenant's marts, but for login, schema and folders, and with limits for each statement."""
        marts = TenantDbt(self.settings, self.provider, self.schemas, self.own).environment(run_id)
        limits = f"-c statement_timeout={self.settings.saved_model_timeout_s * 1000:.0f}"
        folders = environment_for(self.folder, self.folder / "kept")
        return {
            **marts,
            **folders,
            "DBT_EXPLORER_SCHEMA": self.schemas.saved,
            "PGOPTIONS": f"{marts['PGOPTIONS']} {limits}",
        }


@dataclass(frozen=True)
class BuiltModels:
    """`results`: of all models; `builds`: of those that have a table; `dropped`: tables of models that are not saved any more."""

    results: Mapping[str, TableResult]
    builds: Mapping[str, Build]
    dropped: Sequence[str]


def is_current(rw: Login, schemas: TenantSchemas, models: Mapping[str, ModelText]) -> bool:
    """Whether `build` would find nothing to do, by need.

    Raises:
        psycopg.Error: the connection broke.
    """
    with rw.connect(autocommit=True) as connection:
        state = _state(connection, schemas)
        return not any(_stale(models, state)) and not state.gone(models)


def build(
    dbt: SavedModelsDbt,
    models: Mapping[str, ModelText],
    *,
    by_need: bool,
    run_id: str,
    on_plan: Callable[[str], None],
    on_result: Callable[[TableResult], None],
) -> BuiltModels:
    """Build the models, `by_need` only those that were saved anew or read what has changed, and drop the tables of others. One
    that fails leaves its old table; others are built. `on_plan` and `on_result` as for marts.

    The caller holds the tenant's run lock. Any exception in this thread ends dbt and its queries.

    Raises:
        TransformFailed: dbt could not run.
        psycopg.Error: the connection broke.
    """
    with dbt.rw.connect(autocommit=True) as connection, dbt.own.connect(autocommit=True) as own:
        state = _state(connection, dbt.schemas)
        dropped = _drop(connection, own, dbt.schemas, state, models)
        missing = dict(_missing(models, state))
        wanted = [name for name in (_stale(models, state) if by_need else models) if name not in missing]
        on_plan(f"dbt builds {len(wanted)} of {len(models)} saved models.")
        ran = _run(dbt, models, wanted, run_id, on_result) if wanted else ()
        _record(connection, dbt.schemas, models, state, ran, run_id)
        builds = build_records.read(connection, dbt.schemas)
    done = {each.name: each for each in ran if each.resource_type == "model"}
    results = {name: _result(name, missing.get(name), done.get(name), builds.get(name)) for name in models}
    return BuiltModels(results, {name: builds[name] for name in models if name in builds}, dropped)


@dataclass(frozen=True)
class _State:
    """`builds`: of tables, marts and saved models; `tables`: of marts and saved models, by name."""

    builds: Mapping[str, Build]
    tables: Mapping[str, Relation]
    saved: Mapping[str, Relation]

    def gone(self, models: Mapping[str, ModelText]) -> list[str]:
        """What is there of models that are not saved any more."""
        recorded = {name for name, build in self.builds.items() if build.kind == SAVED}
        return sorted((self.saved.keys() | recorded) - models.keys())


def _state(connection: Connection, schemas: TenantSchemas) -> _State:
    found = relations(connection, [schemas.marts, schemas.saved])
    return _State(
        build_records.read(connection, schemas),
        {each.name: each for each in found if each.schema == schemas.marts},
        {each.name: each for each in found if each.schema == schemas.saved},
    )


def _drop(
    connection: Connection, own: Connection, schemas: TenantSchemas, state: _State, models: Mapping[str, ModelText]
) -> list[str]:
    gone = state.gone(models)
    for name in gone:
        own.execute(sql.SQL("drop table if exists {}").format(sql.Identifier(schemas.saved, name)))
    build_records.forget(connection, schemas, gone)
    return gone


def _missing(models: Mapping[str, ModelText], state: _State) -> Iterator[tuple[str, str]]:
    """Models that read what is not there, with the reason; also through others."""
    found: dict[str, str] = {}
    for name in _in_order(models):
        lacking = sorted(models[name].reads - models.keys() - state.tables.keys())
        lacking += sorted(models[name].reads & found.keys())
        if lacking:
            found[name] = f"It reads {', '.join(lacking)}, which this tenant has not any more."
    yield from found.items()


def _stale(models: Mapping[str, ModelText], state: _State) -> Iterator[str]:
    """The models that are not there as they were saved, or have not seen the newest rows."""
    stale: set[str] = set()
    for name in _in_order(models):
        build, relation = state.builds.get(name), state.saved.get(name)
        is_there = build is not None and relation is not None and build.kind == SAVED and build.relation == relation.oid
        if (
            not is_there
            or build is None
            or build.definition != _definition(models[name])
            or build.built_from != _seen(models[name], state.builds)
            or not stale.isdisjoint(models[name].reads)
        ):
            stale.add(name)
            yield name


def _in_order(models: Mapping[str, ModelText]) -> list[str]:
    """Those that are read before those that read them."""
    done: dict[str, None] = {}

    def visit(name: str) -> None:
        if name not in done:
            for read in sorted(models[name].reads & models.keys() - {name}):
                visit(read)
            done[name] = None

    for name in sorted(models):
        visit(name)
    return list(done)


def _definition(text: ModelText) -> str:
    return hashlib.sha256(msgspec.json.encode(text, order="sorted")).hexdigest()


def _seen(text: ModelText, builds: Mapping[str, Build]) -> dict[str, str]:
    """The versions of what a model reads; of a view, which has no rows of its own, also of what that reads."""
    found: dict[str, str] = {}
    unread = sorted(text.reads)
    for name in unread:
        build = builds.get(name)
        if build is not None and name not in found:
            found[name] = str(build.version)
            unread += build.built_from if build.rows is None else ()
    return found


def _run(
    dbt: SavedModelsDbt,
    models: Mapping[str, ModelText],
    wanted: Sequence[str],
    run_id: str,
    on_result: Callable[[TableResult], None],
) -> tuple[NodeResult, ...]:
    settings = dbt.settings
    write_project(dbt.folder, settings, models, tables_in=dbt.schemas.marts, max_rows=settings.saved_model_max_rows)

    def report(result: NodeResult) -> None:
        if result.resource_type == "model":
            on_result(_result(result.name, None, result, None))

    return invoke([*QUIET, "build", "--select", *wanted], dbt.environment(run_id), report).results


def _record(
    connection: Connection,
    schemas: TenantSchemas,
    models: Mapping[str, ModelText],
    before: _State,
    ran: Iterable[NodeResult],
    run_id: str,
) -> None:
    """Record what was built, parents first, for a child names its parents' versions; and what the tests found."""
    results = list(ran)
    built = {each.name for each in results if each.resource_type == "model" and each.status in SUCCESS}
    for name in (name for name in _in_order(models) if name in built):
        builds = build_records.read(connection, schemas)
        place = sql.Identifier(schemas.saved, name)
        row = connection.execute(sql.SQL("select count(*) from {}").format(place)).fetchone()
        build_records.record(
            connection,
            schemas,
            name,
            definition=_definition(models[name]),
            built_from=_seen(models[name], builds),
            run_id=run_id,
            rows=row[0] if row else 0,
            kind=SAVED,
            schema=schemas.saved,
        )
    column_records.write(connection, schemas, {name: _facts(models[name]) for name in built})
    tested = {name: list(_findings(name, models[name], results)) for name in built}
    build_records.write_findings(connection, schemas, tested, run_id=run_id)


def _facts(text: ModelText) -> dict[str, ColumnFacts]:
    """Of columns that tell personal data, which the policy then covers."""
    return {column: {"tells": list(told)} for column, told in text.personal.items()}


def _findings(model: str, text: ModelText, results: Iterable[NodeResult]) -> Iterator[Finding]:
    """Of the model's tests that did not pass."""
    names = test_names(model, text)
    for each in results:
        if each.name in names and each.status not in SUCCESS | SKIPPED:
            yield Finding(each.name.removeprefix(f"{model}__"), each.status, each.rows, cause_of(each.message))


def _result(name: str, missing: str | None, ran: NodeResult | None, build: Build | None) -> TableResult:
    rows = build.rows if build is not None else None
    if missing is not None:
        return TableResult(name, "skipped", rows, missing)
    if ran is None:
        return TableResult(name, "unchanged", rows)
    if ran.status in SUCCESS:
        return TableResult(name, "built", ran.rows if rows is None else rows, duration_s=ran.duration_s)
    verb: Verb = "failed" if ran.status in FAILED else "skipped"
    return TableResult(name, verb, rows, cause_of(ran.message or "What it reads was not built."), ran.duration_s)
