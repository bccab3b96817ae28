"""Windows read in parallel miss nothing (ties, changes, faults, skewed instants, old and new servers), and they all end."""

import json
import threading
from collections.abc import Iterator
from datetime import datetime, timedelta
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from demo_commcare import MATERNAL, RunningServer, serve_in_thread
from explorer.catalog.secrets.credentials import ApiKeyCredential
from explorer.extract.extract import Extract
from explorer.extract.records.reader import Row
from explorer.http.errors import ApiError
from explorer.providers.commcare.client import CommCareClient
from explorer.providers.commcare.paging import STYLES
from explorer.registry import Cursor, Source
from tests.explorer.extract.clients import SETTINGS, Wide, client_of
from tests.explorer.extract.conftest import record_id
from tests.explorer.extract.model_server import START, Change, Fault, ModelServer

PAGINGS = ("cursor", "indexed_on")


def source(paging: Any, page_size: int, max_page_size: int | None = None) -> Source:
    keys: Any = {"record_id": "text", "indexed_on": "timestamp"}
    collection = "cases" if paging == "cursor" else "objects"
    return Source(
        name="things", table="raw_things", description="", endpoint="things/", paging=paging, collection=collection, keys=keys,
        primary_key="record_id", rename={"id": "record_id"}, page_size=page_size, max_page_size=max_page_size,
        cursor=Cursor(field="indexed_on"),
    )  # fmt: skip


def newest(extract: Extract) -> dict[str, Any]:
    """What a consumer keeps: of each id the newest by cursor, then by page."""
    found: dict[str, tuple[Any, Row]] = {}
    for batch in extract.batches():
        for row in batch.rows:
            order = (row.cursor, batch.page)
            if row.id not in found or order >= found[row.id][0]:
                found[row.id] = (order, row)
    assert extract.record_count == len(found)
    return {name: json.loads(row.json) for name, (_, row) in found.items()}


# Within 12 ms most pages hold ties of one millisecond, many ties are larger than a page; over a year, empty windows abound; the
# last one is a project space of which all but some was indexed again within a second.
MOMENTS = st.one_of(
    st.lists(st.integers(0, 12_000), max_size=60),
    st.lists(st.integers(0, 365 * 86_400_000_000), max_size=60),
    st.tuples(
        st.lists(st.integers(0, 365 * 86_400_000_000), max_size=5),
        st.lists(st.integers(86_400_000_000, 86_401_000_000), max_size=55),
    ).map(lambda parts: parts[0] + parts[1]),
)
NAMES = st.integers(0, 64).map(lambda number: f"r{number:02}")
CHANGES = st.dictionaries(
    st.integers(0, 40),
    st.lists(st.tuples(st.sampled_from(["update", "insert", "delete"]), NAMES), max_size=3),
    max_size=8,
)


@settings(max_examples=250, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    paging=st.sampled_from(PAGINGS),
    page_size=st.integers(1, 9),
    growth=st.sampled_from([1, 5]),
    moments=MOMENTS,
    changes=CHANGES,
    faults=st.dictionaries(st.integers(0, 60), st.sampled_from(["500", "429", "truncated", "cut"]), max_size=5),
    max_limit=st.sampled_from([3, 1000]),
    old_rules=st.booleans(),
    width=st.integers(1, 6),
    since_us=st.none() | st.integers(0, 12_000),
)
def test_no_record_is_missed_and_the_newest_version_wins(
    paging: str,
    page_size: int,
    growth: int,
    moments: list[int],
    changes: dict[int, list[Change]],
    faults: dict[int, Fault],
    max_limit: int,
    old_rules: bool,
    width: int,
    since_us: int | None,
) -> None:
    instants = {f"r{n:02}": START + timedelta(microseconds=moment) for n, moment in enumerate(moments)}
    server = ModelServer(
        dict(instants),
        dict(changes),
        dict(faults),
        max_limit,
        old_rules=old_rules,
        latency_s=0.0005 if width > 1 else 0.0,
    )
    since = START + timedelta(microseconds=since_us) if since_us is not None else None
    with client_of(server, width) as client:
        found = newest(Extract(client, source(paging, page_size, page_size * growth), STYLES, since=since))
    # What happened after the last request was answered, or before it but was taken back, may be seen or not.
    deleted = {name for happened in changes.values() for kind, name in happened if kind == "delete"}
    expected = {name for name, instant in server.instants.items() if since is None or instant > since}
    assert expected - deleted <= found.keys()
    for name in expected & found.keys() - deleted:
        assert found[name]["version"] == server.versions.get(name, 0), name


