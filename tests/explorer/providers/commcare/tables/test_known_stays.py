"""A form over two versions of its application: the first version's columns exist after the second, with the values of both."""

from collections.abc import Callable
from typing import Any

import pytest

from explorer.contract.bookkeeping.columns import read, write
from explorer.providers.commcare.structure import App, CaseType, Form, Option, Question, Structure
from explorer.tables.column_facts import facts_of
from explorer.tables.engine import Updated
from tests.explorer.workshop import RAW_TABLES, Workshop

COFFEE, BIRTH = "http://openrosa.org/formdesigner/coffee", "http://openrosa.org/formdesigner/birth"
ODD = 'a\tb\\"{{ x }}#.é/' + "\u202e" + "y" * 90


def options(*values: str) -> tuple[Option, ...]:
    return tuple(Option(value, value.capitalize()) for value in values)


def coffee(title: str, *questions: Question, app: str = "Cafe", case_type: str = "guest") -> Form:
    return Form(COFFEE, {"en": title}, title, f"id of {app}", app, "M", case_type, questions, app_ids=(f"id of {app}",))


def structure(form: Form, version: int, *properties: str) -> Structure:
    app = App(form.app_id, form.app_name, version, ())
    return Structure((app,), (CaseType("guest", properties, (app.id,)),), (form,))


FIRST = structure(
    coffee(
        "Coffee",
        Question(("drinks",), "Drinks?", "MSelect", options=options("turkish", "espresso", "keurig")),
        Question(("cup",), "Cup?", "Select", options=options("small", "large")),
        Question(("photo",), "Photo", "Image"),
        Question(("place",), "Where?", "Geopoint"),
        Question(("milk",), "Milk?", "MSelect", options=options(*(f"m{n}" for n in range(12)))),
        Question(("odd",), "Odd", "Group", is_group=True),
        Question(("moved",), "Moved", "Text"),
        Question(("langs",), "Languages?", "MSelect", options=options("en", "fr")),
        Question(("spot",), "Spot", "Geopoint"),
        Question(("age",), "Age", "Int"),
    ),
    1,
    "name",
    "owner_id",
    "level",
    "age",
)
SECOND = structure(
    coffee(
        "Coffee and cake",
        Question(("drinks",), "Drinks?", "MSelect", options=options("turkish", "keurig")),
        Question(("cup",), "Cup?", "MSelect", options=options("small", "huge")),
        Question(("photo",), "Photo", "Text"),
        Question(("place",), "Where?", "Text"),
        Question(("milk",), "Milk?", "MSelect", options=options(*(f"m{n}" for n in range(1, 20)))),
        Question(("moved",), "Moved", "Repeat", is_group=True),
        Question(("moved", "moved"), "Moved", "Text", repeat=("moved",)),
        Question(("langs",), "Languages?", "Select", options=options("en", "de")),
        Question(("spot",), "Spot", "DataBindOnly"),
        app="Cafe 2",
        case_type="visit",
    ),
    7,
)


@pytest.fixture(scope="module")
def workshop(make_workshop: Callable[[], Workshop]) -> Workshop:
    made = make_workshop()
    made.make_raw(*RAW_TABLES)
    for number, drinks in enumerate(("turkish espresso", "keurig", "espresso")):
        files = {f"{number}.jpg": {"url": f"https://x/{number}"}}
        answers = {
            "drinks": drinks,
            "cup": "large",
            "photo": f"{number}.jpg",
            "place": "12.5 -3.25 341.2 8.0",
            "milk": "m0 m3",
            "odd": {"x": "1"} if number else ["1", "2"],
            "said": [{"x": "1"}, {"x": "2"}] if number else {"#text": "hello"},
            "moved": f"word {number}",
            "langs": ["en", "fr"],
            "spot": "12.5 -3.25 341.2 8.0",
        }
        add(made, f"a{number}", COFFEE, answers, files)
    made.add_case(
        "g1", "guest", name="name of g1", owner_id="u1", closed="False", level="1", age="12.0", **{ODD: "odd"}
    )
    made.add_case("g2", "guest", name="name of g2", owner_id="u1", date_opened="2024-02-29T11:00:00.123456+01:00")
    child = {
        "weight": "3.1",
        "case": {"@case_id": "k1", "create": {"case_type": "child"}, "index": {"mother": {"#text": "m"}}},
    }
    other = {"weight": "2.9", "case": {"case_id": "k2", "create": {"case_type_id": "child"}}}
    add(made, "b1", BIRTH, {"case": {"@case_id": "m", "update": {"x": "1"}}, "children": [child, other]})
    add(
        made, "b2", BIRTH, {"children": child | {"case": {"@case_id": "k3"}}, "subcase_0": {"case": {"@case_id": "s1"}}}
    )
    visits = {"item": [{"@id": "1", "w": "x", "case": {"@case_id": "v1"}}, {"@id": "2", "w": "y"}], "@ids": "1 2"}
    add(
        made,
        "b3",
        BIRTH,
        {"g": {"save": {"case": [{"@case_id": "t1"}, {"@case_id": "t1", "close": ""}]}}, "visits": visits},
    )
    return made


