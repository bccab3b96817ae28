"""From raw records to agents' tables: values, shapes, names and documentation, with a real database."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime, time
from decimal import Decimal
from typing import Any

import pytest

from explorer.providers.commcare.structure import CaseType, Form, Option, Question, Structure
from explorer.tables.engine import TableResult, Updated
from explorer.tables.values import TableSpec
from tests.explorer.workshop import PLANNER, RAW_TABLES, Workshop

HOSTILE = "{{ env_var('PATH') }} '; drop table cases; -- */ {% do x() %} {# c #} $lock$"
VISIT, PLAIN, TWIN_A, TWIN_B, GONE = (
    f"http://openrosa.org/formdesigner/{name}" for name in ("visit", "plain", "a", "b", "gone")
)


def question(path: str, kind: str | None, repeat: str | None = None, **more: Any) -> Question:
    return Question(
        path=tuple(path.split("/")),
        label=more.pop("label", f"Label of {path}"),
        type=kind,
        repeat=tuple(repeat.split("/")) if repeat else None,
        is_group=kind in ("Group", "Repeat", "FieldList"),
        **more,
    )


def form(xmlns: str, title: str, *questions: Question, app_name: str = "App") -> Form:
    return Form(xmlns, {"en": title}, title, f"id of {app_name}", app_name, "Module", None, questions)


STRUCTURE = Structure(
    apps=(),
    case_types=(
        CaseType("pregnancy", ("edd", "DOB", "dob", "visit-date", HOSTILE, "name", "case_id", "order"), ("app",)),
        CaseType("गर्भवती", ("नाम",), ("app",)),
        CaseType("", (), ("app",)),
        CaseType("s" * 80, (), ("app",)),
    ),
    forms=(
        form(
            VISIT,
            "Home Visit",
            question("details", "Group"),
            question("details/age", "Int"),
            question("details/weight", "Double"),
            question("details/seen", "Date"),
            question("details/at", "Time"),
            question("details/when", "DateTime"),
            question("details/place", "Geopoint"),
            question(
                "details/signs",
                "MSelect",
                label="Danger signs?",
                translations={"hi": "खतरे"},
                options=(Option("bleeding", "Bleeding"),),
            ),
            question("details/photo", "Image"),
            question("case", "Text"),
            question("meta", "Text"),
            question("form_id", "Text"),
            question("name", None),
            question("hostile", "Text", label=HOSTILE, options=(Option(HOSTILE, HOSTILE),)),
            question('it\'s "quoted" {{ 1 }}', "Text"),
            question("children", "Repeat"),
            question("children/grp/name", "Text", "children"),
            question("children/vaccines", "Repeat", "children"),
            question("children/vaccines/given", "Date", "children/vaccines"),
        ),
        form(PLAIN, "cases", question("x", "Text")),
        form(TWIN_A, "Registration", question("x", "Text"), app_name="Mother"),
        form(TWIN_B, "registration!", question("y", "Text"), app_name="Child"),
    ),
)


@dataclass(frozen=True)
class Built:
    workshop: Workshop
    updated: Updated
    seen: list[TableResult]

    @property
    def tables(self) -> Mapping[str, TableSpec]:
        return self.updated.tables


@pytest.fixture(scope="module")
def built(make_workshop: Callable[[], Workshop]) -> Built:
    workshop = make_workshop()
    workshop.make_raw(*RAW_TABLES)
    fill(workshop)
    seen: list[TableResult] = []
    return Built(workshop, workshop.build(STRUCTURE, on_result=seen.append), seen)


def fill(workshop: Workshop) -> None:
    parent = {"parent": {"case_id": "c2", "case_type": "mother", "relationship": "child"}}
    properties: dict[str, Any] = {"edd": "2024-09-01", "DOB": "a", "dob": "b", "visit-date": "", HOSTILE: HOSTILE}
    workshop.add_case("c1", "pregnancy", indices=parent, **properties)
    workshop.add_case("c2", "mother", seen_only="in data")
    workshop.add_case("c3", "pregnancy", deleted=True)
    workshop.add(
        "raw_cases", {"case_id": "c4", "properties": "broken", "date_opened": "---"}, case_id="c4", case_type="odd"
    )
    answers: dict[str, Any] = {
        "details": {
            "age": "27",
            "weight": "54.5",
            "seen": "2024-02-29",
            "at": "09:30:00.000+05:30",
            "when": "2024-02-29T04:00:00.000000Z",
            "place": "-12.5 30.25 1100 4.8",
            "signs": "bleeding fever",
            "photo": {"#text": "1.jpg", "@size": "9"},
        },
        "case": {"@case_id": "c1", "update": {"edd": "2024-09-01"}},
        "meta": {"deviceID": "d"},
        "form_id": "an answer",
        "name": "",
        "hostile": HOSTILE,
        'it\'s "quoted" {{ 1 }}': "quoted",
        "children": [
            {"grp": {"name": "Asha"}, "vaccines": [{"given": "2024-01-01"}, {"given": "soon"}]},
            {"grp": {"name": "Ravi"}, "vaccines": {"given": "2024-01-03"}},
        ],
    }
    workshop.add_form("f1", VISIT, answers, root="a_root_of_another_name", app_id="app")
    workshop.add_form(
        "f2", VISIT, {"details": {"age": "34.5", "seen": "---"}, "children": {"grp": {"name": "Only"}}}, archived=True
    )
    workshop.add_form("f3", VISIT, {"children": {"grp": {"name": ""}, "vaccines": ""}})
    workshop.add_form(
        "f4", GONE, {"g": {"colour": "red"}, "rows": [{"n": "1"}, {"n": "2"}], "case": {"@case_id": "c9", "close": ""}}
    )
    workshop.add_form("f5", TWIN_A, {"x": "mother"})
    user = {
        "phone_numbers": ["+1"],
        "groups": ["g1"],
        "user_data": {"commcare_location_id": "v", "commcare_location_ids": "v w"},
    }
    workshop.add("raw_users", user, user_id="u1", username="amina", is_active=False)
    for location, above in (("country", ""), ("v", "country")):
        workshop.add(
            "raw_locations",
            {"name": location.title(), "latitude": "1.50"},
            location_id=location,
            site_code=location,
            parent_location_id=above,
        )
    for code, above in (("district", None), ("village", "/a/d/api/location_type/v1/11/")):
        record = {"name": code.title(), "parent": above, "administrative": above is None, "shares_cases": True}
        workshop.add("raw_location_types", record, location_type_id="11" if above is None else "12", code=code)
    table = {"fields": [{"field_name": "name", "properties": ["lang"]}], "is_global": True}
    workshop.add("raw_lookup_tables", table, lookup_table_id="t1", tag="villages")
    fields = {"name": {"field_list": [{"field_value": "Rampur", "properties": {}}]}}
    workshop.add("raw_lookup_table_items", {"fields": fields, "sort_key": 3}, item_id="i1", data_type_id="t1")
    workshop.add("raw_ucr_data_sources", {}, data_source_id="d1", display_name="Births")
    for number, source in enumerate(("d1", "d1", "gone")):
        row = {"doc_id": "f1", "id": "f1", "inserted_at": "2024-01-01", "repeat_iteration": number, "sex": None}
        workshop.add("raw_ucr_rows", row, row_id=f"r{number}", data_source_id=source, doc_id="f1")


def test_everything_is_built_and_reported_once(built: Built) -> None:
    assert {result.verb for result in built.seen} == {"built"}
    assert sorted(result.table for result in built.seen) == sorted(built.tables)
    assert {table.name for table in PLANNER.fixed} < built.tables.keys()
    assert built.updated.results["forms"].rows == 5
    assert built.updated.findings("forms") == ()


def test_cases_hold_what_the_source_still_has(built: Built) -> None:
    rows = built.workshop.read(
        "select case_id, case_type, date_opened, external_id, closed, properties ->> 'edd', indices #>> '{parent,case_id}' "
        "from cases"
    )
    opened = datetime(2024, 2, 29, 10, 0, 0, 123456, UTC)
    assert sorted(rows) == [
        ("c1", "pregnancy", opened, None, False, "2024-09-01", "c2"),
        ("c2", "mother", opened, None, False, None, None),
        ("c4", "odd", None, None, None, None, None),
    ]


def test_cases_name_their_owners(built: Built) -> None:
    query = "select case_id, owner_id, owner_kind, owner_name, owner_location_path from {} order by 1"
    rows = [
        ("c1", "u1", "mobile_worker", "amina", "Country / V"),
        ("c2", "u1", "mobile_worker", "amina", "Country / V"),
        ("c4", None, None, None, None),
    ]
    assert built.workshop.read(query.format("cases")) == rows
    assert built.workshop.read(query.format("case_pregnancy")) == rows[:1]
    assert built.workshop.read("select * from owners order by 1") == [
        ("country", "location", "Country", True, "country", "Country"),
        ("u1", "mobile_worker", "amina", False, "v", "Country / V"),
        ("v", "location", "V", True, "v", "Country / V"),
    ]


def test_options_are_rows_with_their_labels(built: Built) -> None:
    rows = built.workshop.read(
        "select column_name, value, label, language, position from question_options where table_name like 'form_%' order by 1, 2"
    )
    assert ("details__signs", "bleeding", "Bleeding", "default", 1) in rows
    assert [row[1:3] for row in rows if row[0] == "hostile"] == [(HOSTILE, HOSTILE)]
    assert built.updated.findings("question_options") == ()


def test_values_that_do_not_fit_are_named(built: Built) -> None:
    assert built.workshop.read(
        "select case_id, date_opened, unfit_columns from cases where unfit_columns is not null"
    ) == [("c4", None, ["date_opened"])]
    assert built.updated.unfit_values("cases") == {"date_opened": 1}


def test_forms_and_the_cases_they_touched(built: Built) -> None:
    assert built.workshop.read(
        "select form_id, username, form_name, archived, app_id from forms where form_id in ('f1', 'f2') order by 1"
    ) == [
        ("f1", "amina", "Name at the time", False, "app"),
        ("f2", "amina", "Name at the time", True, None),
    ]
    assert built.workshop.read(
        "select form_id, case_id, action, block_index, path, repeat_id from form_cases order by 1"
    ) == [
        ("f1", "c1", "update", 1, "case", None),
        ("f4", "c9", "close", 1, "case", None),
    ]


def test_users_locations_and_lookup_tables(built: Built) -> None:
    assert built.workshop.read(
        "select is_active, primary_location_id, location_ids, group_ids, phone_numbers from users"
    ) == [(False, "v", ["v", "w"], ["g1"], ["+1"])]
    assert built.workshop.read("select path, depth, ancestor_ids, latitude from locations where location_id = 'v'") == [
        ("Country / V", 1, ["country"], 1.5)
    ]
    assert built.workshop.read("select field_names, is_global from lookup_tables") == [(["name"], True)]
    assert built.workshop.read("select tag, fields, sort_key from lookup_table_items") == [
        ("villages", {"name": "Rampur"}, 3)
    ]


def test_location_types_and_ucr_rows(built: Built) -> None:
    columns = "location_type_id, code, name, parent_location_type_id, is_administrative, shares_cases, view_descendants"
    assert built.workshop.read(f"select {columns} from location_types order by 1") == [
        ("11", "district", "District", None, True, True, None),
        ("12", "village", "Village", "11", False, True, None),
    ]
    columns = "row_id, data_source_name, doc_id, repeat_iteration, inserted_at, indicators"
    assert built.workshop.read(f"select {columns} from ucr_rows order by 1") == [
        ("r0", "Births", "f1", 0, None, {"sex": None}),
        ("r1", "Births", "f1", 1, None, {"sex": None}),
        ("r2", None, "f1", 2, None, {"sex": None}),
    ]


def test_answers_have_the_type_of_their_question(built: Built) -> None:
    columns = "details__age, details__weight, details__seen, details__at, details__when, details__signs, details__photo"
    assert built.workshop.read(f"select {columns} from form_home_visit where form_id = 'f1'") == [
        (27, 54.5, date(2024, 2, 29), time(9, 30), datetime(2024, 2, 29, 4, tzinfo=UTC), ["bleeding", "fever"], "1.jpg")
    ]
    place = "details__place_latitude, details__place_longitude, details__place_altitude, details__place_accuracy"
    assert built.workshop.read(f"select {place} from form_home_visit where form_id = 'f1'") == [
        (Decimal("-12.5"), Decimal("30.25"), Decimal(1100), Decimal("4.8"))
    ]
    assert built.workshop.read(
        "select details__age, details__seen, archived from form_home_visit where form_id = 'f2'"
    ) == [(None, None, True)]


def test_form_tables_have_keys_and_facts_of_the_submission(built: Built) -> None:
    query = (
        "select form_id, case_id, user_id, received_on, time_start, time_end from form_home_visit order by 1 limit 1"
    )
    start = datetime(2024, 1, 1, 8, tzinfo=UTC)
    assert built.workshop.read(query) == [("f1", "c1", "u1", start.replace(minute=30), start, None)]


def test_questions_named_like_keys_or_code_are_only_data(built: Built) -> None:
    table = built.tables["form_home_visit"]
    names = {column.path: column.name for column in table.columns if column.path}
    assert names[("name",)] == "name"
    assert names[("form_id",)].startswith("form_id_")
    row = built.workshop.read(
        f"select {names[('form_id',)]}, name, hostile, it_s_quoted_1 from form_home_visit where form_id = 'f1'"
    )
    assert row == [("an answer", None, HOSTILE, "quoted")]
    hostile = next(column for column in table.columns if column.name == "hostile")
    assert hostile.label == HOSTILE
    assert HOSTILE in hostile.description


def test_repeats_are_rows_whether_one_or_several(built: Built) -> None:
    children = "select repeat_id, form_id, repeat_index, grp__name, archived from form_home_visit__children order by 1"
    assert built.workshop.read(children) == [
        ("f1-1", "f1", 1, "Asha", False),
        ("f1-2", "f1", 2, "Ravi", False),
        ("f2-1", "f2", 1, "Only", True),
    ]
    vaccines = "select repeat_id, parent_repeat_id, parent_index, repeat_index, given from form_home_visit__vaccines order by 1"
    assert built.workshop.read(vaccines) == [
        ("f1-1-1", "f1-1", 1, 1, date(2024, 1, 1)),
        ("f1-1-2", "f1-1", 1, 2, None),
        ("f1-2-1", "f1-2", 2, 1, date(2024, 1, 3)),
    ]


def test_case_tables_have_properties_and_parents(built: Built) -> None:
    table = built.tables["case_pregnancy"]
    names = {column.path: column.name for column in table.columns if column.path}
    hostile, upper = names[(HOSTILE,)], names[("DOB",)]
    columns = f"case_id, edd, dob, {upper}, visit_date, {hostile}, order_, parent_case_id, parent_case_type"
    query = f"select {columns} from case_pregnancy"
    assert built.workshop.read(query) == [("c1", date(2024, 9, 1), "b", "a", None, HOSTILE, None, "c2", "mother")]
    assert ("name",) not in names
    assert names[("case_id",)].startswith("case_id_")


def test_sources_that_no_application_describes_have_tables_too(built: Built) -> None:
    assert built.workshop.read("select case_id, seen_only from case_mother") == [("c2", "in data")]
    gone = built.tables["form_name_at_the_time"]
    assert (gone.source, gone.kind) == (GONE, "form")
    assert built.workshop.read("select form_id, g__colour from form_name_at_the_time") == [("f4", "red")]
    assert built.workshop.read("select repeat_index, n from form_name_at_the_time__rows order by 1") == [
        (1, "1"),
        (2, "2"),
    ]


def test_names_of_tables_are_valid_and_tell_twins_apart(built: Built) -> None:
    by_source = {table.source: table.name for table in built.tables.values()}
    assert by_source["गर्भवती"] == "case_grbhvtii"
    assert by_source[TWIN_A] == "form_mother_registration"
    assert by_source[TWIN_B] == "form_child_registration"
    assert by_source[PLAIN].startswith("form_cases_")
    assert len(by_source["s" * 80]) == 51
    assert "" not in by_source
    assert built.workshop.read("select form_id, x from form_mother_registration") == [("f5", "mother")]


def test_descriptions_are_comments_in_the_database(built: Built) -> None:
    comments = dict(
        built.workshop.tenant.rw.connect()
        .execute(
            "select attname, col_description(attrelid, attnum) from pg_attribute where attrelid = %s::regclass and attnum > 0",
            [f"{built.workshop.tenant.prefix}_marts.form_home_visit"],
        )
        .fetchall()
    )
    assert (
        comments["details__signs"]
        == "Danger signs? (Question of type MSelect details/signs.) Choices: bleeding = Bleeding."
    )
    assert comments == {column.name: column.description for column in built.tables["form_home_visit"].columns}


def test_every_static_column_is_documented(built: Built) -> None:
    with built.workshop.tenant.rw.connect() as connection:
        rows = connection.execute(
            "select c.relname, a.attname from pg_class c join pg_attribute a on a.attrelid = c.oid "
            "where c.relnamespace = %s::regnamespace "
            "and c.relkind = 'r' and a.attnum > 0 and col_description(c.oid, a.attnum) is null",
            [f"{built.workshop.tenant.prefix}_marts"],
        ).fetchall()
    assert rows == []


def test_the_next_build_follows_the_source_and_keeps_what_is_gone(built: Built) -> None:
    workshop = built.workshop
    workshop.add("raw_web_users", {"role": "Admin", "is_admin": True}, web_user_id="w1", username="chief")
    workshop.add_case("c5", "pregnancy", edd="2025-01-01", new_one="n")
    updated = workshop.build(Structure((), STRUCTURE.case_types, STRUCTURE.forms[:1]))
    retired = {table.name for table in updated.retired}
    assert "form_child_registration" in retired
    assert updated.tables.keys().isdisjoint(retired)
    assert updated.results["cases"].verb == "applied"
    assert updated.results["users"].verb == "unchanged"
    assert workshop.read("select username, is_admin from web_users") == [("chief", True)]
    assert workshop.read("select case_id, new_one from case_pregnancy order by 1") == [("c1", None), ("c5", "n")]
    assert workshop.read("select count(*) from form_child_registration") == [(0,)]
