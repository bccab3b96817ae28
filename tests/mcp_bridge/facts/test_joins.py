"""Joins between tables: along existing keys, from each table to its origins and to related tables."""

from collections.abc import Mapping, Sequence

from explorer.contract.joins import Join, Joinable
from explorer.providers import provider_named
from mcp_bridge.facts.joins import joins_of

CUT = ("form_id", "user_id", "repeat_id", "parent_repeat_id")
TABLES = {
    "cases": Joinable("mart", None, ("case_id", "owner_id")),
    "forms": Joinable("mart", None, ("form_id", "user_id")),
    "users": Joinable("mart", None, ("user_id",)),
    "case_child": Joinable("case_type", "child", ("case_id", "owner_id", "parent_case_id", "parent_case_type")),
    "case_mother": Joinable("case_type", "mother", ("case_id", "owner_id")),
    "form_visit": Joinable("form", "http://x/a b", ("form_id", "user_id", "case_id")),
    "form_visit_1": Joinable("repeat", "http://x/a b women", CUT),
    "form_visit_2": Joinable("repeat", "http://x/a b women/births/list", CUT),
    "form_other": Joinable("form", "http://x/a", ("form_id",)),
}
RELATIONSHIPS = [
    ("cases.owner_id", "users.user_id", "The owner."),
    ("forms.user_id", "users.user_id", "The worker."),
    ("forms.no_such", "users.user_id", "None."),
]


PLANNER = provider_named("commcare").tables
MARTS = {kind: family.reads for family in PLANNER.families for kind in family.kinds}


def joins(
    table: str, tables: Mapping[str, Joinable], declared: Sequence[Join], **common: list[str]
) -> list[dict[str, str]]:
    return joins_of(table, tables, declared, PLANNER.joins_of(table, tables, common), MARTS)


def on(table: str, **indexed: list[str]) -> list[str]:
    return [join["on"] for join in joins(table, TABLES, RELATIONSHIPS, **indexed)]


def test_a_case_type_joins_its_parents_and_by_what_its_mart_joins_by() -> None:
    assert on("case_child", parent_case_type=["mother", "stranger"]) == [
        "case_child.case_id = cases.case_id",
        "case_child.parent_case_id = case_mother.case_id",
        "case_child.parent_case_id = cases.case_id",
        "case_child.owner_id = users.user_id",
    ]
    assert on("case_mother") == ["case_mother.case_id = cases.case_id", "case_mother.owner_id = users.user_id"]


def test_repeat_groups_join_their_form_and_each_other_whatever_they_are_called() -> None:
    assert on("form_visit") == [
        "form_visit.form_id = forms.form_id",
        "form_visit.case_id = cases.case_id",
        "form_visit.form_id = form_visit_1.form_id",
        "form_visit.form_id = form_visit_2.form_id",
        "form_visit.user_id = users.user_id",
    ]
    assert on("form_visit_1") == [
        "form_visit_1.form_id = forms.form_id",
        "form_visit_1.form_id = form_visit.form_id",
        "form_visit_1.repeat_id = form_visit_2.parent_repeat_id",
        "form_visit_1.user_id = users.user_id",
    ]
    assert "form_visit_2.parent_repeat_id = form_visit_1.repeat_id" in on("form_visit_2")
    assert on("form_other") == ["form_other.form_id = forms.form_id"]


def test_forms_and_entries_lead_to_the_cases_of_their_blocks() -> None:
    tables = {
        "cases": TABLES["cases"],
        "form_cases": Joinable("mart", None, ("form_id", "case_id", "repeat_id")),
        "form_birth": Joinable(
            "form", "http://x/b", ("form_id", "case_id", "subcase_0_case_id"), {"subcase_0_case_id": "subcase_0/case"}
        ),
        "form_birth__child": Joinable("repeat", "http://x/b child", ("form_id", "repeat_id", "case_id")),
    }
    found = {join["on"]: join["description"] for name in tables for join in joins(name, tables, ())}
    assert found["form_birth.case_id = cases.case_id"] == "The case that the submission as a whole is about."
    assert found["form_birth.subcase_0_case_id = cases.case_id"] == "The case of the block at subcase_0/case."
    assert found["form_birth__child.case_id = cases.case_id"] == "The case that the entry is about."
    assert "form_birth.form_id = form_cases.form_id" in found
    assert "form_birth__child.repeat_id = form_cases.repeat_id" in found