def add(
    workshop: Workshop, form_id: str, xmlns: str, answers: dict[str, Any], files: dict[str, Any] | None = None
) -> None:
    record = {
        "id": form_id,
        "form": {"#type": "data", "@xmlns": xmlns, "@name": "Birth", **answers},
        "metadata": {},
        "attachments": files or {},
    }
    workshop.add("raw_forms", record, form_id=form_id, received_on="2024-01-01T08:30:00Z", archived=False)


@pytest.fixture(scope="module")
def first(workshop: Workshop) -> Updated:
    return workshop.build(FIRST)


@pytest.fixture(scope="module")
def second(workshop: Workshop, first: Updated) -> Updated:
    """The application was deleted, another one has the form under another title; then came a submission and a case."""
    answers = {"drinks": "turkish", "cup": "huge small", "photo": "by the window", "place": "at home", "milk": "m19"}
    answers |= {"langs": "de", "spot": "at the bar"}
    add(workshop, "c1", COFFEE, {**answers, "moved": [{"moved": "in a repeat"}, {"moved": "twice"}]})
    workshop.add_case("g3", "guest", name="another name", owner_id="somebody else", level="2", age="old")
    return workshop.build(SECOND)


def comment(workshop: Workshop, table: str, column: str = "") -> str:
    place = f"{workshop.tenant.names.schema('marts')}.{table}"
    with workshop.tenant.rw.connect() as connection:
        [(text,)] = connection.execute(
            "select coalesce(col_description(c.oid, (select attnum from pg_attribute a where a.attrelid = c.oid"
            " and a.attname = nullif(%s, ''))), obj_description(c.oid, 'pg_class')) from pg_class c where c.oid = %s::regclass",
            [column, place],
        ).fetchall()
    return str(text)


def test_choices_once_given_keep_their_columns_and_fit(workshop: Workshop, second: Updated) -> None:
    query = "select form_id, drinks__turkish, drinks__espresso, drinks__keurig, cup, unfit_columns from form_coffee order by 1"
    assert workshop.read(query) == [
        ("a0", True, True, False, "large", None),
        ("a1", False, False, True, "large", None),
        ("a2", False, True, False, "large", None),
        ("c1", True, False, False, "huge small", None),
    ]
    about = comment(workshop, "form_coffee", "drinks__espresso")
    assert "Removed from the application since version 7 of application Cafe 2 (seen on " in about
    assert "(seen on" not in comment(workshop, "form_coffee", "drinks__turkish")
    assert "): espresso." in comment(workshop, "form_coffee", "drinks")
    assert workshop.read("select cup__huge, cup__small from form_coffee where form_id = 'c1'") == [(True, True)]


def test_choices_that_came_as_a_list_stay_choices(workshop: Workshop, second: Updated) -> None:
    query = "select langs, langs__en, langs__fr, unfit_columns from form_coffee where form_id in ('a0', 'c1') order by form_id"
    assert workshop.read(query) == [("en fr", True, True, None), ("de", False, False, None)]


def test_a_hidden_value_in_the_place_of_a_place_is_kept(workshop: Workshop, second: Updated) -> None:
    query = "select spot, spot_latitude from form_coffee where form_id in ('a0', 'c1') order by form_id"
    assert workshop.read(query) == [("12.5 -3.25 341.2 8.0", 12.5), ("at the bar", None)]


def test_a_property_stays_declared_when_its_form_is_one_of_another_case_type(
    workshop: Workshop, second: Updated
) -> None:
    query = "select case_id, age, unfit_columns from case_guest order by 1"
    assert workshop.read(query) == [("g1", 12, None), ("g2", None, None), ("g3", None, ["age"])]


def test_a_maximum_is_one_for_new_columns(workshop: Workshop, second: Updated) -> None:
    table = second.tables["form_coffee"]
    assert [column.name for column in table.columns if column.name.startswith("milk__")] == [
        f"milk__m{n}" for n in (*range(1, 12), 0)
    ]
    assert workshop.read(
        "select milk__m0, milk__m3, milk from form_coffee where form_id in ('a0', 'c1') order by 1"
    ) == [
        (False, False, ["m19"]),
        (True, True, ["m0", "m3"]),
    ]


def test_files_places_and_answers_that_moved_are_there(workshop: Workshop, second: Updated) -> None:
    columns = "photo, photo_url, place, place_latitude, place_accuracy, moved"
    query = f"select {columns} from form_coffee where form_id in ('a0', 'c1') order by form_id"
    assert workshop.read(query) == [
        ("0.jpg", "https://x/0", "12.5 -3.25 341.2 8.0", 12.5, 8.0, "word 0"),
        ("by the window", None, "at home", None, None, None),
    ]
    assert workshop.read("select form_id, repeat_index, moved from form_coffee__moved order by 2") == [
        ("c1", 1, "in a repeat"),
        ("c1", 2, "twice"),
    ]


