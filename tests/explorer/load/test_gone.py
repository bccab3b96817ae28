"""A record is marked as gone only when the server confirms it: a record that an extract missed for another reason stays."""

from typing import Any

import pytest

from demo_commcare import MATERNAL
from explorer.load import row_buffer
from tests.explorer.load.conftest import TABLES, Loader

# Resource of the pipeline, its address, and the server's list.
SMALL = [
    ("users", "user/v1", "users"),
    ("web_users", "web-user/v1", "web_users"),
    ("groups", "group/v1", "groups"),
    ("locations", "location/v2", "locations"),
    ("location_types", "location_type/v1", "location_types"),
    ("lookup_tables", "lookup_table/v1", "lookup_tables"),
    ("lookup_table_items", "lookup_table_item/v1", "lookup_table_items"),
]
ALL = [("cases", "case/v2", "cases"), ("forms", "form/v1", "forms"), *SMALL]


@pytest.fixture(params=["in memory", "streaming"])
def mode(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    if request.param == "streaming":
        monkeypatch.setattr(row_buffer, "MEMORY_BYTES", 500)
        monkeypatch.setattr(row_buffer, "CHUNK_BYTES", 500)


def ids_of(loader: Loader, kind: str) -> list[str]:
    records = getattr(loader.demo.truth(MATERNAL), kind)
    return [str(r.get("case_id") or r.get("location_id") or r["id"]) for r in records]


def marked(loader: Loader, name: str) -> set[str]:
    source = loader.pipeline.source(name)
    rows = loader.rows(f"SELECT {source.primary_key}::text FROM raw.{source.table} WHERE _deleted_at IS NOT NULL")
    return {identity for (identity,) in rows}


def delete(loader: Loader, name: str, kind: str, identity: str) -> None:
    control = loader.demo.control
    if name == "cases":
        control.delete_case(MATERNAL, identity)
    elif name == "forms":
        control.delete_form(MATERNAL, identity)
    else:
        control.delete_record(MATERNAL, kind, identity)


@pytest.mark.usefixtures("mode")
def test_of_every_resource_what_is_gone_is_marked_and_what_a_page_lacked_is_not(loader: Loader) -> None:
    """Of each list one record is deleted and the first page lacks its last two."""
    names = [name for name, _, _ in ALL]
    loader(*names)
    gone = {}
    for name, endpoint, kind in ALL:
        ids = ids_of(loader, kind)
        if len(ids) > 3:
            gone[name] = ids[0]
            delete(loader, name, kind, ids[0])
        loader.demo.control.fail(f"/{endpoint}/\\?", kind="lacking", rows=2)
    report = loader(*names, full=True).resources
    for name, _, _ in ALL:
        assert marked(loader, name) <= {gone.get(name)}, name
    for name in gone:
        assert marked(loader, name) == {gone[name]}, (name, report[name].missing_reason)
        assert report[name].rows_unproven == 0
    loader(*names, full=True)
    assert not {table: wrong for table, wrong in loader.differences().items() if table in TABLES}


@pytest.mark.parametrize(
    ("name", "endpoint", "size"), [("cases", "case/v2", 10), ("forms", "form/v1", 10), ("locations", "location/v2", 3)]
)
def test_newcomers_do_not_make_up_for_a_row_that_a_page_lacked(
    loader: Loader, name: str, endpoint: str, size: int
) -> None:
    """As many came as the server counts, or more. One request at a time: which page lacks the row is told by their number."""
    loader.with_page_size(size, max_windows=1)(name)
    control = loader.demo.control
    control.fail(f"/{endpoint}/\\?", kind="lacking", rows=1, skip=1)
    for number in range(3):
        case = {"case_type": "pregnancy", "name": f"n{number}", "properties": {}}
        control.before(f"/{endpoint}/\\?", {"action": "create_case", "domain": MATERNAL, **case}, skip=2)
    report = loader(name, full=True).resources[name]
    assert (marked(loader, name), report.rows_unproven) == (set(), 0)
    # The next page of forms begins with the last instant, of locations behind as many as came: that finds it again.
    assert report.rows_missing == (1 if name == "cases" else 0)


@pytest.mark.parametrize(
    "fault",
    [
        {"status": 403, "body": ""},
        {"status": 401, "body": ""},
        {"status": 500},
        {"status": 404, "body": "<html>no such page</html>"},
        {"status": 404, "body": '{"error": "The domain \\"x\\" was not found."}'},
        {"status": 404, "body": '{"error_message": "Sorry"}'},
        {"status": 405, "body": '{"error": "Request method not allowed"}'},
        {"status": 400, "body": '{"error": "bad"}'},
        {"status": 200, "body": "{}"},
        {"status": 200, "body": '{"cases": []}'},
        {"status": 429, "body": "", "headers": {"Retry-After": "7200"}},
        {"kind": "cut"},
        {"kind": "truncated"},
    ],
)
@pytest.mark.parametrize(("name", "single"), [("cases", "/case/v2/bulk-fetch/"), ("groups", "/group/v1/[0-9a-f]")])
def test_any_other_answer_than_no_such_record_proves_nothing(
    loader: Loader, name: str, single: str, fault: dict[str, Any]
) -> None:
    """And the next load, which can ask, marks what is gone."""
    loader("cases", "groups")
    victim = ids_of(loader, name)[0]
    delete(loader, name, name, victim)
    loader.demo.control.fail(single, times=100, **fault)
    report = loader(name, full=True).resources[name]
    assert (report.status, marked(loader, name)) == ("loaded", set())
    assert (report.rows_missing, report.rows_unproven) == (1, 1)
    assert report.missing_reason
    loader.demo.control.clear_faults()
    report = loader(name, full=True).resources[name]
    assert (report.rows_missing, report.rows_deleted, marked(loader, name)) == (0, 1, {victim})


@pytest.mark.parametrize(("name", "endpoint", "kind"), ALL)
def test_an_empty_answer_marks_nothing_that_the_server_has(loader: Loader, name: str, endpoint: str, kind: str) -> None:
    loader(name)
    body = '{"meta": {"total_count": 0, "next": null}, "objects": [], "cases": [], "matching_records": 0}'
    loader.demo.control.fail(f"/{endpoint}/\\?", status=200, body=body, times=50)
    report = loader(name, full=True).resources[name]
    assert marked(loader, name) == set()
    assert report.rows_missing == len(ids_of(loader, kind))


@pytest.mark.parametrize(("name", "endpoint"), [("groups", "group/v1"), ("cases", "case/v2")])
def test_the_last_record_of_a_list_can_go(loader: Loader, name: str, endpoint: str) -> None:
    """Nothing is there that shows the way; the API's own words are enough."""
    loader(name)
    for identity in ids_of(loader, name):
        delete(loader, name, name, identity)
    report = loader(name, full=True).resources[name]
    assert (report.rows_missing, report.rows_total) == (0, 0)


def test_a_way_that_does_not_find_what_is_there_proves_nothing(loader: Loader) -> None:
    """A server before this one's version has no address for single records and answers 404 to all."""
    loader("groups", "cases")
    for name, single in (("groups", "/group/v1/[0-9a-f]"), ("cases", "/case/v2/bulk-fetch/")):
        delete(loader, name, name, ids_of(loader, name)[0])
        loader.demo.control.fail(single, status=404, body="", times=100)
    found = loader("groups", "cases", full=True).resources
    assert {name: (report.rows_unproven, report.rows_deleted) for name, report in found.items()} == {
        "groups": (1, 0), "cases": (1, 0)
    }  # fmt: skip
    assert "is not found when it is asked for alone" in (found["groups"].missing_reason or "")


def test_above_the_bound_none_is_marked_and_none_is_asked_for(loader: Loader) -> None:
    loader("forms")
    for identity in ids_of(loader, "forms")[:4]:
        loader.demo.control.delete_form(MATERNAL, identity)
    expected = set(ids_of(loader, "forms"))
    before = len(loader.demo.control.requests)
    report = loader("forms", full=True, proof_max_requests=3).resources["forms"]
    missing = report.rows_missing
    assert missing == report.rows_unproven >= 4
    assert "more are missing than the 2" in (report.missing_reason or "")
    assert marked(loader, "forms") == set()
    assert not [seen for seen in loader.demo.control.requests[before:] if not seen.query]
    report = loader("forms", full=True, proof_max_requests=missing + 1).resources["forms"]
    assert (report.rows_deleted, report.rows_missing) == (missing, 0)
    assert set(loader.records("raw_forms")) == expected
    assert report.requests >= missing + 1


def test_a_record_that_was_marked_comes_back(loader: Loader) -> None:
    loader("groups")
    control, group = loader.demo.control, loader.demo.truth(MATERNAL).groups[0]
    control.delete_record(MATERNAL, "groups", group["id"])
    loader("groups")
    assert marked(loader, "groups") == {group["id"]}
    loader.demo.app.world.projects[MATERNAL].people.groups.append(group)
    assert loader("groups").resources["groups"].rows_changed == 1
    assert marked(loader, "groups") == set()


@pytest.mark.usefixtures("mode")
def test_ucr_rows_are_gone_when_two_reads_miss_them(loader: Loader) -> None:
    """They cannot be asked for. A page without its last row in one of them, or both empty, is no proof; a data source that is
    gone takes its rows with it."""
    names = ("ucr_data_sources", "ucr_rows")
    loader.with_page_size(5)(*names)
    control = loader.demo.control
    count = len(loader.demo.truth(MATERNAL).ucr_rows)

    control.fail(r"/ucr/v1/", kind="lacking", rows=1)
    report = loader(*names).resources["ucr_rows"]
    assert (report.rows_missing, marked(loader, "ucr_rows")) == (0, set())

    control.fail(r"/ucr/v1/", status=200, body='{"objects": [], "meta": {"next": null, "limit": 5}}', times=100)
    report = loader(*names).resources["ucr_rows"]
    assert (report.rows_unproven, marked(loader, "ucr_rows")) == (count, set())
    assert "no record at all" in (report.missing_reason or "")
    control.clear_faults()

    project = loader.demo.app.world.projects[MATERNAL]
    first, *others = project.data_sources
    assert others
    project.data_sources = tuple(others)
    control.fail(r"/ucr_data_source/v1/[^?]", status=500, times=50)
    loader(*names)
    assert marked(loader, "ucr_rows") == set(), "a data source that is not proven to be gone keeps its rows"
    control.clear_faults()
    for _ in range(2):
        report = loader(*names).resources["ucr_rows"]
    assert report.rows_missing == 0
    rows = loader.rows("SELECT DISTINCT data_source_id, _deleted_at IS NOT NULL FROM raw.raw_ucr_rows ORDER BY 1")
    assert dict(rows) == {first.source_id: True} | {other.source_id: False for other in others}
