"""Activity, assignments and data quality from a few records each, and shapes of answers from real project spaces."""

from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from explorer.marts.project import TenantProject
from explorer.providers.commcare.structure import Form, Question, Structure
from explorer.registry import load_pipelines, load_semantics
from tests.explorer.workshop import RAW_TABLES, Workshop

STOCK, DRIFT, UNNAMED = "http://openrosa.org/formdesigner/stock", "http://x/drift", "http://x/forms/dots_form"
DAY = datetime(2024, 3, 1, tzinfo=UTC)


def asked(path: str, kind: str | None, repeat: str | None = None) -> Question:
    around = tuple(repeat.split("/")) if repeat else None
    return Question(tuple(path.split("/")), path, kind, repeat=around, is_group=kind in ("Group", "Repeat"))


def form(xmlns: str, title: str, app_id: str, *questions: Question) -> Form:
    return Form(xmlns, {"en": title}, title, app_id, f"App {app_id}", "M", None, questions, app_ids=(app_id,))


STOCK_FORM = form(
    STOCK, "Stock", "a", asked("products/item", "Repeat"), asked("products/item/counted", "Int", "products/item")
)
BEFORE = form(
    DRIFT,
    "Drift",
    "a",
    asked("age", "Int"),
    asked("children", "Text"),
    asked("signs", "MSelect"),
    asked("house", "Repeat"),
    asked("house/room", "Text", "house"),
    asked("dropped", "Date"),
)
# A question became a repeat, a repeat a question, a multiple a single choice; one is gone, one new; the application is another.
AFTER = form(
    DRIFT,
    "Drift",
    "b",
    asked("age", "Text"),
    asked("children", "Repeat"),
    asked("children/name", "Text", "children"),
    asked("signs", "Select"),
    asked("house", "Text"),
    asked("added", "Int"),
)


@pytest.fixture(scope="module")
def workshop(make_workshop: Callable[[], Workshop]) -> Workshop:
    workshop = make_workshop()
    workshop.make_raw(*RAW_TABLES)
    with workshop.tenant.rw.connect() as connection:
        rejected = f"{workshop.tenant.names.schema('raw')}.raw_rejected"
        connection.execute(f"create table {rejected} (rejected_id text, resource text, reason text, record_start text)")
        connection.execute(
            f"insert into {rejected} values ('r1', 'cases', 'no key', '{{'), ('r2', 'cases', 'no key', '')"
        )
    _people(workshop)
    _cases(workshop)
    _submissions(workshop)
    _answers(workshop)
    return workshop


@pytest.fixture(scope="module")
def first(workshop: Workshop) -> TenantProject:
    """Everything built, as the first applications describe it."""
    project = workshop.prepare(Structure((), (), (STOCK_FORM, BEFORE)))
    result = workshop.run(project)
    assert [r for r in result.results if r.status in ("error", "fail", "skipped")] == []
    return project


def _people(workshop: Workshop) -> None:
    places = {"in": {"latitude": "28.6", "longitude": ""}, "bihar": {"latitude": "25° N"}, "lost": {"latitude": "912"}}
    for location, level, above in (("in", "state", ""), ("bihar", "district", "in"), ("lost", "district", "archived")):
        record = {"name": location.title(), "location_type_code": level, **places[location]}
        workshop.add(
            "raw_locations", record, location_id=location, site_code=location, parent_location_id=above or None
        )
    for user, active, own in (("u1", True, ["bihar", "gone"]), ("u2", False, []), ("idle", True, [])):
        record = {"locations": own, "primary_location": own[0] if own else None}
        workshop.add("raw_users", record, user_id=user, username=user, is_active=active)
    web: dict[str, Any] = {"primary_location_id": "in", "assigned_location_ids": []}
    workshop.add("raw_web_users", web, web_user_id="w1", username="chief")
    for group, sharing in (("g1", True), ("g2", "perhaps")):
        workshop.add("raw_groups", {"case_sharing": sharing, "reporting": None}, group_id=group, name=group)


def _cases(workshop: Workshop) -> None:
    def add(case_id: str, owner: str | None, **more: Any) -> None:
        record: dict[str, Any] = {"case_id": case_id, "case_name": "n", "date_opened": DAY.isoformat(), **more}
        keys = {"owner_id": owner, "closed": more.get("closed", False), "server_last_modified": datetime.now(UTC)}
        workshop.add("raw_cases", record, case_id=case_id, case_type="child", **keys)

    add("good", "u1", indices={"parent": {"case_id": "closed", "case_type": "child"}})
    add("orphan", "u2", indices={"parent": {"case_id": "nowhere", "case_type": "child"}})
    add("closed", "nobody", closed=True, date_closed=(DAY + timedelta(days=2)).isoformat())
    add("empty", None, case_name="", date_opened="---")
    add("future", "in", date_opened="2099-01-01T00:00:00Z")


