"""Readers in a loop during a load: they are never blocked and never see half a table."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager

import psycopg
import pytest

from demo_commcare import MATERNAL
from explorer.load import row_buffer
from explorer.load.errors import LoadFailed
from explorer.load.raw import finish
from tests.explorer.load.conftest import Loader


@pytest.fixture(params=["in memory", "streaming"])
def mode(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    if request.param == "streaming":
        monkeypatch.setattr(row_buffer, "MEMORY_BYTES", 2_000)
        monkeypatch.setattr(row_buffer, "CHUNK_BYTES", 2_000)
    return str(request.param)


@contextmanager
def reading(loader: Loader, query: str) -> Iterator[list[object]]:
    """What the query gives again and again while the block runs. It fails when it has to wait for a lock."""
    seen: list[object] = []
    errors: list[Exception] = []
    stop = threading.Event()

    def read() -> None:
        with loader.tenant.rw.connect(autocommit=True) as connection:
            connection.execute("SET lock_timeout = '250ms'")
            while not stop.is_set():
                try:
                    seen.append(connection.execute(query.replace("raw.", f"{loader.tenant.prefix}_raw.")).fetchall())
                except psycopg.errors.UndefinedTable:
                    seen.append(None)
                except psycopg.Error as error:
                    errors.append(error)
                    return

    readers = [threading.Thread(target=read) for _ in range(2)]
    for reader in readers:
        reader.start()
    try:
        yield seen
    finally:
        stop.set()
        for reader in readers:
            reader.join()
    assert errors == []
    assert len(seen) > 3


CONTENT = "SELECT count(*), count(DISTINCT case_id), min(_run_id) FROM raw.raw_cases WHERE _deleted_at IS NULL"


def test_first_load(loader: Loader, mode: str) -> None:
    total = len(loader.demo.truth(MATERNAL).cases)
    with reading(loader.with_page_size(10), CONTENT) as seen:
        loader("cases")
    assert {str(rows) for rows in seen} <= {"None", str([(0, 0, None)]), str([(total, total, "run-1")])}


def test_first_load_into_an_empty_table_with_a_view_on_it(loader: Loader, mode: str) -> None:
    """As dbt builds them, also when a resource was not allowed at first."""
    loader.demo.control.deny(MATERNAL, "case")
    loader("cases", "groups")
    loader.demo.control.allow(MATERNAL, "case")
    staging = f"{loader.tenant.prefix}_staging"
    with loader.tenant.rw.connect(autocommit=True) as connection:
        connection.execute(f"CREATE VIEW {staging}.cases AS SELECT * FROM {loader.tenant.prefix}_raw.raw_cases")
    total = len(loader.demo.truth(MATERNAL).cases)
    with reading(loader.with_page_size(10), f"SELECT count(*) FROM {staging}.cases") as seen:
        loader("cases")
    assert {str(rows) for rows in seen} <= {str([(0,)]), str([(total,)])}
    assert loader.rows(f"SELECT count(*) FROM {staging}.cases") == [(total,)]


@pytest.mark.parametrize("full", [False, True])
def test_later_loads(loader: Loader, mode: str, full: bool) -> None:
    """Half of the cases change; a full refresh notices that one is gone, too. All that at one instant."""
    loader.with_page_size(10)("cases")
    control = loader.demo.control
    total = len(loader.demo.truth(MATERNAL).cases)
    state = "SELECT count(*), count(*) FILTER (WHERE record->'properties'->>'village' = 'moved') FROM raw.raw_cases"
    state += " WHERE _deleted_at IS NULL"
    changed = control.update_every_nth_case(MATERNAL, 2, {"village": "moved"})
    if full:
        untouched = next(
            case["case_id"]
            for case in loader.demo.truth(MATERNAL).cases
            if case["properties"].get("village") != "moved"
        )
        control.delete_case(MATERNAL, untouched)
    with reading(loader, state) as seen:
        report = loader("cases", full=full).resources["cases"]
    assert {str(rows) for rows in seen} <= {str([(total, 0)]), str([(total - full, changed)])}
    assert (report.rows_new, report.rows_changed, report.rows_deleted) == (0, changed, int(full))
    assert loader.differences().keys() <= {"raw_forms", "raw_users", "raw_web_users", "raw_groups", "raw_locations",
                                           "raw_lookup_tables", "raw_lookup_table_items"}  # fmt: skip


def test_a_reader_that_stays_does_not_stop_the_first_load(loader: Loader) -> None:
    """The empty table cannot be replaced while somebody reads it: its rows are inserted then."""
    loader.demo.control.deny(MATERNAL, "case")
    loader("cases", "groups")
    loader.demo.control.allow(MATERNAL, "case")
    with loader.tenant.rw.connect() as reader:
        assert reader.execute(f"SELECT count(*) FROM {loader.tenant.prefix}_raw.raw_cases").fetchall() == [(0,)]
        report = loader("cases").resources["cases"]
    assert report.rows_new == report.rows_total == len(loader.demo.truth(MATERNAL).cases)
    assert loader.rows("SELECT count(*) FROM raw.raw_cases") == [(report.rows_total,)]


def test_cursor_and_table_change_together(loader: Loader, monkeypatch: pytest.MonkeyPatch) -> None:
    loader("cases")
    loader.demo.control.update_every_nth_case(MATERNAL, 3, {"village": "moved"})
    before = loader.rows("SELECT cursor, live_rows FROM raw._explorer_cursors WHERE source = 'cases'")

    def fail(*arguments: object) -> None:
        original(*arguments)  # type: ignore[arg-type]
        raise psycopg.OperationalError("the connection is lost before it commits")

    original = finish.finish
    monkeypatch.setattr(finish, "finish", fail)
    with pytest.raises(LoadFailed, match="lost before"):
        loader("cases")
    monkeypatch.undo()
    assert loader.rows("SELECT cursor, live_rows FROM raw._explorer_cursors WHERE source = 'cases'") == before
    assert loader.rows("SELECT max(indexed_on) FROM raw.raw_cases") == [(before[0][0],)]
    loader("cases")
    assert loader.rows("SELECT max(indexed_on) FROM raw.raw_cases") == loader.rows(
        "SELECT cursor FROM raw._explorer_cursors WHERE source = 'cases'"
    )
    assert loader.differences().keys().isdisjoint({"raw_cases"})
