"""Tables that every project space has, and shapes of answers from real project spaces, from a few records each."""

from collections.abc import Callable
from datetime import UTC, date, datetime
from typing import Any

import pytest

from explorer.providers.commcare.structure import Form, Question, Structure
from explorer.tables.engine import Updated
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


BLOCKS: dict[str, tuple[dict[str, Any], list[tuple[Any, ...]]]] = {
    "alone": (
        {"case": {"@case_id": "c1", "create": {"case_type": "t"}, "update": {"a": "1"}}},
        [("c1", "create", 1, "case"), ("c1", "update", 1, "case")],
    ),
    "nested": (
        {
            "g": {
                "r": [
                    {"case": {"@case_id": "c1", "close": ""}},
                    {"case": [{"@case_id": "c2", "update": {}}, {"@case_id": "c3"}]},
                ]
            }
        },
        [("c1", "close", 1, "g/r/case"), ("c2", "update", 2, "g/r/case"), ("c3", "update", 3, "g/r/case")],
    ),
    "version 1": (
        {"case": {"case_id": "c4", "date_modified": "2011-01-01", "create": {"case_type_id": "t"}}},
        [("c4", "create", 1, "case")],
    ),
    "empty create": (
        {
            "case": {"@case_id": "c1", "create": None, "update": {"a": "1"}},
            "subcase_0": {"case": {"@case_id": "c5", "create": "", "update": None}},
        },
        [("c1", "update", 1, "case"), ("c5", "update", 2, "subcase_0/case")],
    ),
    "link": (
        {
            "case": {"@case_id": "c1", "update": None, "index": {"parent": {"@case_type": "x", "#text": "c9"}}},
            "case_id": "no block",
        },
        [("c1", "index", 1, "case")],
    ),
    "unlink": (
        {"case": {"@case_id": "c1", "index": {"parent": {"@case_type": "x"}}, "close": None}},
        [("c1", "close", 1, "case"), ("c1", "index", 1, "case")],
    ),
    "save to case": (
        {"refer": {"case": {"@case_id": "c6", "create": {"case_type": "r"}, "index": {"host": {"#text": "c1"}}}}},
        [("c6", "create", 1, "refer/case"), ("c6", "index", 1, "refer/case")],
    ),
    "twice": (
        {"case": {"@case_id": "c1", "update": {"a": "1"}}, "g": {"case": {"@case_id": "c1", "update": {"b": "2"}}}},
        [("c1", "update", 1, "case"), ("c1", "update", 2, "g/case")],
    ),
    "listed twice": (
        {"case": [{"@case_id": "c1", "update": {"a": "1"}}, "text", {"@case_id": "c1", "update": {"b": "2"}}]},
        [("c1", "update", 1, "case"), ("c1", "update", 2, "case")],
    ),
    "no id": (
        {"case": {"@case_id": "", "update": {"a": "1"}}, "case_id": "a question", "g": {"case": "a question"}},
        [],
    ),
    "ledger": (
        {
            "balance": {"@xmlns": "http://commcarehq.org/ledger/v1", "@entity-id": "c1", "entry": {"@id": "p"}},
            "transfer": {"@case_id": "c1", "entry": []},
        },
        [],
    ),
    "group of questions": ({"visit": {"case_id": "typed in", "date_modified": "2024-01-01"}}, []),
}
"""What a submission holds, and the case blocks in it: case, action, number and path."""


@pytest.fixture(scope="module")
def workshop(make_workshop: Callable[[], Workshop]) -> Workshop:
    workshop = make_workshop()
    workshop.make_raw(*RAW_TABLES)
    _people(workshop)
    _trees(workshop)
    _answers(workshop)
    _blocks(workshop)
    return workshop


@pytest.fixture(scope="module")
def first(workshop: Workshop) -> Updated:
    """Everything built, as the first applications describe it."""
    return workshop.build(Structure((), (), (STOCK_FORM, BEFORE)))


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
    workshop.add("raw_groups", {}, group_id="in", name="twin")


def _trees(workshop: Workshop) -> None:
    levels = (("country", "nation", ""), ("zone", None, "country"), ("village", "village", "zone"))
    for location, level, above in (*levels, ("orphan", None, "archived"), ("a", None, "b"), ("b", None, "a")):
        record = {"name": location.title(), "location_type_code": level}
        keys = {"location_id": location, "site_code": "tree", "parent_location_id": above}
        workshop.add("raw_locations", record, **keys)
    workshop.add("raw_lookup_tables", {}, lookup_table_id="t1", tag="villages")
    one = {"field_list": [{"field_value": "Rampur", "properties": {}}]}
    two = {"field_list": [{"field_value": lang, "properties": {"lang": lang}} for lang in ("en", "fr")]}
    for item, table, fields in (
        ("i1", "t1", {"name": one, "flat": "x"}),
        ("i2", "gone", {"name": two}),
        ("i3", "t1", {}),
    ):
        workshop.add("raw_lookup_table_items", {"fields": fields}, item_id=item, data_type_id=table)


def _blocks(workshop: Workshop) -> None:
    for form_id, (answers, _) in BLOCKS.items():
        workshop.add_form(form_id, "http://x/blocks", answers)


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


