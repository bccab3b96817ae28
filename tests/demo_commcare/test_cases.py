"""Case API v2 against each rule of the reference."""

import base64
from urllib.parse import parse_qs, urlencode

import pytest

from demo_commcare import MATERNAL, NUTRITION
from tests.demo_commcare.conftest import PLAIN, Client


def by_id(cases: list[dict]) -> dict[str, dict]:
    return {case["case_id"]: case for case in cases}


@pytest.mark.parametrize("domain", [MATERNAL, NUTRITION])
@pytest.mark.parametrize("limit", [37, 5000])
def test_walk_gives_exactly_the_truth(shared: Client, domain: str, limit: int) -> None:
    cases = [case for page in shared.walk(limit, domain) for case in page]
    truth = shared.server.truth(domain)
    assert len(cases) == truth.case_count
    assert by_id(cases) == by_id(truth.cases)
    assert cases == sorted(cases, key=lambda case: (case["indexed_on"][:23], case["case_id"]))


@pytest.mark.parametrize(
    ("query", "text"),
    [
        ("offset=1", "'offset' is not a valid parameter."),
        ("format=json", "'format' is not a valid parameter."),
        ("order_by=indexed_on", "'order_by' is not a valid parameter."),
        ("date_opened=2025-01-01", "'date_opened' is not a valid parameter."),
        ("limit=5001", "You cannot request more than 5000 cases per request."),
        ("limit=nolimitz", "'nolimitz' is not a valid value for 'limit'"),
        ("date_opened.start=2025-01-01", "'start' is not a valid type of date range."),
        ("date_opened.gt=x", "Cannot parse datetime 'x'"),
        ("fields=case_id&exclude=domain", "You cannot specify both 'fields' and 'exclude'"),
    ],
)
def test_strict_parameters(shared: Client, query: str, text: str) -> None:
    answer = shared.http.get(f"/a/{MATERNAL}/api/case/v2/?{query}")
    assert (answer.status_code, answer.json()) == (400, {"error": text})


def test_default_limit_and_limit_zero(shared: Client) -> None:
    answer = shared.get("case/v2/").json()
    assert len(answer["cases"]) == 20
    none = shared.get("case/v2/", limit=0).json()
    assert none == {"matching_records": answer["matching_records"], "cases": []}


