"""Loaded rows equal the server's records: first load, changes, full refresh and refused resources."""

import signal
import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import pytest

from demo_commcare import MATERNAL
from explorer.catalog.secrets.credentials import ApiKeyCredential
from explorer.http.errors import CutOff, PermissionMissing
from explorer.load import dlt_run
from explorer.load.copy.first_load import FirstLoad
from explorer.load.errors import LoadFailed, ResourceUnknownToPipeline
from explorer.load.row_buffer import RowBuffer
from explorer.providers.commcare.client import CommCareClient
from tests.explorer.load.conftest import Loader


def test_first_load_then_nothing_new(loader: Loader) -> None:
    report = loader()
    assert loader.differences() == {}
    for name, resource in report.resources.items():
        assert (name, resource.status) == (name, "loaded")
        assert resource.rows_landed == resource.rows_new == resource.rows_total
        # UCR rows come without a count.
        assert resource.api_total == (None if name == "ucr_rows" else resource.rows_total)
        assert resource.bytes > 0
    keys = loader.rows("SELECT case_id, case_type, owner_id, closed, _run_id, _page FROM raw.raw_cases ORDER BY 1")
    truth = sorted(loader.truth("cases").values(), key=lambda case: case["case_id"])
    assert keys == [(c["case_id"], c["case_type"], c["owner_id"], c["closed"], "run-1", 1) for c in truth]
    assert dict(loader.rows("SELECT user_id, is_active FROM raw.raw_users")) == {
        user["id"]: user["is_active"] for user in loader.demo.truth(MATERNAL).users
    }
    assert not any(loader.work_dir.iterdir()), "files of the load stay behind"


def test_records_that_fit_into_a_page_are_not_compressed(loader: Loader) -> None:
    loader()
    stored = (
        "SELECT count(*) > 0, count(pg_column_compression(record)) FROM raw.raw_forms"
        " WHERE length(record::text) BETWEEN 2500 AND 6000"
    )
    assert loader.rows(stored) == [(True, 0)]


def test_nothing_new_writes_nothing_and_runs_no_dlt(loader: Loader, monkeypatch: pytest.MonkeyPatch) -> None:
    loader()
    loader()
    tables = [source.table for source in loader.pipeline.sources]
    content = " UNION ALL ".join(
        f"SELECT '{table}', ctid::text, xmin::text, xmax::text FROM raw.{table}" for table in tables
    )
    content += (
        " UNION ALL SELECT source, cursor::text, changed_at::text, run_id FROM raw._explorer_cursors ORDER BY 1, 2"
    )
    before, read = loader.rows(content), "SELECT min(updated_at) FROM raw._explorer_cursors"
    [(read_before,)] = loader.rows(read)
    monkeypatch.setattr(dlt_run, "run_dlt", lambda *_, **__: pytest.fail("dlt was run"))
    report = loader()
    assert loader.rows(content) == before
    # That all was read, and is as it was, is known of each source.
    [(read_now,)] = loader.rows(read)
    assert read_now > read_before
    for name, resource in report.resources.items():
        assert (resource.rows_new, resource.rows_changed, resource.rows_deleted) == (0, 0, 0)
        if name != "ucr_rows":
            assert resource.requests == len(loader.pipeline.source(name).passes)
        if not loader.pipeline.source(name).cursor:
            assert resource.rows_total == resource.rows_landed
    loader(full=True)
    assert loader.rows(content) == before


def test_incremental_load_brings_what_changed_and_full_refresh_marks_what_is_gone(loader: Loader) -> None:
    loader.with_page_size(7)()
    truth, control = loader.demo.truth(MATERNAL), loader.demo.control
    first, second, third = [case["case_id"] for case in truth.cases if not case["closed"]][:3]
    forms = [form for form in truth.forms if not form["archived"] and form["app_id"]]
    new = control.create_case(MATERNAL, "pregnancy", "Neu \U0001f476", {"a": "ü"})
    control.update_case(MATERNAL, first, {"village": "changed"})
    control.close_case(MATERNAL, second)
    control.archive_form(MATERNAL, forms[0]["id"])
    control.deactivate_user(MATERNAL, truth.users[0]["id"])
    report = loader()
    assert loader.differences() == {}
    assert new in loader.records("raw_cases")
    assert 3 <= report.resources["cases"].rows_landed < report.resources["cases"].rows_total
    assert report.resources["cases"].api_total is None, "a part was read, the whole was not counted"

    control.delete_case(MATERNAL, third)
    control.delete_form(MATERNAL, forms[1]["id"])
    report = loader(full=True)
    assert loader.differences() == {}
    assert loader.rows("SELECT case_id FROM raw.raw_cases WHERE _deleted_at IS NOT NULL") == [(third,)]
    assert report.resources["cases"].rows_total == report.resources["cases"].api_total
    loader.rows(f"UPDATE raw.raw_cases SET _deleted_at = now() WHERE case_id = '{first}' RETURNING 1")
    loader("cases", full=True)
    assert first in loader.records("raw_cases"), "a row that is there again stays marked as deleted"


