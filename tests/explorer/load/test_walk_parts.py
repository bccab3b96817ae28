"""Walks by link and per record of another source, how records are read, and what is kept of their ids."""

import json
import tracemalloc
from datetime import UTC, datetime
from typing import Any
from urllib.parse import parse_qs

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from explorer.catalog.credentials import ApiKeyCredential
from explorer.core.settings import Settings
from explorer.extract.distinct import DistinctIds
from explorer.extract.pages import PAGE_MAX_BYTES, PageSize
from explorer.extract.records import Key, Losses, RecordReader, Reject, Row, may_hold_long_number
from explorer.extract.walk import Walk
from explorer.http.errors import ApiError
from explorer.providers.commcare.client import CommCareClient
from explorer.registry import ForEach, Source

SETTINGS = Settings(_env_file=None, requests_per_second=1000)
ROWS = Source(
    name="rows", table="raw_rows", description="", endpoint="ucr/v1/", paging="link", collection="objects", page_size=3,
    primary_key="row_id", key_from="content", keys={"row_id": "text", "data_source_id": "text", "doc_id": "text"},
    for_each=ForEach(source="sources", param="data_source_id", key="id", column="data_source_id"),
)  # fmt: skip


class UcrServer:
    """UCR data: `next` is named whenever the page holds anything."""

    def __init__(self, rows: dict[str, list[dict[str, Any]]]) -> None:
        self.rows = rows
        self.requests = 0

    def __call__(self, request: httpx.Request) -> httpx.Response:
        self.requests += 1
        query = {key: values[0] for key, values in parse_qs(request.url.query.decode()).items()}
        at, limit = int(query.get("cursor", 0)), int(query["limit"])
        page = self.rows[query["data_source_id"]][at : at + limit]
        link = f"http://127.0.0.1/a/d/api/ucr/v1/?data_source_id={query['data_source_id']}&limit=99&cursor={at + limit}"
        return httpx.Response(200, json={"objects": page, "meta": {"next": link if page else None, "limit": limit}})


def walk_of(server: Any, values: list[str], source: Source = ROWS) -> tuple[Walk, list[Row]]:
    client = CommCareClient(
        "http://127.0.0.1", "d", ApiKeyCredential("u", "k"), settings=SETTINGS, transport=httpx.MockTransport(server),
        sleep=lambda _: None,
    )  # fmt: skip
    with client:
        walk = Walk(client, source, values=values)
        return walk, [row for batch in walk.batches() for row in batch.rows]


def test_each_record_of_the_other_source_is_walked_to_its_empty_page() -> None:
    """Rows of one document differ, rows of two data sources may be equal: all of them are kept apart.

    A document that a page cuts is read again, so its rows come more than once; they are counted once.
    """
    server = UcrServer({"a": [{"doc_id": "d1", "n": n} for n in range(7)], "b": [{"doc_id": "d1", "n": 0}], "c": []})
    walk, rows = walk_of(server, ["a", "b", "c"])
    assert (walk.seen, len({row.id for row in rows}), server.requests) == (8, 8, 4 + 2 + 1)
    contents = {(row.keys[1], row.keys[2], json.loads(row.json)["n"]) for row in rows}
    assert contents == {("a", "d1", n) for n in range(7)} | {("b", "d1", 0)}
    assert {row.id for row in walk_of(server, ["a", "b"])[1]} == {row.id for row in rows}


def test_no_record_of_the_other_source_is_no_request() -> None:
    walk, rows = walk_of(UcrServer({}), [])
    assert (rows, walk.pages, walk.api_total) == ([], 0, 0)


@pytest.mark.parametrize("link", ["?cursor=1&data_source_id=a", "https://evil.example/?cursor=1"])
def test_a_link_that_leads_in_circles_or_elsewhere_is_an_error(link: str) -> None:
    pages = iter(range(10**6))

    def server(_: httpx.Request) -> httpx.Response:
        return httpx.Response(200, json={"objects": [{"doc_id": str(next(pages))}], "meta": {"next": link}})

    with pytest.raises(ApiError) as caught:
        walk_of(server, ["a"])
    assert (caught.value.code, caught.value.details["resource"]) == ("commcare_response_malformed", "rows")
    assert next(pages) < 10


def reader(kind: str, losses: Losses) -> RecordReader:
    source = ROWS.model_copy(
        update={"keys": {"id": "text", "value": kind}, "primary_key": "id", "key_from": "field", "for_each": None}
    )
    return RecordReader(source, {}, losses)