def _submissions(workshop: Workshop) -> None:
    def add(form_id: str, start: str | None, end: str | None, *, user: str | None = "u1", **keys: Any) -> None:
        record = {
            "form": {"@xmlns": "http://x/visit", "@name": "Visit", "case": {"@case_id": keys.pop("case", "good")}},
            "metadata": {"userID": user, "timeStart": start, "timeEnd": end},
        }
        received = keys.pop("received", DAY + timedelta(hours=12))
        workshop.add("raw_forms", record, form_id=form_id, received_on=received, **{"archived": False, **keys})

    add("v1", "2024-03-01T09:00:00Z", "2024-03-01T09:10:00Z")
    add("v2", "2024-03-01T09:00:00+05:30", "2024-03-01T09:20:00+05:30", case="closed")
    add("v3", "2024-03-01T09:00:00Z", "2024-03-01T08:59:00Z")
    add("taken_back", "2024-03-01T09:00:00Z", "2024-03-01T10:00:00Z", archived=True, case="orphan")
    add("late", "2024-02-01T09:00:00Z", "2024-02-01T09:05:00Z", case="deleted")
    add("ahead", None, "2024-03-09T09:00:00Z", user="ghost", received=DAY)


def _answers(workshop: Workshop) -> None:
    ledger = {"@xmlns": "http://commcarehq.org/ledger/v1", "@entity-id": "c9", "@section-id": "stock", "@date": ""}
    items = [
        {"@id": "p1", "@index": "0", "counted": "40", "balance": {**ledger, "entry": {"@id": "p1", "@quantity": "40"}}},
        {"@id": "p2", "@index": "1", "counted": "5"},
    ]
    workshop.add_form("s1", STOCK, {"products": {"@count": "2", "@ids": "p1 p2", "item": items}})
    workshop.add_form("s2", STOCK, {"products": {"@count": "1", "item": items[1]}})
    workshop.add_form("s3", STOCK, {"products": {"@count": "0", "@ids": ""}})
    one = {"age": "7", "children": "two", "signs": "fever cough", "house": {"room": "kitchen"}, "dropped": "2024-01-31"}
    workshop.add_form("d1", DRIFT, one)
    workshop.add_form("d2", DRIFT, {"age": {"@note": "blank with an attribute"}, "children": {"#text": "3", "@a": "1"}})
    record = {"form": {"@xmlns": UNNAMED, "@version": "6", "pill": "yes"}, "metadata": {}}
    workshop.add("raw_forms", record, form_id="n1", received_on=DAY, archived=False)


def test_days_of_a_case_type(workshop: Workshop, first: TenantProject) -> None:
    columns = "day, opened, closed, touched, users, open_at_end"
    assert workshop.read(f"select {columns} from case_activity where case_type = 'child' order by day nulls first") == [
        (None, 1, 0, 0, 0, 1),
        (date(2024, 3, 1), 3, 0, 2, 2, 4),
        (date(2024, 3, 3), 0, 1, 0, 0, 3),
        (date(2099, 1, 1), 1, 0, 0, 0, 4),
    ]


def test_what_a_worker_did_in_a_day(workshop: Workshop, first: TenantProject) -> None:
    columns = "day, form_name, user_id, submissions, archived, cases_touched, median_duration_s, late_submissions"
    assert workshop.read(f"select {columns} from form_activity where xmlns = 'http://x/visit' order by 3") == [
        (date(2024, 3, 1), "Visit", "ghost", 1, 0, 1, None, 0),
        (date(2024, 3, 1), "Visit", "u1", 4, 1, 3, 600.0, 1),
    ]
    delay = "select median_delay_s from form_activity where user_id = 'ghost'"
    assert workshop.read(delay) == [(-(8 * 24 + 9) * 3600.0,)]
    totals = "select sum(submissions + archived), (select count(*) from forms) from form_activity"
    assert len(set(workshop.read(totals)[0])) == 1


def test_users_stand_in_the_hierarchy(workshop: Workshop, first: TenantProject) -> None:
    columns = "user_id, user_kind, location_id, is_primary, location_path, ancestor_ids, ancestor_type_codes, levels"
    assert workshop.read(f"select {columns} from user_locations order by 1, 3") == [
        ("u1", "mobile_worker", "bihar", True, "In / Bihar", ["in"], ["state"], {"state": "In", "district": "Bihar"}),
        ("u1", "mobile_worker", "gone", False, None, None, None, None),
        ("w1", "web_user", "in", True, "In", [], [], {"state": "In"}),
    ]
    assert workshop.read("select ancestor_names from locations where location_id = 'bihar'") == [(["In"],)]


