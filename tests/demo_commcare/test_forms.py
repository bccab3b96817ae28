"""The form resource against each rule of the reference."""

import pytest

from demo_commcare import MATERNAL, NUTRITION
from demo_commcare.programme import maternal_apps
from demo_commcare.records import block_actions, case_blocks
from tests.demo_commcare.conftest import PLAIN, Client


def relative(forms: list[dict], root: str) -> dict[str, dict]:
    """Forms by id, with the addresses of the truth."""
    for form in forms:
        for entry in form["attachments"].values():
            entry["url"] = entry["url"].removeprefix(root)
    return {form["id"]: form for form in forms}


def test_all_forms_are_the_truth(shared: Client) -> None:
    forms = shared.walk_forms(include_archived="false", order_by="indexed_on")
    truth = shared.server.truth(MATERNAL)
    assert len(forms) == truth.form_count
    assert relative(forms, shared.server.url) == relative(truth.forms, "")
    assert [form["indexed_on"][:23] for form in forms] == sorted(form["indexed_on"][:23] for form in forms)


def test_archived_forms_need_the_mere_presence_of_a_parameter(shared: Client) -> None:
    archived = {form["id"] for form in shared.server.truth(MATERNAL).forms if form["archived"]}
    listed = {form["id"] for form in shared.walk_forms()}
    assert archived
    assert not archived & listed
    assert len(listed) + len(archived) == shared.server.truth(MATERNAL).form_count


def test_newest_reception_first_by_default(shared: Client) -> None:
    received = [form["received_on"][:23] for form in shared.walk_forms(limit=333)]
    assert received == sorted(received, reverse=True)


@pytest.mark.parametrize(("given", "limit"), [("0", 1000), ("5000", 1000), ("7", 7), (None, 20)])
def test_limit_is_clamped(shared: Client, given: str | None, limit: int) -> None:
    answer = shared.get("form/v1/", **({} if given is None else {"limit": given})).json()
    assert answer["meta"]["limit"] == limit
    assert len(answer["objects"]) == min(limit, answer["meta"]["total_count"])


@pytest.mark.parametrize(
    ("params", "text"),
    [
        ({"limit": "-1"}, "Invalid limit '-1' provided. Please provide a positive integer."),
        ({"limit": "x"}, "Invalid limit 'x' provided. Please provide a positive integer."),
        ({"offset": "-1"}, "Invalid offset '-1' provided. Please provide a positive integer >= 0."),
        ({"order_by": "xyz"}, "No matching 'xyz' field for ordering on."),
        ({"order_by": "app_id"}, "The 'app_id' field does not allow ordering."),
        (
            {"indexed_on_start": "2025-03-01T00:00:00Z"},
            "Bad query parameter: Unknown date format: 2025-03-01T00:00:00Z",
        ),
        (
            {"received_on_end": "2025-03-01T00:00:00+00:00"},
            "Bad query parameter: Unknown date format: 2025-03-01T00:00:00+00:00",
        ),
    ],
)
def test_refused_parameters(shared: Client, params: dict, text: str) -> None:
    answer = shared.get("form/v1/", **params)
    assert (answer.status_code, answer.json()) == (400, {"error": text})


@pytest.mark.parametrize(
    "start", ["2025-06-01", "2025-06-01T00:00:00", "2025-06-01T00:00:00.000000", "2025-06-01T00:00Z"]
)
def test_known_date_formats_are_inclusive(shared: Client, start: str) -> None:
    forms = shared.walk_forms(received_on_start=start, order_by="received_on")
    expected = {
        f["id"] for f in shared.server.truth(MATERNAL).forms if f["received_on"] >= "2025-06-01" and not f["archived"]
    }
    assert {form["id"] for form in forms} == expected


def test_range_ends_include_their_instant_and_ties_exist(shared: Client) -> None:
    instants = [form["indexed_on"] for form in shared.server.truth(MATERNAL).forms]
    tied = max(set(instants), key=instants.count)
    assert instants.count(tied) > 20
    bound = tied.removesuffix("Z")
    forms = shared.walk_forms(limit=10, indexed_on_start=bound, indexed_on_end=bound, order_by="indexed_on")
    assert len({form["id"] for form in forms}) == instants.count(tied)


