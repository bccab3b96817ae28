"""Apps, users, groups, locations, lookup tables, UCR: shapes and peculiarities."""

import pytest

from demo_commcare import MATERNAL, NUTRITION
from demo_commcare.programme import maternal_apps, nutrition_apps
from demo_commcare.records import case_blocks
from tests.demo_commcare.conftest import Client


@pytest.mark.parametrize(
    "resource",
    ["application", "user", "web-user", "group", "location", "location_type", "lookup_table", "lookup_table_item", "fixture",
     "ucr_data_source", "domain_cases", "domain_forms", "form", "case"],
)  # fmt: skip
def test_both_generations_of_addresses(shared: Client, resource: str) -> None:
    new, old = shared.get(f"{resource}/v1/").json(), shared.get(f"v0.5/{resource}/").json()
    assert new["objects"]
    assert [entry.get("id") for entry in new["objects"]] == [entry.get("id") for entry in old["objects"]]


def test_applications_are_not_paged(shared: Client) -> None:
    answer = shared.get("application/v1/", limit=1).json()
    assert answer["meta"] == {"limit": None, "next": None, "offset": 0, "previous": None, "total_count": 2}
    assert answer["objects"] == shared.server.truth(MATERNAL).applications
    assert "langs" not in answer["objects"][0]
    full = shared.objects("application/v1/", extras="true")[0]
    assert full["langs"] == ["en", "fr", "hi"]
    assert shared.get(f"application/v1/{full['id']}/").json() == answer["objects"][0]


def test_application_oddities(shared: Client) -> None:
    modules = shared.objects("application/v1/")[0]["modules"]
    assert [module for module in modules if set(module) == {"error"}]
    named = [module for module in modules if "error" not in module]
    assert any("en" not in module["name"] for module in named)
    forms = [form for module in named for form in module["forms"]]
    assert any(set(form["name"]) == {"hi"} for form in forms)
    xmlnses = [form["xmlns"] for form in forms]
    assert len(set(xmlnses)) < len(xmlnses)
    questions = {q["value"]: q for form in forms for q in form["questions"]}
    assert questions["/data/women/births/birth_year"]["repeat"] == "/data/women/births"
    assert questions["/data/danger_signs"]["type"] == "MSelect"
    assert questions["/data/risk_score"] | {"tag": "hidden", "type": "DataBindOnly"} == questions["/data/risk_score"]
    assert {q["type"] for q in questions.values()} >= {
        "Text", "Int", "Double", "Date", "DateTime", "Time", "Select", "MSelect", "Image", "Geopoint", "Group", "Repeat",
        "Trigger",
        "PhoneNumber", "Secret", "SaveToCase", "DataBindOnly",
    }  # fmt: skip
    nutrition = shared.objects("application/v1/", NUTRITION)[0]["modules"]
    names = [form["name"].get("fr") for module in nutrition for form in module["forms"]]
    assert names.count("Visite de suivi") == 2


def leaves(node: object, path: str) -> set[str]:
    """Paths of the answers of a form, without metadata, attributes and case blocks."""
    if isinstance(node, dict):
        if "@case_id" in node:
            return set()
        below = (leaves(value, f"{path}/{key}") for key, value in node.items() if key[0] not in "@#")
        return set().union(*below)
    if isinstance(node, list):
        return set().union(*(leaves(value, path) for value in node))
    return {path}


@pytest.mark.parametrize(("domain", "module"), [(MATERNAL, maternal_apps), (NUTRITION, nutrition_apps)])
def test_answers_and_properties_are_declared_by_the_apps(shared: Client, domain: str, module: object) -> None:
    apps = shared.objects("application/v1/", domain)
    modules = [module for app in apps for module in app["modules"] if "error" not in module]
    declared = {
        form["xmlns"]: {q["value"] for q in form["questions"]} for module in modules for form in module["forms"]
    }
    properties: dict[str, set[str]] = {}
    for entry in modules:
        properties.setdefault(entry["case_type"], set()).update(entry["case_properties"])
    for form in shared.server.truth(domain).forms:
        if form["app_id"] is None:
            continue
        answers = {key: value for key, value in form["form"].items() if key != "meta"}
        assert leaves(answers, f"/{form['form']['#type']}") <= declared[form["form"]["@xmlns"]]
        for block in case_blocks(form["form"]):
            if block.get("create"):
                assert set(block["update"]) <= properties[block["create"]["case_type"]]
    for case in shared.server.truth(domain).cases:
        assert set(case["properties"]) <= properties[case["case_type"]]


