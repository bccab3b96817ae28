"""A tenant's bookkeeping across versions of the platform: tables of an old installation, new tables, and readers."""

import json
import re
from collections.abc import Collection, Iterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from threading import Barrier, Thread
from typing import Any

import psycopg
import pytest

from explorer.contract.bookkeeping import builds, columns, definitions, kinds, lineage, loads, profile, rejected
from explorer.contract.bookkeeping.builds import Finding
from explorer.contract.bookkeeping.definitions import IN_RAW, IN_STAGING
from explorer.contract.bookkeeping.kinds import TableKind
from explorer.contract.bookkeeping.lineage import ColumnLineage, Origin
from explorer.contract.bookkeeping.loads import LoadState
from explorer.contract.bookkeeping.versions import BookkeepingTooNew, upgrade
from explorer.contract.schemas import TenantSchemas
from explorer.postgres.connections import Connections
from tests.conftest import Tenant, tenants

ROOT = Path(__file__).parents[4]
Connection = psycopg.Connection[tuple[Any, ...]]

# As the versions before the first numbered one made them, with what they remembered.
VERSION_0 = """
create table {staging}.explorer_profile (profile text not null);
insert into {staging}.explorer_profile values ('{{"version": 2}}');
create table {staging}.explorer_builds (model text primary key, definition text not null, versions jsonb not null,
    relation oid not null, row_count bigint, findings jsonb not null, built_at timestamptz not null default now());
insert into {staging}.explorer_builds values ('cases', 'd', '{{"raw_cases": "2026-01-01 00:00:00+00"}}', 17, 3,
    '[{{"test": "t", "status": "fail", "rows": 2, "message": "m"}}]', '2026-01-01');
create table {staging}.explorer_columns (relation text primary key, columns jsonb not null);
insert into {staging}.explorer_columns values ('form_f', '{{"age": {{"path": ["age"], "label": "Age?"}}}}');
create table {staging}.explorer_lineage (relation text primary key, columns jsonb not null);
insert into {staging}.explorer_lineage values ('', '"2 x"'),
    ('cases', '{{"case_id": {{"origins": [["stg_cases", "case_id"]]}}}}');
create table {staging}.explorer_repeats (xmlns text not null, path text[] not null);
insert into {staging}.explorer_repeats values ('x', '{{g,r}}');
create table {staging}.explorer_misfits (model text primary key, relation oid not null, misfits jsonb not null);
insert into {staging}.explorer_misfits values ('form_f', 18, '{{"age": 4}}');
create table {raw}._explorer_cursors (source text PRIMARY KEY, table_name text NOT NULL, cursor timestamptz,
    live_rows bigint NOT NULL, deleted_rows bigint NOT NULL, changed_at timestamptz, run_id text NOT NULL,
    updated_at timestamptz NOT NULL DEFAULT now());
insert into {raw}._explorer_cursors values ('cases', 'raw_cases', '2026-01-02', 5, 1, '2026-01-01', 'run');
"""


@pytest.fixture
def tenant(connections: Connections) -> Iterator[Tenant]:
    with tenants(connections) as make:
        yield make()


@pytest.fixture
def connection(tenant: Tenant) -> Iterator[Connection]:
    with tenant.rw.connect(autocommit=True) as opened:
        yield opened


@pytest.fixture
def schemas(tenant: Tenant) -> TenantSchemas:
    return TenantSchemas(tenant.prefix)


def versions(connection: Connection, schemas: TenantSchemas) -> list[int]:
    query = f"select version from {schemas.raw}.{IN_RAW.version_table}"
    query += f" union all select version from {schemas.staging}.{IN_STAGING.version_table}"
    return [version for (version,) in connection.execute(query.encode())]


def _bookkeeping(connection: Connection, schemas: TenantSchemas) -> set[str]:
    names = "select tablename from pg_tables where schemaname = %s"
    return {name for (name,) in connection.execute(names, [schemas.staging])}


