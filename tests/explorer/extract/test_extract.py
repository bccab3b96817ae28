"""An extract reads every record with any page size, ties, changes and faults; one without progress is an error."""

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any
from urllib.parse import parse_qs

import httpx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from demo_commcare import MATERNAL, RunningServer, serve_in_thread
from explorer.catalog.secrets.credentials import ApiKeyCredential
from explorer.core.settings import Settings
from explorer.extract.extract import Extract
from explorer.extract.records.reader import Row
from explorer.http.errors import ApiError
from explorer.providers.commcare.client import CommCareClient
from explorer.providers.commcare.paging import STYLES
from explorer.registry import Cursor, Source
from tests.explorer.extract.conftest import record_id

SETTINGS = Settings(_env_file=None, requests_per_second=1000, http_max_retry_after_s=10)


def source(paging: str, page_size: int) -> Source:
    keys = {"record_id": "text", "indexed_on": "timestamp"}
    collection = "cases" if paging == "cursor" else "objects"
    return Source(
        name="things", table="raw_things", description="", endpoint="things/", paging=paging, collection=collection, keys=keys,
        primary_key="record_id", rename={"id": "record_id"}, page_size=page_size,
        cursor=Cursor(field="indexed_on") if paging != "offset" else None,
    )  # fmt: skip


def extract_all(server: Any, paging: str, page_size: int) -> dict[str, dict[str, Any]]:
    """The last version met of each record."""
    client = CommCareClient(
        "http://127.0.0.1", "d", ApiKeyCredential("u", "k"), settings=SETTINGS,
        transport=httpx.MockTransport(server), sleep=lambda _: None,
    )  # fmt: skip
    with client:
        rows = [row for batch in Extract(client, source(paging, page_size), STYLES).batches() for row in batch.rows]
    return {row.id: json.loads(row.json) for row in rows}


@settings(max_examples=60, deadline=None)
@given(count=st.integers(0, 30), page_size=st.integers(1, 12), clamp=st.integers(1, 12), shuffles=st.integers(0, 3))
def test_offset_reads_of_unsorted_lists(count: int, page_size: int, clamp: int, shuffles: int) -> None:
    """An unsorted list may come in another order on each page; it is read again while fewer than counted were met."""
    requests = 0

    def server(request: httpx.Request) -> httpx.Response:
        nonlocal requests
        requests += 1
        query = parse_qs(request.url.query.decode())
        limit, offset = min(int(query["limit"][0]), clamp), int(query.get("offset", ["0"])[0])
        names = [f"r{n:02}" for n in range(count)]
        if requests <= shuffles:
            names.reverse()
        objects = [{"id": name} for name in names[offset : offset + limit]]
        link = f"/a/d/api/things/?offset={offset + limit}&limit={limit}" if offset + limit < count else None
        return httpx.Response(
            200, json={"meta": {"next": link, "limit": limit, "total_count": count}, "objects": objects}
        )

    assert extract_all(server, "offset", page_size).keys() == {f"r{n:02}" for n in range(count)}


@pytest.mark.parametrize(
    ("paging", "answer"),
    [
        ("cursor", {"matching_records": 0}),
        ("cursor", {"cases": None}),
        ("cursor", {"cases": {"id": "x"}}),
        ("cursor", {"cases": [], "next": {"cursor": "x"}}),
        ("indexed_on", {"meta": {"total_count": 0}}),
        ("indexed_on", {"meta": {}, "objects": [{"id": "a"}] * 4}),
        ("offset", {"meta": {}, "cases": []}),
        ("offset", ["objects"]),
        ("offset", {"meta": {"next": "?offset=1"}, "objects": [{"id": "same"}]}),
        ("offset", {"meta": {"next": "https://evil.example/?offset=1"}, "objects": [{"id": "a"}]}),
        ("cursor", {"cases": [{"id": "a"}], "next": "http://127.0.0.1:81/?cursor=a"}),
        ("cursor", {"cases": [{"id": "a"}], "next": "?cursor=again"}),
    ],
)
def test_wrong_shapes_and_circles_are_errors(paging: str, answer: object) -> None:
    with pytest.raises(ApiError) as caught:
        extract_all(lambda _: httpx.Response(200, json=answer), paging, 4)
    assert caught.value.code == "commcare_response_malformed"
    assert caught.value.details["resource"] == "things"
    assert caught.value.details["page"] >= 1


