"""Running dbt inside this process: results per model, interrupts, dbt's environment, and the view of readers meanwhile."""

import ctypes
import gc
import os
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from explorer.marts.dbt.errors import TransformBusy, TransformFailed
from explorer.marts.dbt.results import NodeResult
from explorer.marts.project import DbtProjectMissing, TenantProject
from explorer.providers.commcare.structure import Structure
from tests.explorer.workshop import DBT_PROJECT, Workshop

NOTHING = Structure((), (), ())
SLOW = "select 1 as id, pg_sleep({seconds})::text as slept"


@pytest.fixture
def make_project(
    make_workshop: Callable[[], Workshop], tmp_path: Path
) -> Callable[..., tuple[Workshop, TenantProject]]:
    """`make_project(name="select ...")`: a tenant's project of the real settings and macros with these models only."""

    def make(**models: str) -> tuple[Workshop, TenantProject]:
        source = tmp_path / "dbt_project"
        for name in ("dbt_project.yml", "profiles.yml"):
            _write(source / name, (DBT_PROJECT / name).read_text())
        for macro in (DBT_PROJECT / "macros").glob("*.sql"):
            _write(source / "macros" / macro.name, macro.read_text())
        for name, text in models.items():
            _write(source / "models" / "commcare" / "marts" / f"{name}.sql", text)
        workshop = make_workshop()
        return workshop, workshop.prepare(NOTHING, dbt_project=source)

    return make


def _write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def _queries(workshop: Workshop) -> list[tuple[Any, ...]]:
    with workshop.connections.admin.connect() as connection:
        query = "select state, query from pg_stat_activity where usename = %s and application_name = 'explorer-dbt'"
        return connection.execute(query, [workshop.tenant.rw.user]).fetchall()


def _until(condition: Callable[[], bool], limit_s: float) -> bool:
    deadline = time.monotonic() + limit_s
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.02)
    return True


class Interrupt(BaseException):
    """Like Dagster's interrupt: no Exception."""


def test_one_failing_model_fails_alone(make_project: Callable[..., tuple[Workshop, TenantProject]]) -> None:
    workshop, project = make_project(
        good="select 1 as id",
        bad="select 1 / 0 as id",
        below="select * from {{ ref('bad') }}",
        beside="select * from {{ ref('good') }}",
    )
    seen: list[NodeResult] = []
    result = workshop.run(project, on_result=seen.append)
    assert not result.success
    assert {node.name: node.status for node in result.results} == {
        "good": "success",
        "bad": "error",
        "below": "skipped",
        "beside": "success",
    }
    assert "division by zero" in str(next(node.message for node in seen if node.name == "bad"))
    assert workshop.read("select id from beside") == [(1,)]
    assert {node.name for node in result.failed} == {"bad", "below"}


def test_tests_that_are_limited_or_keep_what_they_find_do(
    make_project: Callable[..., tuple[Workshop, TenantProject]],
) -> None:
    workshop, project = make_project(numbers="select generate_series(1, 3) as number")
    found = "select number from {{ ref('numbers') }}"
    configs = {"plain": "severity='error'", "limited": "limit=2", "kept": "store_failures=true, schema='marts'"}
    for name, config in configs.items():
        _write(project.dir / "tests" / f"{name}.sql", f"{{{{ config({config}) }}}} {found}")
    again = TenantProject(project.dir, project.target_dir, project.schemas, (), "changed", "static")
    result = workshop.run(again)
    assert {each.name: each.rows for each in result.failed} == {"plain": 3, "limited": 2, "kept": 3}
    assert workshop.read("select sum(number) from kept") == [(6,)]


def test_dbt_is_afterwards_as_it_was(make_project: Callable[..., tuple[Workshop, TenantProject]]) -> None:
    from dbt.adapters.events.types import SQLQuery
    from dbt_common.events.event_manager_client import get_event_manager

    before = get_event_manager()
    workshop, project = make_project(good="select 1 as id", bad="select 1 / 0 as id")

    def interrupt(_: NodeResult) -> None:
        raise Interrupt

    assert workshop.run(project).results
    # When the last node ends dbt is about its pool: collecting that must not wait for a lock that nobody gives back.
    for _ in range(10):
        with pytest.raises(Interrupt):
            workshop.run(project, select=["good"], on_result=interrupt)
        gc.collect()
    assert get_event_manager() is before
    assert SQLQuery(conn_name="x", sql="select 1").sql == "select 1"