def test_users_active_and_inactive_in_two_passes(fresh: Client) -> None:
    active, inactive = fresh.objects("user/v1/"), fresh.objects("user/v1/", archived="true")
    truth = {user["id"]: user["is_active"] for user in fresh.server.truth(MATERNAL).users}
    assert {user["id"]: True for user in active} | {user["id"]: False for user in inactive} == truth
    assert [user["username"] for user in active] == sorted(user["username"] for user in active)
    assert "is_active" not in active[0]
    fresh.server.control.deactivate_user(MATERNAL, active[0]["id"])
    assert active[0]["id"] in {user["id"] for user in fresh.objects("user/v1/", archived="true")}
    assert all(active[0]["id"] not in group["users"] for group in fresh.objects("group/v1/"))
    fresh.server.control.reactivate_user(MATERNAL, active[0]["id"])
    assert fresh.objects("user/v1/") == active


def test_group_filter_and_unknown_user(shared: Client) -> None:
    group = shared.objects("group/v1/")[0]
    members = {user["id"] for user in shared.objects("user/v1/", group=group["id"])}
    assert members == set(group["users"])
    foreign = shared.get("user/v1/", group="x")
    assert (foreign.status_code, foreign.json()) == (400, {"error": f"Project {MATERNAL} has no group with id=x"})
    unknown = shared.get("user/v1/nobody/")
    assert unknown.status_code == 400
    assert "empty attribute 'get_id'" in unknown.json()["error"]
    assert shared.get("group/v1/nothing/").status_code == 404


def test_web_users(shared: Client) -> None:
    assert len(shared.objects("web-user/v1/")) == 4
    found = shared.objects("web-user/v1/", web_username="reader@example.org")
    assert [user["role"] for user in found] == ["Read Only"]


def test_locations_of_both_versions_tell_the_same_tree(shared: Client) -> None:
    first = {location["location_id"]: location for location in shared.objects("location/v1/", limit=1000)}
    second = {location["location_id"]: location for location in shared.objects("location/v2/", limit=1000)}
    assert set(first) == set(second)
    types = {kind["resource_uri"]: kind["code"] for kind in shared.objects("location_type/v1/")}
    for key, location in second.items():
        parent = first[key]["parent"]
        assert location["parent_location_id"] == ("" if parent is None else parent.rstrip("/").rsplit("/", 1)[1])
        assert location["location_type_code"] == types[first[key]["location_type"]]
        assert not {"resource_uri", "id", "external_id"} & set(location)
    assert first[key]["resource_uri"].startswith(shared.server.url)
    assert not first[key]["last_modified"].endswith("Z")
    assert shared.get(f"location/v2/{key}/").json() == second[key]
    assert shared.get("location/v1/none/").status_code == 404


def test_location_filters(shared: Client) -> None:
    assert [location["name"] for location in shared.objects("location/v1/", site_code="kanke")] == ["Kanke"]
    newest = max(location["last_modified"] for location in shared.objects("location/v2/"))
    assert len(shared.objects("location/v1/", last_modified__gte=newest)) == 1
    assert shared.objects("location/v2/", **{"last_modified.gt": newest}) == []
    assert shared.get("location/v1/", colour="red").status_code == 400


def test_paging_of_small_resources(shared: Client) -> None:
    first = shared.get("location/v1/", limit=9).json()
    assert first["meta"]["next"] == f"/a/{MATERNAL}/api/location/v1/?limit=9&offset=9"
    second = shared.http.get(first["meta"]["next"]).json()
    assert second["meta"]["next"] is None
    ids = [location["id"] for location in first["objects"] + second["objects"]]
    assert len(set(ids)) == len(ids) == first["meta"]["total_count"]


def test_lookup_tables(shared: Client) -> None:
    tables = {table["tag"]: table for table in shared.objects("lookup_table/v1/")}
    items = shared.objects("lookup_table_item/v2/")
    names = [item["fields"]["name"]["field_list"] for item in items if item["data_type_id"] == tables["vaccines"]["id"]]
    assert {"field_value": "VPO 0", "properties": {"lang": "fr"}} in [value for values in names for value in values]
    flat = shared.objects("fixture/v1/", fixture_type="facilities")
    assert [row["fields"]["beds"] for row in flat] == ["6", "120"]


def walk_ucr(client: Client, source_id: str, limit: int) -> list[dict]:
    """All rows of a data source, following `next` until an empty page."""
    answer = client.get("ucr/v1/", data_source_id=source_id, limit=limit).json()
    rows = []
    while answer["objects"]:
        assert answer["meta"]["next"].startswith(client.server.url)
        assert len(answer["objects"]) <= answer["meta"]["limit"]
        rows += answer["objects"]
        answer = client.http.get(answer["meta"]["next"]).json()
    assert answer["meta"]["next"] is None
    return rows