def test_a_cursor_that_never_repeats_but_brings_nothing_new_ends() -> None:
    pages = iter(range(1000))

    def server(_: httpx.Request) -> httpx.Response:
        record = {"id": "a", "indexed_on": "2026-01-01T00:00:00Z"}
        return httpx.Response(200, json={"cases": [record], "next": f"?cursor={next(pages)}"})

    with pytest.raises(ApiError, match="read before"):
        extract_all(server, "cursor", 1)
    assert next(pages) < 20


@dataclass
class DemoExtracts:
    """Walks over the real demo server, with what was waited."""

    demo: RunningServer
    waits: list[float] = field(default_factory=list)

    def __call__(self, name: str, page_size: int, pipeline: Any, since: datetime | None = None) -> dict[str, Row]:
        credential = ApiKeyCredential(self.demo.username, self.demo.api_key)
        described = pipeline.source(name).model_copy(update={"page_size": page_size, "max_page_size": None})
        with CommCareClient(self.demo.url, MATERNAL, credential, settings=SETTINGS, sleep=self.waits.append) as client:
            batches = list(Extract(client, described, STYLES, since=since).batches())
        return {row.id: row for batch in batches for row in batch.rows}

    def ids(self, kind: str) -> set[str]:
        return {record_id(record) for record in getattr(self.demo.truth(MATERNAL), kind)}


@pytest.fixture(scope="module")
def shared_demo() -> Iterator[RunningServer]:
    with serve_in_thread(cases=60) as server:
        yield server


@pytest.fixture
def extracts(shared_demo: RunningServer) -> Iterator[DemoExtracts]:
    yield DemoExtracts(shared_demo)
    shared_demo.control.clear_faults()
    shared_demo.control.no_throttle()
    shared_demo.control.set_switches(
        old_page_end=False, next_host=None, drop_collection=False, endless_paging=False, deep_offset_limit=None
    )


@pytest.mark.parametrize("page_size", [7, 60, 1000])
@pytest.mark.parametrize("name", ["cases", "forms"])
def test_the_demo_servers_records_are_all_met(extracts: DemoExtracts, pipeline: Any, name: str, page_size: int) -> None:
    extracts.demo.control.set_switches(old_page_end=page_size == 7)
    assert extracts(name, page_size, pipeline).keys() == extracts.ids(name)


@pytest.mark.parametrize("kind", ["status", "truncated", "cut"])
@pytest.mark.parametrize("name", ["cases", "forms"])
def test_passing_faults_do_not_show(extracts: DemoExtracts, pipeline: Any, kind: Any, name: str) -> None:
    extracts.demo.control.fail(r"/case/v2/|/form/v1/", kind=kind, status=503, times=3, skip=1)
    assert extracts(name, 20, pipeline).keys() == extracts.ids(name)
    assert len(extracts.waits) >= 3


@pytest.mark.parametrize("retry_after", ["absent", None, 0.5, 3])
def test_throttling_is_waited_out(extracts: DemoExtracts, pipeline: Any, retry_after: Any) -> None:
    headers = {} if retry_after in (None, "absent") else {"Retry-After": str(retry_after)}
    extracts.demo.control.fail(r"/case/v2/", status=429, times=3, skip=1, body="", headers=headers)
    assert extracts("cases", 20, pipeline).keys() == extracts.ids("cases")
    assert max(extracts.waits) >= (retry_after if isinstance(retry_after, float | int) else 1)


def test_throttling_for_hours_ends_the_extract(extracts: DemoExtracts, pipeline: Any) -> None:
    before = len(extracts.demo.control.requests)
    extracts.demo.control.fail(r"/case/v2/", status=429, times=9, body="", headers={"Retry-After": "86400.5"})
    with pytest.raises(ApiError) as caught:
        extracts("cases", 20, pipeline)
    assert (caught.value.code, caught.value.details["retry_after_s"]) == ("commcare_throttled", 86400.5)
    assert len(extracts.demo.control.requests) == before + 1


@pytest.mark.parametrize(
    "switch", [{"drop_collection": True}, {"endless_paging": True}, {"next_host": "http://evil.example"}]
)
@pytest.mark.parametrize("name", ["cases", "forms", "locations"])
def test_answers_of_wrong_meaning(extracts: DemoExtracts, pipeline: Any, switch: dict[str, Any], name: str) -> None:
    """An error, or all records: a extract that goes by its own position is not misled by a `next` without end."""
    extracts.demo.control.set_switches(**switch)
    try:
        found = extracts(name, 5, pipeline)
    except ApiError as error:
        outcome: object = (error.code, error.details["resource"])
    else:
        assert switch.get("endless_paging") or name == "forms"
        outcome = found.keys()
    assert outcome in (("commcare_response_malformed", name), extracts.ids(name))
