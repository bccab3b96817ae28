"""How are a tenant's tables brought up to date in one run? Planned, built or changed, checked, and written down."""

from collections.abc import Callable, Mapping, Sequence, Set
from datetime import UTC, datetime
from functools import partial

from explorer.contract.bookkeeping import builds as build_records
from explorer.contract.bookkeeping import changes as change_records
from explorer.contract.bookkeeping import columns as column_records
from explorer.contract.bookkeeping import kinds as kind_records
from explorer.contract.bookkeeping import lineage as lineage_records
from explorer.contract.bookkeeping.lineage import Lineage
from explorer.contract.schemas import TenantSchemas
from explorer.postgres.connections import Connection, Login
from explorer.tables.column_facts import facts_of
from explorer.tables.engine import state
from explorer.tables.engine.causes import without
from explorer.tables.engine.changed import Changed, Changes
from explorer.tables.engine.checking import check
from explorer.tables.engine.definition import kinds_of, lineage_version
from explorer.tables.engine.planning import Plan, plan
from explorer.tables.engine.results import TableResult, Updated
from explorer.tables.engine.retirement import retire
from explorer.tables.engine.scope import Builds, scope_of, versions_seen
from explorer.tables.engine.sessions import Pool, open_pool, open_session, result_of
from explorer.tables.engine.work import OnResult, do_tasks
from explorer.tables.lineage import lineage_of_table
from explorer.tables.plan import ChangedRecords, TablePlan
from explorer.tables.values import TableSpec

Tables = Mapping[str, TableSpec]


def update(
    login: Login,
    schemas: TenantSchemas,
    planned: TablePlan,
    changed_records: Sequence[ChangedRecords],
    *,
    run_id: str,
    wanted: Set[str] | None = None,
    by_need: bool = True,
    on_plan: Callable[[str], None] = lambda _: None,
    on_result: OnResult = lambda _: None,
) -> Updated:
    """Bring the tables of a tenant up to date. The caller holds the tenant's run lock.

    `login`: the tenant's rw login; `wanted`: names of tables, None for all; `by_need`: only those that are not up to date,
    otherwise all as a whole. `on_plan`: called with a sentence about what will be done; `on_result`: with each table that was
    tried, when it ends. Any exception in this thread, also of these two, cancels the queries: each table is then as before or as
    after.

    Raises:
        DatabaseUnreachable: the server does not answer or refuses the login.
        psycopg.Error: a connection broke.
    """
    tables = {table.name: table for table in planned.tables}
    of_interest = tables.keys() if wanted is None else wanted
    with open_session(login, schemas) as connection, open_pool(login, schemas) as pool:
        # Commits need not wait for the disk, but that of the findings does, and so for all before it.
        connection.execute("set synchronous_commit = off")
        changes = Changes(connection, schemas, changed_records)
        changes.drop()
        before = state.builds(connection, schemas)
        work = plan(connection, schemas, tables, before, changes, wanted=of_interest, by_need=by_need)
        on_plan(work.sentence)
        # After a kill these are built as a whole: the former group of a record that moved may be known nowhere else any more.
        build_records.build_as_a_whole(connection, schemas, work.stale)
        if work.todo:
            change_records.write(connection, schemas, changes.collected())
        results = {**_untouched(work, of_interest), **do_tasks(pool, schemas, work.todo, run_id, on_result)}
        _write_current(connection, schemas, work)
        applied = {name: work.todo[name].changed for name, result in results.items() if result.verb == "applied"}
        _check(connection, pool, schemas, tables, before, applied, run_id)
        changes.drop()
        column_records.write(connection, schemas, facts_of(planned.tables))
        kind_records.write(connection, schemas, kinds_of(planned.tables))
        _write_lineage(connection, schemas, tables, work)
        retired = retire(connection, schemas, tables.keys(), today=datetime.now(UTC).date())
        types, builds = state.column_types(connection, schemas), state.builds(connection, schemas)
    return Updated(tables, results, builds, types, retired, planned.type_changes)


def _untouched(work: Plan, wanted: Set[str]) -> dict[str, TableResult]:
    """Results of the tables that are not tried."""
    found = {
        name: TableResult(name, "unchanged", task.before.rows if task.before else None)
        for name, task in work.current.items()
        if name in wanted
    }
    return found | {name: TableResult(name, "skipped", None, without(raw)) for name, raw in work.missing.items()}


def _write_current(connection: Connection, schemas: TenantSchemas, work: Plan) -> None:
    """Record of tables whose raw tables changed in rows of others that they are up to date."""
    build_records.unchanged_since(
        connection,
        schemas,
        {
            name: (task.definition, task.built_from)
            for name, task in work.current.items()
            if task.before and task.before.built_from != task.built_from
        },
    )


def _check(
    connection: Connection,
    pool: Pool,
    schemas: TenantSchemas,
    tables: Tables,
    before: Builds,
    applied: Mapping[str, Changed | None],
    run_id: str,
) -> None:
    """Check what changed, and what refers to it."""
    now = state.builds(connection, schemas)
    scopes = {name: scope_of(table, before, now, applied) for name, table in tables.items() if name in now}
    found = {
        name: pool(partial(check, table=tables[name], scope=scope))
        for name, scope in scopes.items()
        if scope is not None
    }
    findings = {name: result_of(future) for name, future in found.items()}
    with connection.transaction():
        connection.execute("set local synchronous_commit = on")
        build_records.write_findings(
            connection, schemas, findings, {name: versions_seen(tables[name], now) for name in findings}, run_id=run_id
        )


def _write_lineage(connection: Connection, schemas: TenantSchemas, tables: Tables, work: Plan) -> None:
    def whole() -> Lineage:
        return {name: lineage_of_table(table) for name, table in tables.items()}

    lineage_records.write(connection, schemas, whole, part="tables", version=lineage_version(work.definitions))
