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

from explorer.contract.bookkeeping import (
    builds,
    columns,
    definitions,
    lineage,
    loads,
    profile,
    rejected,
    repeats,
    statements,
    unfit_values,
)
from explorer.contract.bookkeeping.builds import Build, Finding
from explorer.contract.bookkeeping.definitions import IN_RAW, IN_STAGING
from explorer.contract.bookkeeping.lineage import ColumnLineage, Origin
from explorer.contract.bookkeeping.loads import LoadState
from explorer.contract.bookkeeping.statements import CompiledModel, CompiledNode, Statement
from explorer.contract.bookkeeping.unfit_values import UnfitValues
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


def test_what_a_tenant_of_before_remembers_is_there_after_its_tables_were_brought_up_to_date(
    connection: Connection, schemas: TenantSchemas
) -> None:
    connection.execute(VERSION_0.format(staging=schemas.staging, raw=schemas.raw).encode())
    assert profile.read(connection, schemas) == '{"version": 2}'
    assert builds.read(connection, schemas) == {
        "cases": Build("d", {"raw_cases": "2026-01-01 00:00:00+00"}, 17, 3, (Finding("t", "fail", 2, "m"),))
    }
    assert columns.read(connection, schemas, ["form_f"]) == {"form_f": {"age": {"path": ["age"], "label": "Age?"}}}
    assert lineage.read(connection, schemas) == {"cases": {"case_id": ColumnLineage((Origin("stg_cases", "case_id"),))}}
    assert unfit_values.read(connection, schemas) == {"form_f": UnfitValues(18, {"age": 4})}
    moment = datetime(2026, 1, 1, tzinfo=UTC)
    assert loads.read(connection, schemas.raw) == {"cases": LoadState(datetime(2026, 1, 2, tzinfo=UTC), 5, 1, moment)}
    kept = f"select xmlns, path from {schemas.staging}.{definitions.REPEATS}".encode()
    assert connection.execute(kept).fetchall() == [("x", ["g", "r"])]
    assert statements.models(connection, schemas) == {}
    assert versions(connection, schemas) == [IN_RAW.version, IN_STAGING.version]


def test_readers_take_tables_of_before_as_they_are_and_change_nothing(
    connection: Connection, schemas: TenantSchemas
) -> None:
    connection.execute("set default_transaction_read_only = on")
    assert columns.read(connection, schemas, ["form_f"]) == {}
    assert lineage.read(connection, schemas) == {}
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

    first = Build("d", {"raw_cases": "x"}, 17, None, (Finding("t", "warn", None, None),))
    builds.read(connection, schemas)
    builds.write(connection, schemas, {"a": first, "b": first}, ["a", "b"])
    builds.forget(connection, schemas, ["b"])
    assert builds.read(connection, schemas) == {"a": first}
    builds.write(connection, schemas, {"c": first}, ["c"])
    assert builds.read(connection, schemas) == {"c": first}

    of_model = CompiledModel("d", frozenset({"raw_cases 1"}), frozenset({"stg_cases"}), "case_id")
    model = Statement("model.x.a", "a", "model", "select 1", None, "error")
    test = Statement("test.x.t", "t", "test", "select 2", "model.x.a", "warn")
    reading = CompiledModel("d", frozenset({"raw_cases 1"}), frozenset({"a", "b"}), None)
    nodes = [CompiledNode("a", of_model, model), CompiledNode("a", reading, test)]
    assert statements.models(connection, schemas) == {}
    statements.write(connection, schemas, nodes, replaced=["a"], current=["a"])
    assert statements.models(connection, schemas) == {"a": of_model}
    assert list(statements.of_models(connection, schemas, ["a"])) == nodes[:1]
    assert list(statements.of_tests(connection, schemas, ["a"], [])) == nodes[1:]
    assert list(statements.of_tests(connection, schemas, ["a"], ["b"])) == []
    statements.write(connection, schemas, [], replaced=[], current=["b"])
    assert statements.models(connection, schemas) == {}

    state = LoadState(None, 2, 1, datetime(2100, 1, 1, tzinfo=UTC))
    assert loads.read(connection, schemas.raw) == {}
    loads.write(connection, schemas.raw, "cases", "raw_cases", state, "run")
    assert loads.read(connection, schemas.raw) == {"cases": state}
    assert loads.next_moment(connection, schemas.raw) > datetime(2100, 1, 1, tzinfo=UTC)

    counted = {"f": UnfitValues(1, {"age": 2}), "g": UnfitValues(2, {})}
    unfit_values.write(connection, schemas, counted, current=[])
    unfit_values.forget(connection, schemas, ["g"])
    assert unfit_values.read(connection, schemas) == {"f": counted["f"]}


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
    names = "select tablename from pg_tables where schemaname = %s"
    left = {name for (name,) in connection.execute(names, [schemas.staging])}
    assert "explorer_misfits" in left
    assert not left & {definitions.UNFIT_VALUES, IN_STAGING.version_table}
    assert unfit_values.read(connection, schemas) == {"form_f": UnfitValues(18, {"age": 4})}