@pytest.mark.parametrize("name", BLOCKS)
def test_case_blocks_are_found_at_any_depth(workshop: Workshop, first: Updated, name: str) -> None:
    columns = "case_id, action, block_index, path"
    found = workshop.read(f"select {columns} from form_cases where form_id = '{name}' order by block_index, action")
    assert found == BLOCKS[name][1]


def test_a_circle_of_parents_neither_hangs_nor_hides_rows(workshop: Workshop, first: Updated) -> None:
    rows = workshop.read("select location_id, depth, path, levels from locations where site_code = 'tree' order by 1")
    assert rows == [
        ("a", None, None, None),
        ("b", None, None, None),
        ("country", 0, "Country", {"nation": "Country"}),
        ("orphan", 0, "Orphan", {}),
        ("village", 2, "Country / Zone / Village", {"nation": "Country", "village": "Village"}),
        ("zone", 1, "Country / Zone", {"nation": "Country"}),
    ]


def test_a_field_of_a_lookup_table_is_its_value_or_a_list_of_them(workshop: Workshop, first: Updated) -> None:
    assert workshop.read("select item_id, tag, fields from lookup_table_items order by 1") == [
        ("i1", "villages", {"flat": "x", "name": "Rampur"}),
        ("i2", None, {"name": ["en", "fr"]}),
        ("i3", "villages", {}),
    ]
    assert [(each.check, each.rows) for each in first.findings("lookup_table_items")] == [("relationships", 1)]


def test_an_identifier_has_one_owner(workshop: Workshop, first: Updated) -> None:
    """A web user may have the identifier of a mobile worker, and a group that of a location."""
    columns = "owner_id, owner_kind, owner_name, is_active, location_id"
    assert workshop.read(
        f"select {columns} from owners where owner_id in ('u1', 'u2', 'w1', 'g1', 'in') order by 1"
    ) == [
        ("g1", "group", "g1", True, None),
        ("in", "group", "twin", True, None),
        ("u1", "mobile_worker", "u1", True, "bihar"),
        ("u2", "mobile_worker", "u2", False, None),
        ("w1", "web_user", "chief", True, "in"),
    ]
    assert first.findings("owners") == ()


def test_values_that_do_not_fit_are_named(workshop: Workshop, first: Updated) -> None:
    tables = {"locations": "location_id", "groups": "group_id"}
    found = {
        table: workshop.read(f"select {key}, unfit_columns from {table} where unfit_columns is not null")
        for table, key in tables.items()
    }
    assert found == {"locations": [("bihar", ["latitude"])], "groups": [("g2", ["case_sharing"])]}
    assert [(each.check, each.rows) for each in first.findings("groups")] == [("values_fit", 1)]


def test_users_stand_in_the_hierarchy(workshop: Workshop, first: Updated) -> None:
    columns = "user_id, user_kind, location_id, is_primary, location_path, ancestor_ids, ancestor_type_codes, levels"
    assert workshop.read(f"select {columns} from user_locations order by 1, 3") == [
        ("u1", "mobile_worker", "bihar", True, "In / Bihar", ["in"], ["state"], {"state": "In", "district": "Bihar"}),
        ("u1", "mobile_worker", "gone", False, None, None, None, None),
        ("w1", "web_user", "in", True, "In", [], [], {"state": "In"}),
    ]
    assert workshop.read("select ancestor_names from locations where location_id = 'bihar'") == [(["In"],)]


def test_entries_say_what_they_are_about(workshop: Workshop, first: Updated) -> None:
    """Repeats over a list of cases or products have the id as an attribute, ledgers all that they say."""
    columns = "repeat_id, id, counted, balance__entity_id, balance__entry__id, balance__entry__quantity"
    assert workshop.read(f"select {columns} from form_stock__products order by 1") == [
        ("s1-1", "p1", 40, "c9", "p1", "40"),
        ("s1-2", "p2", 5, None, None, None),
        ("s2-1", "p2", 5, None, None, None),
    ]
    [about] = [c.description for t in first.tables.values() for c in t.columns if c.path == ("products", "item", "@id")]
    assert about.startswith("Identifier of what the entry is about, such as a case or a product.")


def test_a_form_without_a_name_is_named_by_the_end_of_its_xmlns(workshop: Workshop, first: Updated) -> None:
    assert workshop.read("select form_id, pill from form_dots_form") == [("n1", "yes")]


def test_questions_change_into_repeats_and_back_and_no_answer_is_lost(workshop: Workshop, first: Updated) -> None:
    assert workshop.read("select form_id, age, children, signs from form_drift order by 1") == [
        ("d1", 7, "two", ["fever", "cough"]),
        ("d2", None, "3", None),
    ]
    new = {"age": "about 8", "children": [{"name": "Asha"}, {"name": "Ravi"}], "signs": "fever", "house": "brick"}
    workshop.add_form("d3", DRIFT, {**new, "added": "1"})
    workshop.add_form("d4", DRIFT, {"children": {"name": "Only"}, "signs": "", "house": ""})
    workshop.add_form("d5", DRIFT, {"children": ["", ""]})
    updated = workshop.build(Structure((), (), (AFTER, STOCK_FORM)))
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
    assert {(m.table, m.column, m.before, m.after) for m in updated.type_changes} == {
        ("form_drift", "age", "integer", "text"),
        ("form_drift", "signs", "choices", "text"),
    }
    assert list(updated.retired) == []