def test_next_is_only_a_query(shared: Client) -> None:
    meta = shared.get("v0.5/form/", limit=10, offset=10, xmlns=maternal_apps.ANC.xmlns).json()["meta"]
    assert meta["next"].startswith("?limit=10&offset=20&xmlns=")
    assert meta["previous"].startswith("?limit=10&offset=0&xmlns=")


def test_filters(shared: Client) -> None:
    truth = shared.server.truth(MATERNAL)
    listed = [form for form in truth.forms if not form["archived"]]
    anc = {form["id"] for form in listed if form["form"]["@xmlns"] == maternal_apps.ANC.xmlns}
    assert {form["id"] for form in shared.walk_forms(xmlns=maternal_apps.ANC.xmlns)} == anc
    assert shared.walk_forms(xmlns=maternal_apps.ANC.xmlns.lower()) == []
    supervised = {form["id"] for form in listed if form["app_id"] == maternal_apps.SUPERVISION_ID}
    assert {form["id"] for form in shared.walk_forms(app_id=maternal_apps.SUPERVISION_ID.upper())} == supervised
    case_id = truth.form_cases[0]["case_id"]
    touching = {row["form_id"] for row in truth.form_cases if row["case_id"] == case_id}
    assert {form["id"] for form in shared.walk_forms(case_id=case_id)} == touching


def test_unknown_parameter_silently_finds_nothing(shared: Client) -> None:
    meta = shared.get("form/v1/", appid=maternal_apps.REGISTER_ID).json()["meta"]
    assert meta["total_count"] == 0


def test_full_cases_and_search(shared: Client) -> None:
    forms = shared.objects("form/v1/", limit=50, cases__full="true")
    assert any(form["cases"] for form in forms)
    search = '{"filter":{"range":{"inserted_at":{"gte":"2025-06-01T00:00:00.000000"}}}}'
    found = shared.walk_forms(_search=search)
    expected = {
        f["id"] for f in shared.server.truth(MATERNAL).forms if f["indexed_on"] >= "2025-06-01" and not f["archived"]
    }
    assert {form["id"] for form in found} == expected


def test_attachments_have_the_promised_length(shared: Client) -> None:
    form = next(form for form in shared.walk_forms() if len(form["attachments"]) == 2)
    for name, entry in form["attachments"].items():
        assert entry["url"] == f"{shared.server.url}/a/{MATERNAL}/api/form_attachment/v1/{form['id']}/{name}"
        answer = shared.http.get(entry["url"])
        assert len(answer.content) == entry["length"]
        assert answer.headers["content-type"].startswith(entry["content_type"])
        assert PLAIN.get(entry["url"]).status_code == 401
    missing = shared.get(f"form_attachment/v1/{form['id']}/none.jpg")
    assert missing.status_code == 404
    assert missing.headers["content-type"].startswith("text/html")


def test_detail_and_its_empty_404(shared: Client) -> None:
    form = shared.objects("form/v1/", limit=1)[0]
    assert shared.get(f"form/v1/{form['id']}/").json() == form
    missing = shared.get("form/v1/none/")
    assert (missing.status_code, missing.content) == (404, b"")


def test_archiving_rebuilds_the_case_and_restoring_brings_it_back(fresh: Client) -> None:
    control, truth = fresh.server.control, fresh.server.truth(MATERNAL)
    form = next(f for f in truth.forms if f["form"]["@xmlns"] == maternal_apps.PROFILE.xmlns and not f["archived"])
    case_id = form["form"]["case"]["@case_id"]
    before = fresh.get(f"case/v2/{case_id}").json()
    control.archive_form(MATERNAL, form["id"])
    assert form["id"] not in {each["id"] for each in fresh.walk_forms(limit=1000)}
    newest = fresh.objects("form/v1/", include_archived="x", order_by="-indexed_on", limit=1)[0]
    assert (newest["id"], newest["archived"]) == (form["id"], True)
    assert "bank_account" not in fresh.get(f"case/v2/{case_id}").json()["properties"]
    control.unarchive_form(MATERNAL, form["id"])
    assert fresh.get(f"case/v2/{case_id}").json()["properties"] == before["properties"]