def test_half_of_the_tables_are_completed_and_keep_what_they_hold(
    connection: Connection, schemas: TenantSchemas
) -> None:
    connection.execute(VERSION_0.format(staging=schemas.staging, raw=schemas.raw).encode())
    for table in ("explorer_misfits", definitions.COLUMNS, definitions.PROFILE):
        connection.execute(f"drop table {schemas.staging}.{table}".encode())
    assert unfit_values.read(connection, schemas) == {}
    assert profile.read(connection, schemas) is None
    assert set(builds.read(connection, schemas)) == {"cases"}
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
    assert unfit_values.read(connection, schemas) == {"form_f": UnfitValues(18, {"age": 4})}


def test_readers_of_the_marts_read_none_of_the_staging_schema(tenant: Tenant, connection: Connection) -> None:
    profile.read(connection, TenantSchemas(tenant.prefix))
    with tenant.ro.connect() as reader, pytest.raises(psycopg.errors.InsufficientPrivilege):
        reader.execute(f"select * from {tenant.prefix}_staging.{IN_STAGING.version_table}".encode())


def test_facts_hold_what_postgres_cannot_and_leave_no_trace_of_it(
    connection: Connection, schemas: TenantSchemas
) -> None:
    columns.write(connection, schemas, {"f": {"a": {"label": "nul \0 half \ud800"}}})
    assert columns.read(connection, schemas, ["f"]) == {"f": {"a": {"label": "nul \ufffd half \ufffd"}}}
    repeats.write(connection, schemas, [("x", ("b",)), ("x", ("a",))])
    kept = f"select path from {schemas.staging}.{definitions.REPEATS} order by 1".encode()
    assert connection.execute(kept).fetchall() == [(["a"],), (["b"],)]


def test_no_file_outside_names_a_bookkeeping_table() -> None:
    names = {*IN_RAW.columns, *IN_STAGING.columns, IN_RAW.version_table, IN_STAGING.version_table}
    spelt = re.compile(rf"(?<!\w)({'|'.join(sorted(names))})(?!\w)")
    # dbt reads the table of rejected records as an ordinary raw table, so only code may not name it.
    of_code = re.compile(rf"{spelt.pattern}|{rejected.TABLE}\b")
    owner = ROOT / "explorer" / "contract" / "bookkeeping"
    found = [
        f"{path.relative_to(ROOT)}: {match[0]}"
        for folder in ("explorer", "explorer_dagster", "explorer_cli", "mcp_bridge", "benchmarks", "dbt_project")
        for path in sorted((ROOT / folder).rglob("*"))
        if path.suffix in (".py", ".sql", ".yml") and owner not in path.parents
        for match in (of_code if path.suffix == ".py" else spelt).finditer(path.read_text(encoding="utf-8"))
    ]
    assert found == []


def test_a_document_of_facts_is_json_by_column(connection: Connection, schemas: TenantSchemas) -> None:
    columns.write(connection, schemas, {"f": {"a": {"path": ["a"], "options": [{"value": "1", "label": "One"}]}}})
    [[text]] = connection.execute(f"select columns::text from {schemas.staging}.{definitions.COLUMNS}".encode())
    assert json.loads(text) == {"a": {"path": ["a"], "options": [{"value": "1", "label": "One"}]}}
