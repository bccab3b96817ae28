"""Servers that break off, lie or refuse in the middle of a load: no table is half changed, and the next load is exact."""

from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from demo_commcare import MATERNAL
from explorer.catalog.secrets.credentials import OAuthCredential
from explorer.contract.bookkeeping.loads import LoadState
from explorer.extract.extract import Batch
from explorer.extract.records.reader import Losses, Row
from explorer.load import row_buffer
from explorer.load.copy.writer import write_table
from explorer.load.raw.contents import RawSchema
from explorer.load.raw.load_input import ExtractEnd, LoadInput, RowCounts
from explorer.load.raw.rejects import RejectFile
from explorer.load.raw.rows import RowFormat
from explorer.load.raw.table import RawTable
from explorer.load.row_buffer import BufferState, RowBuffer
from tests.explorer.load.conftest import Loader

CASE_PAGES, FORM_PAGES = r"/case/v2/", r"/form/v1/"


@pytest.fixture
def streaming(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every extract is a long one."""
    monkeypatch.setattr(row_buffer, "MEMORY_BYTES", 2_000)
    monkeypatch.setattr(row_buffer, "CHUNK_BYTES", 2_000)


@pytest.mark.usefixtures("streaming")
@pytest.mark.parametrize(
    ("fault", "code"),
    [
        ({"kind": "status", "status": 503, "headers": {"Retry-After": "1"}}, "commcare_server_error"),
        ({"kind": "cut"}, "commcare_unreachable"),
        ({"kind": "truncated"}, "commcare_response_malformed"),
        ({"kind": "status", "status": 200, "body": "<html>maintenance</html>"}, "commcare_not_commcare"),
        ({"kind": "status", "status": 200, "body": '{"meta": {}}'}, "commcare_response_malformed"),
    ],
)
def test_an_extract_that_breaks_off_in_mid_stream(loader: Loader, fault: dict[str, Any], code: str) -> None:
    """In a first load and in a later one: its table and cursor stay, the other resource lands, the next load heals."""
    loader.with_page_size(10)
    control = loader.demo.control
    control.fail(FORM_PAGES, times=1000, skip=3, **fault)
    report = loader("cases", "forms")
    assert report.resources["cases"].status == "loaded"
    failed = report.resources["forms"]
    assert failed.error is not None
    assert (failed.status, failed.error["code"], failed.error["details"]["resource"]) == ("failed", code, "forms")
    assert loader.rows("SELECT count(*) FROM raw.raw_forms") == [(0,)]
    assert loader.rows("SELECT count(*) FROM raw._explorer_cursors WHERE source = 'forms'") == [(0,)]
    control.clear_faults()
    loader("cases", "forms")
    assert not {"raw_cases", "raw_forms"} & loader.differences().keys()

    control.update_every_nth_case(MATERNAL, 2, {"village": "moved"})
    before = loader.rows("SELECT case_id, xmin::text FROM raw.raw_cases ORDER BY 1")
    cursors = loader.rows("SELECT * FROM raw._explorer_cursors ORDER BY 1")
    control.fail(CASE_PAGES, times=1000, skip=1, **fault)
    with pytest.raises(Exception, match="cases"):
        loader("cases")
    assert loader.rows("SELECT case_id, xmin::text FROM raw.raw_cases ORDER BY 1") == before
    assert loader.rows("SELECT * FROM raw._explorer_cursors ORDER BY 1") == cursors
    control.clear_faults()
    loader("cases", "forms")
    assert not {"raw_cases", "raw_forms"} & loader.differences().keys()


@pytest.mark.usefixtures("streaming")
def test_what_passes_is_waited_for(loader: Loader) -> None:
    """One bad answer of each kind and a throttle: the load itself ends with everything."""
    loader.with_page_size(10)
    for fault in ({"kind": "cut"}, {"kind": "truncated"}, {"status": 500}, {"status": 429}):
        loader.demo.control.fail(CASE_PAGES, skip=1, **fault)  # type: ignore[arg-type]
    report = loader("cases", "forms")
    assert {resource.status for resource in report.resources.values()} == {"loaded"}
    assert not {"raw_cases", "raw_forms"} & loader.differences().keys()


@pytest.mark.usefixtures("streaming")
def test_a_token_that_expires_between_pages_is_renewed(loader: Loader) -> None:
    loader.with_page_size(10)
    control = loader.demo.control
    client_id, secret = control.oauth_client
    grant = OAuthCredential(
        client_id, secret, f"{loader.demo.url}/oauth/token/", "", control.issue_refresh_token(), None
    )
    kept = [grant]

    def refresh(stale: str, renew: Callable[[Any], Any]) -> OAuthCredential:
        if kept[-1].access_token == stale:
            kept.append(renew(kept[-1]))
        return kept[-1]

    control.before(CASE_PAGES, {"action": "expire_access_tokens"}, skip=2)
    report = loader("cases", client=loader.client(grant, refresh=refresh))
    assert len(kept) == 3
    assert report.resources["cases"].rows_total == len(loader.truth("cases"))
    assert "raw_cases" not in loader.differences()


def test_changes_between_pages_are_in_the_next_load(loader: Loader) -> None:
    loader.with_page_size(5)
    truth = loader.demo.truth(MATERNAL)
    for number, case in enumerate(truth.cases[:6]):
        order = {
            "action": "update_case",
            "domain": MATERNAL,
            "case_id": case["case_id"],
            "properties": {"n": str(number)},
        }
        loader.demo.control.before(CASE_PAGES, order, skip=number)
    loader("cases")
    loader("cases")
    assert "raw_cases" not in loader.differences()


def test_a_tenant_of_an_older_version_is_read_in_full_once(loader: Loader) -> None:
    """Its cursor lay in dlt's state. No row is written for it, and dlt's history does not grow without end."""
    loader("cases", "groups")
    before = loader.rows("SELECT case_id, xmin::text FROM raw.raw_cases ORDER BY 1")
    with loader.tenant.rw.connect(autocommit=True) as connection:
        raw = f"{loader.tenant.prefix}_raw"
        connection.execute(f"DROP TABLE {raw}._explorer_cursors")
        connection.execute(f"CREATE TABLE {raw}._dlt_pipeline_state (state text)")
        connection.execute(
            f"INSERT INTO {raw}._dlt_loads (load_id, schema_name, status, inserted_at)"
            " SELECT n, 'commcare_sync', 0, now() - make_interval(days => n) FROM generate_series(1, 300) n"
        )
    report = loader("cases").resources["cases"]
    assert (report.cursor_from, report.rows_landed) == (None, len(loader.truth("cases")))
    assert (report.rows_new, report.rows_changed, report.rows_deleted) == (0, 0, 0)
    assert loader.rows("SELECT case_id, xmin::text FROM raw.raw_cases ORDER BY 1") == before
    assert report.cursor_to == loader("cases").resources["cases"].cursor_from
    loader.demo.control.create_case(MATERNAL, "pregnancy", "Neu", {})
    groups = loader.demo.app.world.projects[MATERNAL].people.groups
    groups.append({**groups[0], "id": "f" * 32})
    assert loader("cases", "groups").resources["cases"].rows_new == 1
    assert loader.rows("SELECT count(*) <= 100, max(inserted_at) > now() - interval '1 hour' FROM raw._dlt_loads") == [
        (True, True)
    ]
    assert loader.rows(f"SELECT to_regclass('{raw}._dlt_pipeline_state')") == [(None,)]


MOMENT = datetime(2026, 1, 1, tzinfo=UTC)
KEYS = {"case_id": "text", "indexed_on": "timestamp", "closed": "boolean", "n": "bigint"}
TABLE = RawTable("raw_things", "things", "case_id", KEYS | {"record": "json"}, "indexed_on")


def _row(identity: str, second: int | None, content: str) -> Row:
    moment = datetime(2024, 1, 1, 0, 0, second, tzinfo=UTC) if second is not None else None
    return Row(identity, moment, (identity, moment, True, -7), b'{"v": "%s"}' % content.encode())


@pytest.mark.parametrize("rows_a_chunk", [1, 3, 100])
@pytest.mark.parametrize("is_first", [True, False])
@pytest.mark.parametrize("looks_ahead", [True, False])
def test_of_repeats_the_newest_stays(
    loader: Loader, tmp_path: Path, is_first: bool, rows_a_chunk: int, looks_ahead: bool
) -> None:
    """By cursor, then by page; a version without cursor is older than any with one. However they are spread over chunks, and
    whether or not another session, which sees nothing of this load, looks them up."""
    rows = [
        (_row("a", 5, "new"), 1), (_row("a", 3, "old"), 9),
        (_row("b", 3, "first page"), 1), (_row("b", 3, "second page"), 2), (_row("b", 3, "first page"), 1),
        (_row("c", None, "none"), 7), (_row("c", 1, "one"), 1),
        (_row("d", 1, 'quotes \\" \\\\ \\n \\u00e9 \U0001f476 \t'.replace("\t", "\\t")), 1),
    ]  # fmt: skip
    schema, raw = RawSchema(loader.tenant.names), loader.tenant.names.raw
    with loader.tenant.rw.connect(autocommit=True) as connection:
        schema.open(connection, [TABLE], "run")
        if not is_first:
            connection.execute(f"INSERT INTO {raw}.raw_things (case_id, _content_hash) VALUES ('a', 'x'), ('z', 'x')")

        def write(before: LoadState | None) -> RowCounts:
            moment = MOMENT + timedelta(days=before is not None)
            fmt = RowFormat(KEYS, "case_id", "run", moment)
            packed = [fmt.pack([row], page)[0] for row, page in rows]
            chunks = [packed[start : start + rows_a_chunk] for start in range(0, len(packed), rows_a_chunk)]
            rejects = RejectFile(tmp_path, "run", moment)
            connect = partial(loader.tenant.rw.connect, autocommit=True) if looks_ahead else None
            end = ExtractEnd(None, whole=True, repeated={"a", "b", "c"})
            load_input = LoadInput(chunks, lambda: end, True, rejects, "run", moment, connect, _AllGone())
            return write_table(schema, connection, TABLE, load_input, before)

        counts = write(None)
        assert counts == (RowCounts(new=4, live=4) if is_first else RowCounts(new=3, changed=1, deleted=1, live=4))
        found = (
            "SELECT case_id, record->>'v', _page, closed, n FROM raw.raw_things WHERE _deleted_at IS NULL ORDER BY 1"
        )
        newest = [
            ("a", "new", 1, True, -7),
            ("b", "second page", 2, True, -7),
            ("c", "one", 1, True, -7),
            ("d", 'quotes " \\ \n é \U0001f476 \t', 1, True, -7),
        ]
        assert loader.rows(found) == newest
        again = write(LoadState(None, 4, int(not is_first), None))
        assert loader.rows(found) == newest
        # In chunks an older version that comes first is taken until the newer one does.
        assert again == RowCounts(changed=again.changed if rows_a_chunk < len(rows) else 0, live=4)


class _AllGone:
    """Of what did not come the server has nothing."""

    reads_again, limit = False, 10

    def ask(self, missing: Sequence[str], known: str | None) -> list[str]:
        assert known not in missing
        return list(missing)

    def refuse(self, missing: int, why: str) -> None:
        raise AssertionError(why)

    def read_again(self) -> Iterator[list[str]]:
        raise AssertionError

    def agrees(self, missing: int) -> bool:
        raise AssertionError


class _Extract:
    """Stands for a extract of so many batches."""

    def __init__(self, source: Any, batches: int) -> None:
        self.source, self.losses, self.record_count, self.pages, self.taken = source, Losses(), 0, 0, 0
        self._batches = batches

    def batches(self) -> Any:
        for number in range(1, self._batches + 1):
            self.taken = number
            yield Batch(number, [_row(f"{number}-{i}", 1, "x" * 1000) for i in range(100)], [], None)


def test_a_buffer_holds_its_extract_back(loader: Loader, tmp_path: Path) -> None:
    """A consumer that reads nothing buffers only a few MB; a consumer that gives up ends the extract."""
    source = loader.pipeline.source("cases").model_copy(update={"keys": KEYS})
    extract = _Extract(source, 1000)
    started = RowBuffer(
        extract, RowFormat(KEYS, "case_id", "run", MOMENT).pack, RejectFile(tmp_path, "run", MOMENT),  # type: ignore[arg-type]
        on_batch=lambda _: None, on_end=lambda: None,
    )  # fmt: skip
    started.start(lambda: None)
    assert started.wait() is BufferState.STREAMING
    first = next(started.stream())
    assert row_buffer.CHUNK_BYTES <= sum(len(row.data) for row in first) < 2 * row_buffer.CHUNK_BYTES
    started.join(0.5)
    assert extract.taken < 200
    started.abandon()
    started.join(10)
    assert not started._thread.is_alive()
    assert extract.taken < 200
    assert not any(tmp_path.iterdir())