@settings(max_examples=80, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    paging=st.sampled_from(PAGINGS),
    moments=MOMENTS,
    changes=CHANGES,
    width=st.integers(1, 6),
    until_us=st.integers(0, 12_000),
)
def test_an_extract_with_an_end_has_what_stays_before_it(
    paging: str, moments: list[int], changes: dict[int, list[Change]], width: int, until_us: int
) -> None:
    instants = {f"r{n:02}": START + timedelta(microseconds=moment) for n, moment in enumerate(moments)}
    server = ModelServer(dict(instants), dict(changes), latency_s=0.0005)
    until = START + timedelta(microseconds=until_us)
    with client_of(server, width) as client:
        found = newest(Extract(client, source(paging, 3), STYLES, until=until))
    touched = {name for happened in changes.values() for _, name in happened}
    assert {name for name, instant in instants.items() if instant <= until} - touched <= found.keys()


@pytest.mark.parametrize("paging", PAGINGS)
def test_what_changes_on_a_server_whose_clock_is_months_behind(paging: str) -> None:
    """The open window begins in that server's future."""
    instants = spread(200, timedelta(days=1))
    names = [f"r{n:05}" for n in range(40, 200, 10)]
    server = ModelServer(
        instants, {5 + n: [("update", name)] for n, name in enumerate(names)}, is_behind=True, latency_s=0.001
    )
    with client_of(server, 4) as client:
        found = newest(Extract(client, source(paging, 5), STYLES))
    assert found.keys() == instants.keys()
    assert {name: found[name]["version"] for name in names} == dict.fromkeys(names, 1)


def spread(count: int, over: timedelta) -> dict[str, datetime]:
    return {f"r{n:05}": START + over * n / count for n in range(count)}


@pytest.mark.parametrize("paging", PAGINGS)
@pytest.mark.parametrize(
    "instants",
    [
        spread(1600, timedelta(days=300)),
        spread(1600, timedelta(seconds=60)),
        # All but twenty were indexed again within one minute.
        {**spread(1600, timedelta(minutes=1)), **{f"late{n}": START + timedelta(days=10 * n) for n in range(1, 21)}},
        {**{f"early{n}": START - timedelta(days=10 * n) for n in range(1, 21)}, **spread(1600, timedelta(minutes=1))},
    ],
    ids=["even", "one minute", "crowd first", "crowd last"],
)
def test_requests_go_side_by_side_and_few_are_wasted(paging: str, instants: dict[str, datetime]) -> None:
    server = ModelServer(dict(instants), latency_s=0.004)
    with client_of(server, 6) as client:
        extract = Extract(client, source(paging, 20), STYLES)
        assert newest(extract).keys() == instants.keys()
    assert server.most_at_a_time == 6
    assert server.requests <= 1.5 * len(instants) / 20
    assert extract.window_total == extract.api_total == len(instants)


@pytest.mark.parametrize("paging", PAGINGS)
@pytest.mark.parametrize("count", [0, 1, 9])
def test_what_fits_into_a_page_is_one_request(paging: str, count: int) -> None:
    server = ModelServer(spread(count, timedelta(days=1)))
    with client_of(server, 8) as client:
        extract = Extract(client, source(paging, 10), STYLES, since=START - timedelta(days=1))
        assert len(newest(extract)) == count
    assert (server.requests, extract.window_total, extract.api_total) == (1, count, None)