@pytest.mark.parametrize(
    ("kind", "json_value", "key"),
    [
        ("text", '"a"', "a"), ("text", "5", "5"), ("text", "true", "true"), ("text", "{}", None), ("text", "null", None),
        ("boolean", "true", True), ("boolean", '"False"', False), ("boolean", "1", None), ("boolean", '"x"', None),
        ("bigint", "7", 7), ("bigint", '"8"', 8), ("bigint", "9223372036854775808", None), ("bigint", "true", None),
        ("timestamp", '"2026-01-02T03:04:05.000006Z"', datetime(2026, 1, 2, 3, 4, 5, 6, UTC)),
        ("timestamp", '"2026-01-02T03:04:05.000006"', datetime(2026, 1, 2, 3, 4, 5, 6, UTC)),
        ("timestamp", '"2026-01-02T03:04:05+02:00"', datetime(2026, 1, 2, 1, 4, 5, 0, UTC)),
        ("timestamp", '"2026-W01-1T00:00:00.000000Z"', datetime(2025, 12, 29, 0, 0, 0, 0, UTC)),
        ("timestamp", '"0001-01-01T00:00:00+05:00"', None),
        ("timestamp", '"9999-12-31T23:59:59-05:00"', None), ("timestamp", '"soon"', None), ("timestamp", "5", None),
    ],
)  # fmt: skip
def test_key_values_become_what_their_column_takes_or_null(kind: str, json_value: str, key: Key | None) -> None:
    losses = Losses()
    row = reader(kind, losses).read(f'{{"id": "x", "value": {json_value}}}'.encode())
    assert isinstance(row, Row)
    assert row.keys == ("x", key)
    assert losses.repaired == (key is None and json_value != "null")


NUMBERS = st.one_of(
    st.integers(-(10**20), 10**20).map(str),
    st.sampled_from(
        [
            "1e131072",
            "-1.5E+200000",
            "12e-17000",
            "1" * 1001,
            "1" * 140_000,
            "0.000001e-123456",
            "1e-17000",
            "1e5",
            "3.5e+30",
        ]
    ),
)


@given(
    number=NUMBERS,
    text=st.sampled_from(["", "0e0000001", "3e123456-77e0000001", " 1e999999"]),
    spaces=st.sampled_from(["", " "]),
)
def test_the_quick_look_misses_no_number_that_postgres_cannot_hold(number: str, text: str, spaces: str) -> None:
    record = f'{{"id": "{text}x","value":{spaces}{number}}}'.encode()
    careful = reader("text", Losses()).read(record)
    quick = reader("text", Losses()).read(record, long_numbers=may_hold_long_number(b"[" + record + b"]"))
    assert type(quick) is type(careful)


@pytest.mark.parametrize(
    ("number", "is_kept"),
    [("1e130999", True), ("1e131999", False), ("1e-15999", True), ("1e-17000", False), ("1" * 1001, True)],
)
def test_numbers_beyond_postgres_are_set_aside(number: str, is_kept: bool) -> None:
    losses = Losses()
    outcome = reader("text", losses).read(f'{{"id": "x", "deep": [{{"n": {number}}}]}}'.encode())
    assert isinstance(outcome, Row if is_kept else Reject)
    assert losses.rejected.total() == (not is_kept)


@given(st.lists(st.lists(st.integers(0, 300).map(str), max_size=400), max_size=8))
def test_distinct_ids_are_counted_like_a_set_does(batches: list[list[str]]) -> None:
    ids, truth = DistinctIds(few=100), set[str]()
    for batch in batches:
        again = []
        for identity in batch:
            if identity in truth:
                again.append(identity)
            truth.add(identity)
        assert (ids.add(batch), len(ids)) == (again, len(truth))


def test_ids_take_little_memory() -> None:
    ids = DistinctIds(few=1000)
    tracemalloc.start()
    try:
        for start in range(0, 40_000, 1000):
            assert not ids.add([str(start + number) for number in range(1000)])
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak / 40_000 < 45


def test_page_sizes_follow_bytes_and_time() -> None:
    size = PageSize(1000, 5000)
    size.note(1000, 1000, 1_000_000, 0.3)
    assert size.current == 5000
    size.note(5000, 5000, 5_000_000, 12.0)
    assert size.current == 2500
    size.note(2500, 2500, 2 * PAGE_MAX_BYTES, 1.0)
    assert size.current == 1250
    size.shrink(1250)
    assert size.current == 312
    for _ in range(100):
        size.note(size.current, size.current, size.current * 1000, 0.3)
    assert size.current > 4000


def test_a_short_or_slow_page_is_no_reason_to_grow() -> None:
    size = PageSize(1000, 5000)
    size.note(1000, 10, 10_000, 0.1)
    size.note(1000, 1000, 1_000_000, 6.0)
    assert size.current == 1000