def test_refused_resources_are_skipped_and_keep_their_rows(loader: Loader) -> None:
    control = loader.demo.control
    control.deny(MATERNAL, "group")
    report = loader("groups", "locations")
    assert (report.resources["groups"].status, report.resources["locations"].status) == ("skipped", "loaded")
    assert report.resources["groups"].skipped_reason
    tables = {
        n for (n,) in loader.rows(f"SELECT tablename FROM pg_tables WHERE schemaname = '{loader.tenant.prefix}_raw'")
    }
    needed = {source.table for source in loader.pipeline.sources} | {"raw_rejected"}
    assert needed <= tables, "transforms need every table"
    count = loader.rows("SELECT count(*) FROM raw.raw_locations WHERE _deleted_at IS NULL")
    control.allow(MATERNAL, "group")
    control.deny(MATERNAL, "location")
    assert loader("groups", "locations", full=True).resources["locations"].status == "skipped"
    assert loader.rows("SELECT count(*) FROM raw.raw_locations WHERE _deleted_at IS NULL") == count
    with pytest.raises(PermissionMissing):
        loader("locations")
    control.cut_off(MATERNAL)
    with pytest.raises(CutOff):
        loader()


def test_a_failing_resource_does_not_stop_the_others_and_heals_later(loader: Loader) -> None:
    loader.with_page_size(10)
    loader.demo.control.fail(r"/form/v1/", kind="status", status=502, times=50, skip=2)
    report = loader()
    failed = report.resources["forms"]
    assert failed.status == "failed"
    assert failed.error is not None
    assert (failed.error["code"], failed.error["details"]["resource"]) == ("commcare_server_error", "forms")
    assert failed.rows_total == 0, "half a extract must not land"
    assert loader.differences().keys() == {"raw_forms"}
    loader.demo.control.clear_faults()
    loader()
    assert loader.differences() == {}


def test_values_that_postgres_cannot_hold_are_repaired_or_set_aside(loader: Loader) -> None:
    loader.demo.control.fail(r"/group/v1/", body=(
        '{"meta":{"total_count":4,"next":null},"objects":['
        '{"id":"good","name":"a\\u0000b \\ud800 \\ud83d\\ude00 \\\\u0000","n":1e30},'
        '{"id":"huge","name":"x","n":1e999999},'
        '{"name":"without id"},'
        '{"id":"typed","name":{"not":"text"}}]}'
    ), status=200)  # fmt: skip
    report = loader("groups").resources["groups"]
    assert (report.rows_landed, report.rejected, report.repaired) == (2, 2, 3)
    assert report.rejected_reasons == {
        "a number is beyond what Postgres can hold": 1,
        "the record has no primary key": 1,
    }
    rows = dict(loader.rows("SELECT group_id, record->>'name' FROM raw.raw_groups"))
    assert rows == {"good": "a�b � \U0001f600 \\u0000", "typed": '{"not": "text"}'}
    assert loader.rows("SELECT name FROM raw.raw_groups WHERE group_id = 'typed'") == [(None,)]
    assert sorted(loader.rows("SELECT resource, record_start FROM raw.raw_rejected")) == [
        ("groups", '{"id":"huge","name":"x","n":1e999999}'),
        ("groups", '{"name":"without id"}'),
    ]


def test_what_cannot_start_is_refused(loader: Loader) -> None:
    with pytest.raises(ResourceUnknownToPipeline, match="lookup_tables"):
        loader("nonsense")