def test_what_a_tenant_of_before_remembers_is_there_after_its_tables_were_brought_up_to_date(
    connection: Connection, schemas: TenantSchemas
) -> None:
    connection.execute(VERSION_0.format(staging=schemas.staging, raw=schemas.raw).encode())
    assert profile.read(connection, schemas) == '{"version": 2}'
    assert builds.read(connection, schemas) == {}
    assert columns.read(connection, schemas, ["form_f"]) == {"form_f": {"age": {"path": ["age"], "label": "Age?"}}}
    assert lineage.read(connection, schemas) == {"cases": {"case_id": ColumnLineage((Origin("stg_cases", "case_id"),))}}
    moment = datetime(2026, 1, 1, tzinfo=UTC)
    assert loads.read(connection, schemas.raw) == {"cases": LoadState(datetime(2026, 1, 2, tzinfo=UTC), 5, 1, moment)}
    assert _bookkeeping(connection, schemas) == {*IN_STAGING.columns, IN_STAGING.version_table}
    assert versions(connection, schemas) == [IN_RAW.version, IN_STAGING.version]


def test_readers_take_tables_of_before_as_they_are_and_change_nothing(
    connection: Connection, schemas: TenantSchemas
) -> None:
    connection.execute("set default_transaction_read_only = on")
    assert columns.read(connection, schemas, ["form_f"]) == {}
    assert lineage.read(connection, schemas) == {}
    assert kinds.read(connection, schemas) == {}
    assert rejected.read(connection, schemas) == {}
    assert loads.changes(connection, schemas.raw) == {}
    connection.execute("set default_transaction_read_only = off")
    connection.execute(VERSION_0.format(staging=schemas.staging, raw=schemas.raw).encode())
    connection.execute("set default_transaction_read_only = on")
    assert set(columns.read(connection, schemas, ["form_f"])) == {"form_f"}
    assert set(lineage.read(connection, schemas)) == {"cases"}
    assert set(loads.changes(connection, schemas.raw)) == {"raw_cases"}


def test_what_is_written_is_what_is_read(connection: Connection, schemas: TenantSchemas) -> None:
    profile.write(connection, schemas, profile.read(connection, schemas) or "first")
    profile.write(connection, schemas, "second")
    assert profile.read(connection, schemas) == "second"

    made = {"cases": TableKind("mart", None), "case_child": TableKind("case_type", "child")}
    assert not kinds.are_written(connection, schemas, made)
    kinds.write(connection, schemas, made)
    assert kinds.are_written(connection, schemas, made)
    connection.execute(f"create table {schemas.marts}.cases ()".encode())
    kinds.write(connection, schemas, {"case_child": TableKind("case_type", "Child")})
    assert kinds.read(connection, schemas) == {**made, "case_child": TableKind("case_type", "Child")}

    state = LoadState(None, 2, 1, datetime(2100, 1, 1, tzinfo=UTC))
    assert loads.read(connection, schemas.raw) == {}
    loads.write(connection, schemas.raw, "cases", "raw_cases", state, "run")
    assert loads.read(connection, schemas.raw) == {"cases": state}
    assert loads.next_moment(connection, schemas.raw) > datetime(2100, 1, 1, tzinfo=UTC)

    for part in ("tables", "models"):
        made = {part: {"a": ColumnLineage((Origin("x", "a", ("b",)),))}}
        connection.execute(f"create table {schemas.marts}.{part} ()".encode())
        lineage.write(connection, schemas, lambda made=made: made, part=part, version="1")  # type: ignore[arg-type, misc]
        lineage.write(connection, schemas, dict, part=part, version="1")  # type: ignore[arg-type]
    assert lineage.read(connection, schemas).keys() == {"tables", "models"}


def test_a_build_is_recorded_with_the_rows_that_it_made(connection: Connection, schemas: TenantSchemas) -> None:
    assert builds.read_provenance(connection, schemas) == {}
    builds.read(connection, schemas)

    def build(run: str, rows: int) -> None:
        with connection.transaction():
            connection.execute(f"create table {schemas.marts}.{run} ()".encode())
            builds.record(
                connection, schemas, run, definition="d", built_from={"raw_cases": "x"}, run_id=run, rows=rows
            )

    build("a", 3)
    build("b", 4)
    first, second = builds.read_provenance(connection, schemas).values()
    assert (first.kind, first.run_id, first.rows, first.built_from, first.findings, first.checked) == (
        "table", "a", 3, {"raw_cases": "x"}, (), None,
    )  # fmt: skip
    assert first.version < second.version
    assert first.changed_at < second.changed_at
    [[oid]] = connection.execute("select to_regclass(%s)::oid::bigint", [f"{schemas.marts}.a"]).fetchall()
    assert first.relation == oid

    found = [Finding("values_fit", "warn", 2, "2 values", {"age": 2}), Finding("t", "error", None, None)]
    builds.write_findings(connection, schemas, {"a": found, "b": []}, {"a": {"a": first.version}}, run_id="a")
    builds.unchanged_since(connection, schemas, {"a": ("e", {"raw_cases": "y"})})
    builds.build_as_a_whole(connection, schemas, ["b"])
    now = builds.read(connection, schemas)
    of_whole = {"definition": "e", "checked": {"a": first.version}, "whole_version": first.version}
    assert now["a"] == replace(first, built_from={"raw_cases": "y"}, findings=tuple(found), **of_whole)
    assert now["b"] == replace(second, definition="", checked={}, whole_version=second.version)
    builds.forget(connection, schemas, ["a"])
    assert builds.read(connection, schemas).keys() == {"b"}