def test_full_last_page_is_followed_by_an_empty_one(shared: Client) -> None:
    total = shared.server.truth(NUTRITION).case_count
    pages = shared.walk(total // 2, NUTRITION)
    assert [len(page) for page in pages] == [total // 2, total // 2, 0]


def test_old_page_end_rule_counts_what_remains(fresh: Client) -> None:
    fresh.server.control.set_switches(old_page_end=True)
    total = fresh.server.truth(NUTRITION).case_count
    assert [len(page) for page in fresh.walk(total // 2, NUTRITION)] == [total // 2, total // 2]
    first = fresh.get("case/v2/", NUTRITION, limit=100).json()
    second = fresh.http.get(first["next"]).json()
    assert (first["matching_records"], second["matching_records"]) == (total, total - 100)


def test_next_is_absolute_and_its_cursor_beats_other_parameters(shared: Client) -> None:
    answer = shared.get("case/v2/", limit=3, case_type="mother").json()
    assert answer["next"].startswith(f"{shared.server.url}/a/{MATERNAL}/api/case/v2/?cursor=")
    state = parse_qs(base64.b64decode(parse_qs(answer["next"].split("?")[1])["cursor"][0]).decode())
    assert state["limit"] == ["3"]
    assert state["last_case_id"] == [answer["cases"][-1]["case_id"]]
    assert state["indexed_on.gte"][0].isdigit()
    following = shared.http.get(answer["next"] + "&limit=50&nonsense=1").json()
    assert len(following["cases"]) == 3
    assert {case["case_type"] for case in following["cases"]} == {"mother"}


def test_own_gte_filter_makes_page_two_repeat_page_one(shared: Client) -> None:
    pages = shared.walk(40, **{"indexed_on.gte": "2025-01-01"})
    assert pages[1] == pages[0]
    ids = [case["case_id"] for page in pages[1:] for case in page]
    assert sorted(ids) == sorted(case["case_id"] for case in shared.server.truth(MATERNAL).cases)


def test_gt_filter_has_no_such_quirk(shared: Client) -> None:
    middle = sorted(case["indexed_on"] for case in shared.server.truth(MATERNAL).cases)[100]
    ids = [case["case_id"] for page in shared.walk(40, **{"indexed_on.gt": middle}) for case in page]
    expected = {c["case_id"] for c in shared.server.truth(MATERNAL).cases if c["indexed_on"][:23] > middle[:23]}
    assert len(ids) == len(set(ids))
    assert set(ids) == expected


@pytest.mark.parametrize(
    ("params", "test"),
    [
        ({"case_type": ["mother", "child"]}, lambda c: c["case_type"] in {"mother", "child"}),
        ({"closed": "true"}, lambda c: c["closed"]),
        ({"closed": "false"}, lambda c: not c["closed"]),
        ({"properties.village": "v03"}, lambda c: c["properties"].get("village") == "v03"),
        ({"properties.remarks": ""}, lambda c: c["properties"].get("remarks", "") == ""),
        ({"external_id": "import-1-0"}, lambda c: c["external_id"] == "import-1-0"),
        ({"query": '(village="v01" or village=\'v02\') and @case_type="mother"'},
         lambda c: c["properties"].get("village") in {"v01", "v02"} and c["case_type"] == "mother"),
        ({"date_closed.gte": "2025-06-01"}, lambda c: c["closed"] and c["date_closed"] >= "2025-06-01"),
        ({"date_opened.lte": "2025-02-10"}, lambda c: c["date_opened"] < "2025-02-11"),
        ({"date_opened.gt": "2025-02-10"}, lambda c: c["date_opened"] >= "2025-02-11"),
        ({"date_opened.lt": "2025-02-10"}, lambda c: c["date_opened"] < "2025-02-10"),
        ({"date_opened.gte": "2025-02-10T05:30:00+05:30"}, lambda c: c["date_opened"] >= "2025-02-10"),
    ],
)  # fmt: skip
def test_filters(shared: Client, params: dict, test: object) -> None:
    answer = shared.get("case/v2/", limit=5000, **params).json()
    expected = {case["case_id"] for case in shared.server.truth(MATERNAL).cases if test(case)}
    assert expected
    assert {case["case_id"] for case in answer["cases"]} == expected
    assert answer["matching_records"] == len(expected)


def test_reverse_index_lookup_and_bad_query(shared: Client) -> None:
    child = next(case for case in shared.server.truth(MATERNAL).cases if case["case_type"] == "child")
    mother_id = child["indices"]["parent"]["case_id"]
    found = shared.get("case/v2/", **{"indices.parent": mother_id}).json()["cases"]
    assert child["case_id"] in by_id(found)
    bad = shared.get("case/v2/", query="village = ")
    assert bad.status_code == 400
    assert bad.json()["error"].startswith("Bad query: ")


def test_field_selection(shared: Client) -> None:
    case = shared.get("case/v2/", limit=1, case_type="mother", fields="case_id,properties.age").json()["cases"][0]
    assert set(case) == {"case_id", "properties"}
    assert set(case["properties"]) <= {"age"}
    rest = shared.get("case/v2/", limit=1, exclude="properties").json()["cases"][0]
    assert "properties" not in rest
    assert "case_id" in rest


def test_detail_bulk_and_external_id(shared: Client) -> None:
    first, second = shared.server.truth(MATERNAL).cases[:2]
    assert shared.get(f"case/v2/{first['case_id']}").json() == first
    assert shared.get(f"case/v2/{first['case_id']}/").json() == first
    missing = shared.get("case/v2/nothing")
    assert (missing.status_code, missing.json()) == (404, {"error": "Case 'nothing' not found"})
    both = shared.get(f"case/v2/{second['case_id']},nothing,{first['case_id']}").json()
    gap = {"case_id": "nothing", "error": "not found"}
    assert both == {"matching_records": 2, "missing_records": 1, "cases": [second, gap, first]}
    assert shared.get("case/v2/ext/import-2-1/").json()["external_id"] == "import-2-1"


def test_bulk_fetch(shared: Client) -> None:
    case = shared.server.truth(MATERNAL).cases[5]
    url = f"/a/{MATERNAL}/api/case/v2/bulk-fetch/"
    answer = shared.http.post(url, json={"case_ids": [case["case_id"]], "external_ids": ["import-1-1", "none"]}).json()
    assert (answer["matching_records"], answer["missing_records"]) == (2, 1)
    assert answer["cases"][0] == case
    assert answer["cases"][2] == {"external_id": "none", "error": "not found"}
    for content, text in (
        (b"{", "Payload must be valid JSON"),
        (b"{}", "Payload must include 'case_ids' or 'external_ids' fields"),
    ):
        refused = shared.http.post(url, content=content)
        assert (refused.status_code, refused.json()) == (400, {"error": text})


def test_duplicate_external_id_is_refused(fresh: Client) -> None:
    for name in ("one", "two"):
        fresh.server.control.create_case(MATERNAL, "household", name, {"external_id": "twice"})
    answer = fresh.get("case/v2/ext/twice/")
    assert answer.status_code == 400
    assert answer.json()["error"].startswith("Multiple cases found with external_id 'twice': ")


def test_method_not_allowed(shared: Client) -> None:
    answer = shared.http.put(f"/a/{MATERNAL}/api/case/v2/", json={})
    assert (answer.status_code, answer.json()) == (405, {"error": "Request method not allowed"})


def test_case_updated_during_a_walk_moves_to_the_end(fresh: Client) -> None:
    first = fresh.get("case/v2/", limit=100).json()
    moved = first["cases"][0]["case_id"]
    form_id = fresh.server.control.update_case(MATERNAL, moved, {"ward": "W-new"})
    pages, url = [], first["next"]
    while url:
        answer = fresh.http.get(url).json()
        pages += answer["cases"]
        url = answer.get("next")
    assert pages[-1]["case_id"] == moved
    assert pages[-1]["properties"]["ward"] == "W-new"
    form = fresh.get(f"form/v1/{form_id}/").json()
    assert form["form"]["case"]["update"] == {"ward": "W-new"}
    assert form["app_id"] is None


def test_close_delete_create(fresh: Client) -> None:
    control = fresh.server.control
    kept, dropped = (case["case_id"] for case in fresh.server.truth(MATERNAL).cases[:2])
    control.close_case(MATERNAL, kept)
    control.delete_case(MATERNAL, dropped)
    created = control.create_case(MATERNAL, "household", "New", {"village": "v01"})
    cases = by_id([case for page in fresh.walk(500) for case in page])
    assert cases[kept]["closed"]
    assert cases[kept]["date_closed"] is not None
    assert dropped not in cases
    assert cases[created]["properties"] == {"village": "v01"}
    assert fresh.get(f"case/v2/{dropped}").status_code == 404


def test_index_lag_hides_a_change_from_lists_only(fresh: Client) -> None:
    control = fresh.server.control
    case = fresh.server.truth(MATERNAL).cases[0]
    control.set_index_lag(MATERNAL, 3600)
    control.update_case(MATERNAL, case["case_id"], {"ward": "later"})
    listed = by_id(fresh.get("case/v2/", limit=5000).json()["cases"])[case["case_id"]]
    assert listed == case
    assert fresh.get(f"case/v2/{case['case_id']}").json()["properties"]["ward"] == "later"
    control.settle_index(MATERNAL)
    listed = by_id(fresh.get("case/v2/", limit=5000).json()["cases"])[case["case_id"]]
    assert listed["properties"]["ward"] == "later"
    assert listed["indexed_on"] > case["indexed_on"]


def test_reindex_delivers_everything_again(fresh: Client) -> None:
    before = fresh.server.truth(MATERNAL).cases
    last = max(case["indexed_on"] for case in before)
    fresh.server.control.reindex(MATERNAL)
    again = [case for page in fresh.walk(500, **{"indexed_on.gt": last}) for case in page]
    unindexed = {"indexed_on": None}
    assert {k: {**v, **unindexed} for k, v in by_id(again).items()} == {
        k: {**v, **unindexed} for k, v in by_id(before).items()
    }


def test_other_host_missing_collection_endless_paging(fresh: Client) -> None:
    control = fresh.server.control
    control.set_switches(next_host="https://elsewhere.example.org")
    assert fresh.get("case/v2/", limit=5).json()["next"].startswith("https://elsewhere.example.org/a/")
    assert fresh.get("form/v1/", limit=5).json()["meta"]["next"].startswith("https://elsewhere.example.org/a/")
    control.set_switches(next_host=None, drop_collection=True)
    assert set(fresh.get("case/v2/", limit=5).json()) == {"matching_records", "next"}
    assert set(fresh.get("user/v1/").json()) == {"meta"}
    control.set_switches(drop_collection=False, endless_paging=True)
    answer = fresh.get("case/v2/", limit=5000).json()
    for _ in range(3):
        answer = fresh.http.get(answer["next"]).json()
        assert answer["cases"]
    assert fresh.get("user/v1/", limit=1000).json()["meta"]["next"] is not None


def test_old_address_and_older_resource(shared: Client) -> None:
    assert shared.get("v0.6/case/", limit=3).json()["cases"] == shared.get("case/v2/", limit=3).json()["cases"]
    older = shared.objects("v0.5/case/", limit=5000, type="mother")
    expected = {case["case_id"] for case in shared.server.truth(MATERNAL).cases if case["case_type"] == "mother"}
    assert {case["id"] for case in older} == expected
    assert all(case["xform_ids"] and case["properties"]["case_type"] == "mother" for case in older)
    assert shared.objects("case/v1/", case_typ="mother") == []


def test_cursor_that_is_none(shared: Client) -> None:
    for cursor in ("%%%", base64.b64encode(urlencode({"limit": 3}).encode()).decode()):
        assert shared.get("case/v2/", cursor=cursor).status_code == 400


def test_anonymous_gets_nothing(shared: Client) -> None:
    answer = PLAIN.get(f"{shared.server.url}/a/{MATERNAL}/api/case/v2/")
    assert (answer.status_code, answer.content) == (401, b"")