def test_a_list_in_the_place_of_a_group_is_kept(workshop: Workshop, second: Updated) -> None:
    query = "select form_id, odd, odd__x from form_coffee where form_id <> 'c1' order by 1"
    assert workshop.read(query) == [("a0", '["1", "2"]', None), ("a1", None, "1"), ("a2", None, "1")]
    assert not [table for table in second.tables.values() if table.source == f"{COFFEE} odd"]


def test_a_text_in_the_place_of_a_repetition_is_none(workshop: Workshop, second: Updated) -> None:
    assert workshop.read("select said from form_coffee where said is not null") == [("hello",)]
    rows = workshop.read("select repeat_id, x from form_coffee__said order by 1")
    assert rows == [("a1-1", "1"), ("a1-2", "2"), ("a2-1", "1"), ("a2-2", "2")]


def test_a_table_keeps_its_name_under_another_title(workshop: Workshop, first: Updated, second: Updated) -> None:
    assert first.tables.keys() <= second.tables.keys()
    assert list(second.retired) == []
    assert comment(workshop, "form_coffee").startswith(
        "One row per submission of the form Coffee and cake (application Cafe 2,"
    )


def test_properties_that_differ_from_the_head_have_columns(workshop: Workshop, first: Updated, second: Updated) -> None:
    before = next(table for table in first.tables.values() if table.source == "guest")
    assert not {column.name for column in before.columns} & {
        "name_property",
        "owner_id_property",
        "date_opened_property",
    }
    query = "select case_id, owner_id, owner_id_property, case_name, name_property from case_guest order by 1"
    assert workshop.read(query) == [
        ("g1", "u1", "u1", "name of g1", "name of g1"),
        ("g2", "u1", "u1", "name of g2", "name of g2"),
        ("g3", "u1", "somebody else", "name of g3", "another name"),
    ]
    after = next(table for table in second.tables.values() if table.source == "guest")
    assert not {column.name for column in after.columns} & {"closed_property", "date_opened_property"}
    assert workshop.read("select level from case_guest order by case_id") == [("1",), (None,), ("2",)]


def test_the_origin_is_told_as_it_came(workshop: Workshop, second: Updated) -> None:
    table = next(table for table in second.tables.values() if table.source == "guest")
    [name] = [column.name for column in table.columns if column.path == (ODD,)]
    assert workshop.read(f"select {name} from case_guest where case_id = 'g1'") == [("odd",)]
    assert 'Case property a\\u0009b\\\\"{{ x }}#.é/\\u202ey' in comment(workshop, "case_guest", name)
    with workshop.tenant.rw.connect(autocommit=True) as connection:
        write(connection, workshop.schemas, facts_of(second.tables.values()))
        facts = read(connection, workshop.schemas, ["case_guest", "form_birth"])
    assert facts["case_guest"][name]["path"] == [ODD]
    assert facts["form_birth"]["subcase_0_case_id"] == {"case_block": ["subcase_0", "case"]}


def test_rows_lead_to_the_cases_of_their_blocks(workshop: Workshop, second: Updated) -> None:
    query = "select form_id, case_id, subcase_0_case_id, g__save_case_id from form_birth order by 1"
    assert workshop.read(query) == [("b1", "m", None, None), ("b2", None, "s1", None), ("b3", None, None, "t1")]
    children = workshop.read("select repeat_id, case_id, weight from form_birth__children order by 1")
    assert [(repeat, case, float(weight)) for repeat, case, weight in children] == [
        ("b1-1", "k1", 3.1),
        ("b1-2", "k2", 2.9),
        ("b2-1", "k3", 3.1),
    ]
    assert workshop.read("select repeat_id, case_id, w from form_birth__visits order by 1") == [
        ("b3-1", "v1", "x"),
        ("b3-2", None, "y"),
    ]
    rows = workshop.read(
        "select form_id, case_id, action, block_index, path, repeat_id from form_cases order by 1, 4, 3"
    )
    assert rows == [
        ("b1", "m", "update", 1, "case", None),
        ("b1", "k1", "create", 2, "children/case", "b1-1"),
        ("b1", "k1", "index", 2, "children/case", "b1-1"),
        ("b1", "k2", "create", 3, "children/case", "b1-2"),
        ("b2", "k3", "update", 1, "children/case", "b2-1"),
        ("b2", "s1", "update", 2, "subcase_0/case", None),
        ("b3", "t1", "update", 1, "g/save/case", None),
        ("b3", "t1", "close", 2, "g/save/case", None),
        ("b3", "v1", "update", 3, "visits/item/case", "b3-1"),
    ]