def test_readers_know_the_builds_of_the_version_before_until_the_next_run(
    connection: Connection, schemas: TenantSchemas
) -> None:
    """It had fewer columns, which only a run may add."""
    builds.read(connection, schemas)
    connection.execute(f"create table {schemas.marts}.a ()".encode())
    builds.record(connection, schemas, "a", definition="d", built_from={}, run_id="a run", rows=3)
    place = f"{schemas.staging}.{definitions.BUILDS}"
    connection.execute(f"alter table {place} drop column whole_version, drop column columns".encode())
    connection.execute(f"update {schemas.staging}.{IN_STAGING.version_table} set version = 2".encode())
    connection.execute("set default_transaction_read_only = on")
    assert [(name, of.rows) for name, of in builds.read_provenance(connection, schemas).items()] == [("a", 3)]
    connection.execute("set default_transaction_read_only = off")
    assert [(name, of.rows) for name, of in builds.read(connection, schemas).items()] == [("a", 3)]


def test_views_between_raw_tables_and_tables_go_unless_somebody_reads_them(
    connection: Connection, schemas: TenantSchemas
) -> None:
    for name in ("stg_cases", "stg_forms", "stg_own"):
        connection.execute(f"create view {schemas.staging}.{name} as select 1 as one".encode())
    connection.execute(f"create view {schemas.marts}.mine as select * from {schemas.staging}.stg_forms".encode())
    builds.read(connection, schemas)
    views = connection.execute("select viewname from pg_views where schemaname = %s order by 1", [schemas.staging])
    assert views.fetchall() == [("stg_forms",), ("stg_own",)]


def test_rejected_records_are_counted_by_source_with_the_most_frequent_reason(
    connection: Connection, schemas: TenantSchemas
) -> None:
    columns_of = ", ".join(f"{name} text" for name in rejected.COLUMNS)
    connection.execute(f"create table {schemas.raw}.{rejected.TABLE} ({columns_of})".encode())
    connection.execute(
        f"insert into {schemas.raw}.{rejected.TABLE} (resource, reason) values ('cases', 'a'), ('cases', 'b'),"
        " ('cases', 'b'), ('forms', 'c')".encode()
    )
    assert rejected.read(connection, schemas) == {"cases": (3, "b"), "forms": (1, "c")}


def test_a_table_that_was_dropped_is_made_again(connection: Connection, schemas: TenantSchemas) -> None:
    profile.read(connection, schemas)
    connection.execute(f"drop table {schemas.staging}.{definitions.PROFILE}".encode())
    assert profile.read(connection, schemas) is None


def test_tables_of_a_later_version_are_refused_as_they_are(connection: Connection, schemas: TenantSchemas) -> None:
    profile.read(connection, schemas)
    profile.write(connection, schemas, "of later")
    place = f"{schemas.staging}.{IN_STAGING.version_table}"
    connection.execute(f"update {place} set version = version + 1".encode())
    with pytest.raises(BookkeepingTooNew) as refused:
        profile.read(connection, schemas)
    assert refused.value.code == "bookkeeping_too_new"
    assert connection.execute(f"select profile from {schemas.staging}.{definitions.PROFILE}".encode()).fetchall() == [
        ("of later",)
    ]


def test_an_upgrade_that_is_killed_half_way_leaves_the_old_tables_for_the_next_one(
    tenant: Tenant, connection: Connection, schemas: TenantSchemas
) -> None:
    connection.execute(VERSION_0.format(staging=schemas.staging, raw=schemas.raw).encode())

    def killed(own: Connection, schema: str, there: Collection[str]) -> None:
        own.execute("select pg_terminate_backend(pg_backend_pid())")

    half_way = replace(IN_STAGING, migrations=(*IN_STAGING.migrations, killed))
    with tenant.rw.connect(autocommit=True) as own, pytest.raises(psycopg.OperationalError):
        upgrade(own, schemas.staging, half_way)
    left = _bookkeeping(connection, schemas)
    assert "explorer_misfits" in left
    assert not left & {definitions.BUILDS, IN_STAGING.version_table}
    assert profile.read(connection, schemas) == '{"version": 2}'