def test_dbt_sees_its_own_login_and_nothing_else(
    make_project: Callable[..., tuple[Workshop, TenantProject]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("EXPLORER_SECRET_KEYS", "the key of all credentials")
    monkeypatch.setenv("DBT_ENV_SECRET_EXPLORER_PASSWORD", "of somebody else")
    before = dict(os.environ)
    workshop, project = make_project(
        peek="select '{{ env_var('EXPLORER_SECRET_KEYS', 'nothing') }}' as key, "
        "'{{ env_var('DBT_EXPLORER_USER', 'nobody') }}' as login"
    )
    assert workshop.run(project).success
    assert workshop.read("select key, login from peek") == [("nothing", workshop.tenant.rw.user)]
    assert dict(os.environ) == before


def test_an_interrupt_leaves_no_query_and_the_old_table(
    make_project: Callable[..., tuple[Workshop, TenantProject]],
) -> None:
    workshop, project = make_project(slow=SLOW.format(seconds=0), then="select 1 as id from {{ ref('slow') }}")
    assert workshop.run(project).success
    _write(project.dir / "models" / "commcare" / "marts" / "slow.sql", SLOW.format(seconds=600))
    again = TenantProject(project.dir, project.target_dir, project.schemas, (), "changed", "static")
    caller = threading.get_ident()

    def interrupt() -> None:
        if _until(lambda: any("pg_sleep(600)" in query for _, query in _queries(workshop)), 60):
            ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(caller), ctypes.py_object(Interrupt))

    threading.Thread(target=interrupt, daemon=True).start()
    with pytest.raises(Interrupt):
        workshop.run(again)
    assert _until(lambda: _queries(workshop) == [], 2)
    assert workshop.read("select id, slept from slow") == [(1, "")]
    with workshop.tenant.rw.connect() as connection:
        tables = connection.execute(
            "select tablename from pg_tables where schemaname = %s", [f"{project.schemas.prefix}_marts"]
        )
        assert sorted(tables.fetchall()) == [("slow",), ("then",)]
    # The process can run dbt again.
    assert workshop.run(project, select=["then"]).success


def test_an_error_of_the_caller_ends_the_run(make_project: Callable[..., tuple[Workshop, TenantProject]]) -> None:
    workshop, project = make_project(a="select 1 as id", slow=SLOW.format(seconds=600))

    def complain(result: NodeResult) -> None:
        raise LookupError(result.name)

    with pytest.raises(LookupError, match="a"):
        workshop.run(project, on_result=complain)
    assert _until(lambda: _queries(workshop) == [], 2)


def test_readers_see_the_old_rows_or_the_new_ones(make_project: Callable[..., tuple[Workshop, TenantProject]]) -> None:
    """A long query holds the old table while it is replaced; short ones go on all the time."""
    workshop, project = make_project(numbers="select n, now() as made from generate_series(1, 1000) as n")
    assert workshop.run(project).success
    counts: list[int] = []
    stop = threading.Event()

    def read_on() -> None:
        with workshop.tenant.ro.connect(autocommit=True) as connection:
            while not stop.is_set():
                counts.extend(connection.execute("select count(*)::int from numbers").fetchone() or ())

    reader = threading.Thread(target=read_on)
    reader.start()
    try:
        with workshop.tenant.ro.connect() as long_query:
            long_query.execute("select count(*) from numbers")
            threading.Timer(2.0, long_query.rollback).start()
            result = workshop.run(project)
    finally:
        stop.set()
        reader.join()
    assert result.success
    assert set(counts) == {1000}


def test_only_one_run_at_a_time_in_a_process(make_project: Callable[..., tuple[Workshop, TenantProject]]) -> None:
    workshop, project = make_project(a="select 1 as id")

    def again(result: NodeResult) -> None:
        with pytest.raises(TransformBusy):
            workshop.run(project)

    assert workshop.run(project, on_result=again).success


def test_a_run_that_cannot_begin_is_named(make_project: Callable[..., tuple[Workshop, TenantProject]]) -> None:
    workshop, project = make_project(a="select 1 as id")
    with pytest.raises(TransformFailed) as caught:
        workshop.run(project, command=("bild",))
    assert caught.value.code == "transform_failed"


def test_a_missing_project_is_named(make_workshop: Callable[[], Workshop], tmp_path: Path) -> None:
    with pytest.raises(DbtProjectMissing, match="No dbt project"):
        make_workshop().prepare(NOTHING, dbt_project=tmp_path)


def test_connections_end_their_queries_when_the_client_is_gone(
    make_project: Callable[..., tuple[Workshop, TenantProject]],
) -> None:
    workshop, project = make_project(
        told="select current_setting('client_connection_check_interval') as interval, current_setting('TimeZone') as zone"
    )
    assert workshop.run(project).success
    assert workshop.read("select * from told") == [("1s", "UTC")]


def test_an_unchanged_structure_writes_no_file(
    make_project: Callable[..., tuple[Workshop, TenantProject]], tmp_path: Path
) -> None:
    workshop, project = make_project(a="select 1 as id")
    before = {path: path.stat().st_mtime_ns for path in project.dir.rglob("*") if path.is_file()}
    again = workshop.prepare(NOTHING, dbt_project=tmp_path / "dbt_project")
    assert {path: path.stat().st_mtime_ns for path in project.dir.rglob("*") if path.is_file()} == before
    assert again.content_hash == project.content_hash


def test_macros_of_dbt_are_there_for_who_calls_them(
    make_project: Callable[..., tuple[Workshop, TenantProject]],
) -> None:
    """Also macros called by the project's macros, by dispatch, or from Python with a name made at run time."""
    workshop, project = make_project(
        plain="""select ({{ dbt.dateadd('day', 1, "'2024-01-01'::date") }})::date as day, {{ dbt.hash("'a'") }} as hash""",
        typed="select {{ dbt.safe_cast(\"'7'\", api.Column.translate_type('integer')) }} as number",
    )
    result = workshop.run(project)
    assert [(each.name, each.message) for each in result.failed] == []
    assert workshop.read("select day::text, hash from plain") == [("2024-01-02", "0cc175b9c0f1b6a831c399e269772661")]
    assert workshop.read("select number from typed") == [(7,)]
    growing = "{{ config(materialized='incremental', incremental_strategy='delete+insert', unique_key='id') }}"
    workshop, project = make_project(grows=f"{growing} select 1 as id, clock_timestamp() as at")
    for _ in range(2):
        result = workshop.run(project)
        assert [(each.name, each.message) for each in result.failed] == []
    assert workshop.read("select count(*) from grows") == [(1,)]