@pytest.mark.parametrize("phase", ["walk", "copy", "dlt"])
def test_an_interrupt_ends_threads_and_statements_at_once(
    loader: Loader, monkeypatch: pytest.MonkeyPatch, phase: str
) -> None:
    """As Dagster interrupts a cancelled run: an exception in the main thread while others wait or write."""
    reader = loader.tenant.rw.connect()
    main_thread = threading.main_thread().ident or 0
    interrupted_at: list[float] = []

    def end() -> None:
        interrupted_at.append(time.monotonic())
        signal.pthread_kill(main_thread, signal.SIGINT)

    interrupt = threading.Timer(0.5, end)
    if phase == "walk":
        loader.demo.control.set_latency(30)
        start = RowBuffer.start

        def begin(self: RowBuffer, decided: Callable[[], None]) -> None:
            start(self, decided)
            interrupt.start()

        monkeypatch.setattr(RowBuffer, "start", begin)
    elif phase == "copy":

        def stage(first: FirstLoad) -> int:
            interrupt.start()
            return first.statements.execute("SELECT pg_sleep(60)").rowcount

        monkeypatch.setattr(FirstLoad, "stage", stage)
    else:
        run_dlt = dlt_run.run_dlt

        def run(*arguments: Any) -> None:
            reader.execute(f"LOCK TABLE {loader.tenant.prefix}_raw.raw_groups")
            threading.Thread(target=interrupt_the_merge).start()
            run_dlt(*arguments)

        def interrupt_the_merge() -> None:
            waits = "SELECT count(*) FROM pg_stat_activity WHERE usename = current_user AND wait_event_type = 'Lock'"
            while loader.rows(waits) == [(0,)]:
                time.sleep(0.05)
            interrupt.start()

        monkeypatch.setattr(dlt_run, "run_dlt", run)
    client = CommCareClient(
        loader.demo.url, MATERNAL, ApiKeyCredential(loader.demo.username, loader.demo.api_key), settings=loader.settings
    )
    with pytest.raises((KeyboardInterrupt, LoadFailed)):
        loader("cases" if phase == "copy" else "groups", client=client)
    assert time.monotonic() - interrupted_at[0] < 25, "it waited for what was to be ended"
    running = (
        "SELECT count(*) FROM pg_stat_activity WHERE usename = current_user AND application_name = 'explorer-load'"
    )
    assert loader.rows(running) == [(0,)]
    reader.close()


def test_one_extract_per_record_of_another_source(loader: Loader) -> None:
    """UCR rows: for the data sources of this load, else for those in the table; as refused as the data sources are."""
    both = loader("ucr_data_sources", "ucr_rows").resources
    rows = both["ucr_rows"].rows_total
    assert rows == both["ucr_rows"].rows_new > 0
    assert loader("ucr_rows").resources["ucr_rows"].rows_total == rows
    loader.demo.control.fail(r"/ucr_data_source/", status=403, times=10)
    both = loader("ucr_data_sources", "ucr_rows", "groups").resources
    assert {both[name].status for name in ("ucr_data_sources", "ucr_rows")} == {"skipped"}
    assert loader.rows("SELECT count(*) FROM raw.raw_ucr_rows WHERE _deleted_at IS NULL") == [(rows,)]


def test_a_load_is_later_than_the_one_before_whatever_the_clock_says(loader: Loader) -> None:
    """`_loaded_at` and `_deleted_at` show what changed since a load; a clock that was set back must not hide changes."""
    loader("cases")
    with loader.tenant.rw.connect() as connection:
        connection.execute(f"UPDATE {loader.tenant.prefix}_raw._explorer_cursors SET changed_at = '2100-01-01'")
    [gone, closed] = [case["case_id"] for case in loader.demo.truth(MATERNAL).cases[:2]]
    loader.demo.control.delete_case(MATERNAL, gone)
    loader.demo.control.close_case(MATERNAL, closed)
    loader("cases", full=True)
    [(changed_at,)] = loader.rows("SELECT changed_at FROM raw._explorer_cursors WHERE source = 'cases'")
    assert changed_at > datetime(2100, 1, 1, tzinfo=UTC)
    moments = dict(loader.rows("SELECT case_id, coalesce(_deleted_at, _loaded_at) FROM raw.raw_cases"))
    assert {case_id for case_id, moment in moments.items() if moment == changed_at} == {gone, closed}
    loader("cases", full=True)
    assert loader.rows("SELECT changed_at FROM raw._explorer_cursors WHERE source = 'cases'") == [(changed_at,)]