def test_half_of_the_tables_are_completed_and_keep_what_they_hold(
    connection: Connection, schemas: TenantSchemas
) -> None:
    connection.execute(VERSION_0.format(staging=schemas.staging, raw=schemas.raw).encode())
    for table in ("explorer_misfits", definitions.COLUMNS, definitions.PROFILE):
        connection.execute(f"drop table {schemas.staging}.{table}".encode())
    assert profile.read(connection, schemas) is None
    assert set(lineage.read(connection, schemas)) == {"cases"}
    assert set(loads.read(connection, schemas.raw)) == {"cases"}
    assert versions(connection, schemas) == [IN_RAW.version, IN_STAGING.version]


def test_several_who_come_at_once_upgrade_once(tenant: Tenant, connection: Connection, schemas: TenantSchemas) -> None:
    connection.execute(VERSION_0.format(staging=schemas.staging, raw=schemas.raw).encode())
    together, failures = Barrier(4), list[BaseException]()

    def come() -> None:
        try:
            with tenant.rw.connect(autocommit=True) as own:
                together.wait()
                upgrade(own, schemas.staging, IN_STAGING)
        except BaseException as error:
            failures.append(error)

    threads = [Thread(target=come) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    query = f"select version from {schemas.staging}.{IN_STAGING.version_table}".encode()
    assert connection.execute(query).fetchall() == [(IN_STAGING.version,)]
    assert profile.read(connection, schemas) == '{"version": 2}'


def test_readers_of_the_marts_read_none_of_the_staging_schema(tenant: Tenant, connection: Connection) -> None:
    profile.read(connection, TenantSchemas(tenant.prefix))
    with tenant.ro.connect() as reader, pytest.raises(psycopg.errors.InsufficientPrivilege):
        reader.execute(f"select * from {tenant.prefix}_staging.{IN_STAGING.version_table}".encode())


def test_facts_hold_what_postgres_cannot_and_leave_no_trace_of_it(
    connection: Connection, schemas: TenantSchemas
) -> None:
    columns.write(connection, schemas, {"f": {"a": {"label": "nul \0 half \ud800"}}})
    assert columns.read(connection, schemas, ["f"]) == {"f": {"a": {"label": "nul \ufffd half \ufffd"}}}


def test_no_file_outside_names_a_bookkeeping_table() -> None:
    names = {*IN_RAW.columns, *IN_STAGING.columns, IN_RAW.version_table, IN_STAGING.version_table}
    spelt = re.compile(rf"(?<!\w)({'|'.join(sorted(names))})(?!\w)")
    # dbt reads the table of rejected records as an ordinary raw table, so only code may not name it.
    of_code = re.compile(rf"{spelt.pattern}|{rejected.TABLE}\b")
    owner = ROOT / "explorer" / "contract" / "bookkeeping"
    # dbt's models write their records themselves, in their own transactions.
    hooks = [ROOT / "dbt_project" / "macros" / name for name in ("record_build.sql", "swapped_incremental.sql")]
    found = [
        f"{path.relative_to(ROOT)}: {match[0]}"
        for folder in ("explorer", "explorer_dagster", "explorer_cli", "mcp_bridge", "benchmarks", "dbt_project")
        for path in sorted((ROOT / folder).rglob("*"))
        if path.suffix in (".py", ".sql", ".yml") and owner not in path.parents and path not in hooks
        for match in (of_code if path.suffix == ".py" else spelt).finditer(path.read_text(encoding="utf-8"))
    ]
    assert found == []


def test_a_document_of_facts_is_json_by_column(connection: Connection, schemas: TenantSchemas) -> None:
    columns.write(connection, schemas, {"f": {"a": {"path": ["a"], "options": [{"value": "1", "label": "One"}]}}})
    [[text]] = connection.execute(f"select columns::text from {schemas.staging}.{definitions.COLUMNS}".encode())
    assert json.loads(text) == {"a": {"path": ["a"], "options": [{"value": "1", "label": "One"}]}}