def test_edit_keeps_the_id_and_changes_the_case(fresh: Client) -> None:
    control, truth = fresh.server.control, fresh.server.truth(MATERNAL)
    form = next(f for f in truth.forms if f["form"]["@xmlns"] == maternal_apps.PROFILE.xmlns and not f["archived"])
    control.edit_form(MATERNAL, form["id"], {"remarks": "edited"})
    edited = fresh.get(f"form/v1/{form['id']}/").json()
    assert edited["form"]["remarks"] == "edited"
    assert edited["edited_on"] == edited["server_modified_on"] > form["server_modified_on"]
    assert edited["received_on"] == form["received_on"]
    assert edited["indexed_on"] > form["indexed_on"]
    assert fresh.get(f"case/v2/{form['form']['case']['@case_id']}").json()["properties"]["remarks"] == "edited"


def test_deleted_form_vanishes_with_the_cases_only_it_made(fresh: Client) -> None:
    form = next(f for f in fresh.server.truth(MATERNAL).forms if f["form"]["#type"] == "system")
    case_ids = [block["@case_id"] for block in case_blocks(form["form"])]
    fresh.server.control.delete_form(MATERNAL, form["id"])
    assert fresh.get(f"form/v1/{form['id']}/").status_code == 404
    assert [fresh.get(f"case/v2/{case_id}").status_code for case_id in case_ids] == [404] * len(case_ids)


def test_deep_offsets_fail_on_demand(fresh: Client) -> None:
    fresh.server.control.set_switches(deep_offset_limit=100)
    assert fresh.get("form/v1/", limit=50, offset=50).status_code == 200
    answer = fresh.get("form/v1/", limit=50, offset=51)
    assert (answer.status_code, list(answer.json())) == (500, ["error_message"])


@pytest.mark.parametrize("domain", [MATERNAL, NUTRITION])
def test_cases_follow_from_forms(shared: Client, domain: str) -> None:
    """Independent replay: the last update of each property wins, closes close, links resolve."""
    truth = shared.server.truth(domain)
    expected: dict[str, dict] = {}
    for form in sorted(truth.forms, key=lambda form: form["received_on"]):
        for block in () if form["archived"] else case_blocks(form["form"]):
            case = expected.setdefault(block["@case_id"], {"closed": False, "properties": {}, "indices": set()})
            case["properties"] |= {k: v for k, v in (block.get("update") or {}).items() if k != "external_id"}
            case["closed"] |= "close" in block
            case["indices"] |= {entry["#text"] for entry in (block.get("index") or {}).values()}
    cases = {case["case_id"]: case for case in truth.cases}
    assert set(cases) == set(expected)
    for case_id, case in cases.items():
        assert case["properties"] == expected[case_id]["properties"]
        assert case["closed"] == expected[case_id]["closed"]
        assert {index["case_id"] for index in case["indices"].values()} == expected[case_id]["indices"] <= set(cases)
        assert case["case_type"]
    assert {row["case_id"] for row in truth.form_cases} == set(cases)


def test_the_oddities_of_real_forms_are_there(shared: Client) -> None:
    forms = shared.server.truth(MATERNAL).forms
    women = [
        type(form["form"].get("women")) for form in forms if form["form"]["@xmlns"] == maternal_apps.HOUSEHOLD.xmlns
    ]
    assert {dict, list, type(None)} == set(women)
    anc = [form["form"] for form in forms if form["form"]["@xmlns"] == maternal_apps.ANC.xmlns]
    assert any(form["exam"]["gestation_weeks"] == "34.5" for form in anc)
    assert any(form["visit_date"] == "---" for form in anc)
    assert any("\0" in form["notes"] for form in anc)
    assert any(" " in form["danger_signs"] for form in anc)
    assert {type(form.get("medicines")) for form in anc} == {dict, list, type(None)}
    blocks = [block for form in forms for block in case_blocks(form["form"])]
    assert any("create" in block and block["create"] is None for block in blocks)
    assert {action for block in blocks for action in block_actions(block)} == {"create", "update", "index", "close"}
    assert any(form["app_id"] is None for form in forms)
    assert b"\\u0000" in shared.http.get(f"/a/{MATERNAL}/api/form/v1/?limit=1000").content
