"""Loads killed by SIGKILL at any point: tables are consistent, and the next load gives exactly the server's content."""

import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import psycopg
import pytest

from demo_commcare import MATERNAL, serve_in_thread
from explorer.core.settings import Settings
from explorer.load import row_buffer
from explorer.load.errors import LoadFailed
from explorer.load.raw import statements
from explorer.load.raw.table import RawTable
from explorer.postgres.bootstrap import ensure_database
from explorer.postgres.embedded import EmbeddedPostgres
from explorer.registry import Pipeline
from tests.conftest import tenants, throwaway_home
from tests.explorer.load.conftest import TABLES, Loader

KILLED_WORKER = Path(__file__).with_name("killed_worker.py")


def _load_and_be_killed(loader: Loader, point: str, mode: str) -> None:
    login = loader.target.conninfo()
    killed = subprocess.run(
        [sys.executable, str(KILLED_WORKER), point, mode, loader.demo.url, loader.demo.username,
         loader.tenant.prefix, str(loader.work_dir)],
        env={
            **os.environ,
            "KILLED_API_KEY": loader.demo.api_key,
            "KILLED_LOGIN": " ".join(f"{key}={value}" for key, value in login.items()),
            "PYTHONPATH": str(Path(__file__).parents[3]),
        },
        check=False,
        capture_output=True,
        text=True,
    )  # fmt: skip
    assert killed.returncode == -signal.SIGKILL, killed.stderr[-2000:]


@pytest.mark.parametrize(
    ("point", "mode"),
    [
        ("walk", "streaming"), ("copy", "streaming"), ("move", "in memory"), ("extracted by dlt", "in memory"),
        ("normalized by dlt", "in memory"), ("loaded by dlt", "in memory"),
    ],
)  # fmt: skip
def test_killed_in_the_first_load(loader: Loader, point: str, mode: str) -> None:
    loader("groups")
    _load_and_be_killed(loader, point, mode)
    for table, kind in TABLES.items():
        ((count,),) = loader.rows(f"SELECT count(*) FROM raw.{table}")
        assert count in (0, len(loader.truth(kind))), "half a table"
    loader()
    assert loader.differences() == {}
    staged = f"SELECT tablename FROM pg_tables WHERE schemaname = '{loader.tenant.prefix}_raw_staging'"
    staged_by_dlt = {source.table for source in loader.pipeline.sources if source.load == "dlt"} | {"_dlt_version"}
    assert {table for (table,) in loader.rows(staged)} <= staged_by_dlt


def test_what_dlt_wrote_before_the_kill_counts_as_a_change(loader: Loader) -> None:
    """Its rows are there, the state for the next load is not: the next load finds no difference, and says that there was one."""
    loader()
    group = loader.demo.truth(MATERNAL).groups[0]
    changed_at = "SELECT changed_at, live_rows FROM raw._explorer_cursors WHERE source = 'groups'"
    [(before, count)] = loader.rows(changed_at)
    loader.demo.app.world.projects[MATERNAL].people.groups.append({**group, "id": "f" * 32})
    _load_and_be_killed(loader, "loaded by dlt", "in memory")
    assert loader.rows("SELECT _run_id FROM raw.raw_groups WHERE group_id = '" + "f" * 32 + "'") == [("killed",)]
    assert loader.rows(changed_at) == [(before, count)]
    report = loader().resources["groups"]
    assert (report.rows_new, report.rows_changed, report.rows_total) == (0, 0, count + 1)
    assert loader.rows(changed_at) == loader.rows(
        f"SELECT _loaded_at, {count + 1}::bigint FROM raw.raw_groups WHERE group_id = '{'f' * 32}'"
    )


@pytest.mark.parametrize("point", ["chunk", "merge"])
def test_killed_in_a_merge(loader: Loader, point: str) -> None:
    loader()
    control, truth = loader.demo.control, loader.demo.truth(MATERNAL)
    control.update_every_nth_case(MATERNAL, 2, {"village": "changed"})
    control.archive_form(MATERNAL, next(form["id"] for form in truth.forms if not form["archived"]))
    control.deactivate_user(MATERNAL, truth.users[0]["id"])
    control.delete_case(MATERNAL, truth.cases[0]["case_id"])
    before = loader.rows("SELECT source, cursor FROM raw._explorer_cursors ORDER BY 1")
    _load_and_be_killed(loader, point, "streaming")
    after = dict(loader.rows("SELECT source, cursor FROM raw._explorer_cursors ORDER BY 1"))
    for source, cursor in before:
        if after[source] == cursor and cursor is not None:
            table = loader.pipeline.source(source).table
            highest = loader.rows(f"SELECT max(indexed_on) FROM raw.{table}")
            assert highest == [(cursor,)], "data and cursor were not committed together"
    loader(full=True)
    assert loader.differences() == {}


def test_postgres_is_killed_during_copy(pipeline: Pipeline, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """All of its processes at once, while a first load streams; started again, it has the tables as they were."""
    monkeypatch.setattr(row_buffer, "MEMORY_BYTES", 2_000)
    monkeypatch.setattr(row_buffer, "CHUNK_BYTES", 2_000)
    original = statements.copy_rows
    kill = threading.Event()
    with throwaway_home() as home, serve_in_thread(cases=60) as demo:
        settings = Settings(_env_file=None, home=home, database_url=None, requests_per_second=1000)
        server = EmbeddedPostgres(home, fsync=False)
        connections = ensure_database(settings, server=server)

        def killing(connection: object, target: object, table: RawTable, chunks: object, option: str = "") -> int:
            def until_killed() -> object:
                for number, chunk in enumerate(chunks):  # type: ignore[call-overload]
                    if table.name == "raw_forms" and number == 3 and not kill.is_set():
                        kill.set()
                        address = server.status().address
                        assert address is not None
                        for entry in Path("/proc").iterdir():
                            if entry.name.isdigit() and _parent(entry) == address.pid:
                                os.kill(int(entry.name), signal.SIGKILL)
                        os.kill(address.pid, signal.SIGKILL)
                    yield chunk

            return original(connection, target, table, until_killed(), option)  # type: ignore[arg-type]

        monkeypatch.setattr(statements, "copy_rows", killing)
        with tenants(connections) as make:
            loader = Loader(demo, make(), connections, pipeline, settings, tmp_path / "dlt").with_page_size(20)
            with pytest.raises((LoadFailed, psycopg.Error)):
                loader()
            assert kill.is_set()
            server.start()
            loader()
            assert loader.differences() == {}


def _parent(process: Path) -> int:
    try:
        return int((process / "stat").read_text().rpartition(")")[2].split()[1])
    except (OSError, ValueError):
        return 0