def test_each_check_finds_what_it_says(workshop: Workshop, first: TenantProject) -> None:
    found = workshop.read(
        "select table_name, check_name, rows_found, example_id from data_quality where rows_found > 0"
    )
    assert sorted(found) == [
        ("cases", "missing_related_case", 1, "orphan"),
        ("cases", "no_date_opened", 1, "empty"),
        ("cases", "no_last_modified", 5, "closed"),
        ("cases", "no_name", 1, "empty"),
        ("cases", "no_owner", 1, "empty"),
        ("cases", "opened_in_future", 1, "future"),
        ("cases", "owner_deactivated", 1, "orphan"),
        ("cases", "unknown_owner", 1, "closed"),
        ("form_cases", "unknown_case", 1, "late"),
        ("forms", "archived", 1, "taken_back"),
        ("forms", "ended_before_started", 1, "v3"),
        ("forms", "ended_in_future", 1, "ahead"),
        ("forms", "no_times", 7, "ahead"),
        ("forms", "no_user", 1, "n1"),
        ("forms", "received_late", 1, "late"),
        ("forms", "unknown_user", 1, "ahead"),
        ("groups", "unreadable_values", 1, "g2"),
        ("locations", "impossible_place", 1, "lost"),
        ("locations", "unknown_parent", 1, "lost"),
        ("locations", "unreadable_values", 1, "bihar"),
        ("raw_cases", "rejected", 2, "r1"),
        ("user_locations", "unknown_location", 1, "u1"),
        ("users", "active_without_submission", 1, "idle"),
    ]
    assert workshop.read("select rows_checked from data_quality where check_name = 'untouched_180_days'") == [(5,)]


def test_entries_say_what_they_are_about(workshop: Workshop, first: TenantProject) -> None:
    """Repeats over a list of cases or products have the id as an attribute, ledgers all that they say."""
    columns = "repeat_id, id, counted, balance__entity_id, balance__entry__id, balance__entry__quantity"
    assert workshop.read(f"select {columns} from form_stock__products order by 1") == [
        ("s1-1", "p1", 40, "c9", "p1", "40"),
        ("s1-2", "p2", 5, None, None, None),
        ("s2-1", "p2", 5, None, None, None),
    ]
    [about] = [c.description for t in first.tables for c in t.columns if c.path == ("products", "item", "@id")]
    assert about.startswith("Identifier of what the entry is about, such as a case or a product.")


def test_a_form_without_a_name_is_named_by_the_end_of_its_xmlns(workshop: Workshop, first: TenantProject) -> None:
    assert workshop.read("select form_id, pill from form_dots_form") == [("n1", "yes")]


def test_the_shipped_examples_and_measures_run(workshop: Workshop, first: TenantProject) -> None:
    pipelines = Path(__file__).resolve().parents[5] / "pipelines"
    semantics = load_semantics(pipelines, load_pipelines(pipelines)["commcare_sync"])
    assert {e.question: workshop.read(e.sql) for e in semantics.examples}["What is wrong with the data?"]
    values = {m.name: workshop.read(f"select {m.sql} from {m.table}")[0][0] for m in semantics.measures}
    assert values["caseload"] == values["open_cases"] == 4
    assert values["submissions"] == workshop.read("select sum(submissions) from form_activity")[0][0]


def test_questions_change_into_repeats_and_back_and_no_answer_is_lost(workshop: Workshop, first: TenantProject) -> None:
    assert workshop.read("select form_id, age, children, signs from form_drift order by 1") == [
        ("d1", 7, "two", ["fever", "cough"]),
        ("d2", None, "3", None),
    ]
    new = {"age": "about 8", "children": [{"name": "Asha"}, {"name": "Ravi"}], "signs": "fever", "house": "brick"}
    workshop.add_form("d3", DRIFT, {**new, "added": "1"})
    workshop.add_form("d4", DRIFT, {"children": {"name": "Only"}, "signs": "", "house": ""})
    workshop.add_form("d5", DRIFT, {"children": ["", ""]})
    project = workshop.prepare(Structure((), (), (AFTER, STOCK_FORM)))
    result = workshop.run(
        project, select=["stg_forms", "forms", "form_drift", "form_drift__children", "form_drift__house"]
    )
    assert [(r.name, r.message) for r in result.results if r.status in ("error", "fail", "skipped")] == []
    assert workshop.read("select form_id, age, children, signs, house, dropped, added from form_drift order by 1") == [
        ("d1", "7", "two", "fever cough", None, date(2024, 1, 31), None),
        ("d2", None, "3", None, None, None, None),
        ("d3", "about 8", None, "fever", "brick", None, 1),
        ("d4", None, None, None, None, None, None),
        ("d5", None, None, None, None, None, None),
    ]
    children = "select form_id, repeat_index, name from form_drift__children where name is not null order by 1, 2"
    assert workshop.read(children) == [("d3", 1, "Asha"), ("d3", 2, "Ravi"), ("d4", 1, "Only")]
    assert workshop.read("select form_id, room from form_drift__house") == [("d1", "kitchen")]
    assert {(m.table, m.column, m.before, m.after) for m in project.type_changes} == {
        ("form_drift", "age", "integer", "text"),
        ("form_drift", "signs", "choices", "text"),
    }
    assert project.retired == ()