def test_ucr_goes_on_until_an_empty_page(shared: Client) -> None:
    truth = shared.server.truth(MATERNAL)
    anc, women, mothers = shared.objects("ucr_data_source/v1/")
    assert [anc, women, mothers] == truth.ucr_data_sources
    for source in (anc, women, mothers):
        detail = shared.get(f"ucr_data_source/v1/{source['id']}/").json()
        rows = walk_ucr(shared, source["id"], 10_000)
        assert rows == [
            {name: value for name, value in row.items() if name != "data_source_id"}
            for row in truth.ucr_rows
            if row["data_source_id"] == source["id"]
        ]
        assert all({entry["column_id"] for entry in detail["configured_indicators"]} <= set(row) for row in rows)
        assert [(row["inserted_at"], row["doc_id"]) for row in rows] == sorted(
            (row["inserted_at"], row["doc_id"]) for row in rows
        )
    assert walk_ucr(shared, anc["id"], 7) == walk_ucr(shared, anc["id"], 10_000)
    assert len(walk_ucr(shared, anc["id"], 7)) == len(shared.walk_forms(xmlns=maternal_apps.ANC.xmlns))


def test_ucr_rows_of_an_unfolded_repeat_share_their_document(shared: Client) -> None:
    women = shared.objects("ucr_data_source/v1/")[1]["id"]
    rows = walk_ucr(shared, women, 10_000)
    keys = [(row["doc_id"], row["repeat_iteration"]) for row in rows]
    assert len(set(keys)) == len(keys) > len({doc_id for doc_id, _ in keys})
    # The cursor knows documents only: when a page ends inside a document, its other rows are never sent.
    cut = walk_ucr(shared, women, 1)
    assert len(cut) == len({doc_id for doc_id, _ in keys})


def test_ucr_limits_and_refusals(fresh: Client) -> None:
    control = fresh.server.control
    source_id = fresh.objects("ucr_data_source/v1/")[0]["id"]
    assert fresh.get("ucr/v1/", data_source_id=source_id).json()["meta"]["limit"] == 1000
    assert fresh.get("ucr/v1/", data_source_id=source_id, limit=50_000).json()["meta"]["limit"] == 10_000
    missing = fresh.get("ucr/v1/")
    assert (missing.status_code, missing.text) == (400, "Missing data_source_id parameter")
    assert fresh.get("ucr/v1/", data_source_id="unknown").status_code == 404
    assert fresh.get("ucr_data_source/v1/unknown/").status_code == 404
    control.set_feature(MATERNAL, "export_data_source_data", on=False)
    refused = fresh.get("ucr/v1/", data_source_id=source_id)
    assert (refused.status_code, refused.content) == (403, b"")
    control.set_feature(MATERNAL, "user_configurable_reports", on=False)
    for path in ("ucr_data_source/v1/", f"ucr_data_source/v1/{source_id}/"):
        refused = fresh.get(path)
        assert (refused.status_code, refused.json()) == (
            401,
            {"error": "You don't have permission to access this API"},
        )
    with pytest.raises(ValueError, match="unknown feature"):
        control.set_feature(MATERNAL, "telepathy", on=True)


def test_ucr_rows_follow_changes(fresh: Client) -> None:
    anc, _, mothers = (source["id"] for source in fresh.objects("ucr_data_source/v1/"))
    first = walk_ucr(fresh, anc, 1000)[0]
    fresh.server.control.archive_form(MATERNAL, first["doc_id"])
    assert first["doc_id"] not in {row["doc_id"] for row in walk_ucr(fresh, anc, 1000)}
    mother = walk_ucr(fresh, mothers, 1000)[0]
    fresh.server.control.close_case(MATERNAL, mother["doc_id"])
    last = walk_ucr(fresh, mothers, 1000)[-1]
    assert (last["doc_id"], last["open"]) == (mother["doc_id"], 0)
    assert last["inserted_at"] > mother["inserted_at"]


def test_zapier_helpers(shared: Client) -> None:
    types = {case["case_type"] for case in shared.server.truth(MATERNAL).cases}
    assert {row["case_type"] for row in shared.objects("domain_cases/v1/")} == types
    forms = shared.objects("domain_forms/v1/", application_id=maternal_apps.SUPERVISION_ID)
    assert [row["form_name"] for row in forms] == ["Supervision checklist", "Household survey"]


def test_added_question_shows_in_every_module_and_raises_the_version(fresh: Client) -> None:
    before = fresh.objects("application/v1/")[0]
    version = fresh.server.control.add_question(MATERNAL, before["id"], maternal_apps.ANC.xmlns, "muac", "Int")
    after = fresh.objects("application/v1/")[0]
    assert after["version"] == version == before["version"] + 1
    places = [
        q["value"]
        for m in after["modules"]
        for f in m.get("forms", ())
        for q in f["questions"]
        if q["value"] == "/data/muac"
    ]
    assert len(places) == 2


def test_addresses_without_a_slash_and_unknown_ones_are_html_404(shared: Client) -> None:
    for path in ("form/v1", "nothing/v1/", "application/schema/"):
        answer = shared.get(path)
        assert answer.status_code == 404
        assert answer.headers["content-type"].startswith("text/html")