@pytest.mark.parametrize("paging", PAGINGS)
def test_thousands_of_records_in_one_millisecond(paging: str) -> None:
    instants = {f"r{n:05}": START + timedelta(days=n // 1500, microseconds=n % 900) for n in range(2000)}
    server = ModelServer(dict(instants), latency_s=0.001)
    with client_of(server, 6) as client:
        assert newest(Extract(client, source(paging, 50), STYLES)).keys() == instants.keys()
    assert server.requests <= 2 * len(instants) / 50


@pytest.mark.parametrize("paging", PAGINGS)
def test_a_throttled_extract_goes_on_with_fewer_requests_at_a_time(paging: str) -> None:
    instants = spread(3000, timedelta(days=1))
    server = ModelServer(dict(instants), latency_s=0.002)
    with client_of(server, 6) as client:
        limiter: Any = client.limiter
        batches, found = Extract(client, source(paging, 20), STYLES).batches(), set[str]()
        for number, batch in enumerate(batches):
            found |= {row.id for row in batch.rows}
            if number == 40:
                limiter.width, server.most_at_a_time = 1, 0
                # Pages that were requested or fetched before still come.
            if number == 90:
                server.most_at_a_time = 0
    assert found == instants.keys()
    assert server.most_at_a_time == 1


@pytest.mark.parametrize("paging", PAGINGS)
def test_threads_that_come_and_go_leave_nothing_unread(paging: str) -> None:
    """Of threads that all see that they are too many, one stays."""
    instants = spread(3000, timedelta(days=1))
    for _ in range(4):
        server = ModelServer(dict(instants))
        with client_of(server, 6) as client:
            limiter: Any = client.limiter
            found = set[str]()
            for number, batch in enumerate(Extract(client, source(paging, 20), STYLES).batches()):
                found |= {row.id for row in batch.rows}
                limiter.width = 1 if number % 8 == 0 else 6 if number % 8 == 4 else limiter.width
        assert found == instants.keys()


@pytest.mark.parametrize("paging", PAGINGS)
def test_a_page_that_the_server_cannot_give_is_asked_for_in_smaller_ones(paging: str) -> None:
    instants = spread(2000, timedelta(days=1))
    server = ModelServer(dict(instants), slow_pages=100, latency_s=0.001)
    with client_of(server, 4) as client:
        assert newest(Extract(client, source(paging, 1000), STYLES)).keys() == instants.keys()
    assert min(server.limits) >= 20


@pytest.mark.parametrize("paging", PAGINGS)
def test_pages_grow_to_what_the_source_allows(paging: str) -> None:
    instants = spread(2000, timedelta(days=1))
    server = ModelServer(dict(instants))
    with client_of(server, 1) as client:
        assert newest(Extract(client, source(paging, 100, 500), STYLES)).keys() == instants.keys()
    assert server.limits[:2] == [100, 500]
    assert server.requests <= 7


def page_threads() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == "pages"]


@pytest.mark.parametrize("paging", PAGINGS)
def test_the_first_failure_ends_the_extract_and_all_its_threads(paging: str) -> None:
    failing = {number: "500" for number in range(30, 2000)}
    server = ModelServer(spread(3000, timedelta(days=1)), faults=failing, latency_s=0.001)  # type: ignore[arg-type]
    with client_of(server, 6) as client:
        with pytest.raises(ApiError) as caught:
            newest(Extract(client, source(paging, 20), STYLES))
        assert caught.value.code == "commcare_server_error"
        assert caught.value.details["resource"] == "things"
        assert caught.value.details["page"] > 1
        for thread in page_threads():
            thread.join(20)
    assert not page_threads()


@pytest.mark.parametrize("how", ["close", "stop"])
@pytest.mark.parametrize("paging", PAGINGS)
def test_threads_end_with_the_extract(paging: str, how: str) -> None:
    server = ModelServer(spread(3000, timedelta(days=1)), latency_s=0.001)
    with client_of(server, 6) as client:
        batches = Extract(client, source(paging, 20), STYLES).batches()
        for _ in range(10):
            next(batches)
        assert page_threads()
        if how == "close":
            batches.close()  # type: ignore[attr-defined]
        else:
            client.stop()
            with pytest.raises(ApiError):
                list(batches)
        for thread in page_threads():
            thread.join(20)
    assert not page_threads()
    assert server.requests < 60


def test_few_pages_are_held_while_the_consumer_is_slow() -> None:
    server = ModelServer(spread(3000, timedelta(days=1)))
    with client_of(server, 6) as client:
        batches = Extract(client, source("cursor", 10), STYLES).batches()
        next(batches)
        idle = threading.Event()
        # The extract fetches until it may hold no more, then waits for us.
        while server.requests < 20:
            idle.wait(0.01)
        idle.wait(0.2)
        assert server.requests <= 21
        batches.close()  # type: ignore[attr-defined]


@pytest.fixture(scope="module")
def demo() -> Iterator[RunningServer]:
    with serve_in_thread(cases=400) as server:
        server.control.set_latency(0.005)
        yield server


@pytest.mark.parametrize("old_rules", [False, True])
@pytest.mark.parametrize("name", ["cases", "forms"])
def test_the_demo_servers_records_are_all_met_while_they_change(
    demo: RunningServer, pipeline: Any, name: str, old_rules: bool
) -> None:
    demo.control.set_switches(old_page_end=old_rules)
    demo.control.fail(r"/case/v2/|/form/v1/", kind="cut", times=2, skip=5)
    demo.control.fail(r"/case/v2/|/form/v1/", kind="status", status=503, times=2, skip=8)
    described = pipeline.source(name).model_copy(update={"page_size": 20, "max_page_size": None})
    case_ids = [case["case_id"] for case in demo.truth(MATERNAL).cases]
    credential = ApiKeyCredential(demo.username, demo.api_key)
    with CommCareClient(
        demo.url, MATERNAL, credential, settings=SETTINGS, sleep=lambda _: None, limiter=Wide(6)
    ) as client:
        extract = Extract(client, described, STYLES)
        found: dict[str, Row] = {}
        for number, batch in enumerate(extract.batches()):
            if number < 10:
                demo.control.update_case(MATERNAL, case_ids[number * 7], {"visit": str(number)})
            for row in batch.rows:
                if row.id not in found or (row.cursor, batch.page) >= (found[row.id].cursor, batch.page):  # type: ignore[operator]
                    found[row.id] = row
    truth = {record_id(record): record for record in getattr(demo.truth(MATERNAL), name)}
    assert found.keys() == truth.keys()
    assert all(json.loads(row.json)["indexed_on"] == truth[key]["indexed_on"] for key, row in found.items())
    assert extract.losses.rejected.total() == 0
