"""The parts of applications from which generated tables and columns come."""

from explorer.contract.bookkeeping.lineage import ColumnLineage, Origin
from explorer.providers.commcare.origins import origin_of, question_of
from explorer.providers.commcare.structure import App, CaseType, Form, Option, Question, Structure

BORN = Question(("g", "dob"), "When was the child born?", "Date", {"fr": "Date de naissance"})
SIGNS = Question(("signs",), "Danger signs?", "MSelect", {}, (Option("fever", "Fever"),))
FORMS = (
    Form(
        "http://x", {"en": "Enrol"}, "Enrol", "a1", "Health", "Children", "child", (BORN, SIGNS), app_ids=("a1", "a2")
    ),
)
STRUCTURE = Structure(
    (App("a1", "Health", 3, ()), App("a2", "Health copy", 1, ())), (CaseType("child", ("dob", "calc"), ("a1",)),), FORMS
)


def test_a_property_names_the_questions_known_under_its_name_and_no_more() -> None:
    known = ColumnLineage((Origin("cases", "properties", ("dob",)),))
    told = question_of(known, "child", {"path": ["dob"], "label": "Born"}, STRUCTURE.to_dict())["property"]
    [asked] = told["asked_by"]
    assert (asked["form"], asked["xmlns"], asked["question"], asked["type"]) == ("Enrol", "http://x", "g/dob", "Date")
    assert asked["apps"] == [{"id": "a1", "name": "Health"}, {"id": "a2", "name": "Health copy"}]
    assert "do not say which question saves" in told["note"]
    told = question_of(known, "child", {"path": ["calc"]}, STRUCTURE.to_dict())["property"]
    assert "asked_by" not in told
    assert "No question of this name" in told["note"]
    index = question_of(
        ColumnLineage((Origin("cases", "indices", ("parent", "case_id")),)), "child",
        {"path": ["parent", "case_id"], "label": "parent"}, STRUCTURE.to_dict(),
    )  # fmt: skip
    assert index == {"index": {"identifier": "parent", "part": "case_id"}}
    # Columns of tables that every tenant has are fields of the record: nobody was asked for them.
    assert (
        question_of(
            ColumnLineage((Origin("raw_cases", "record", ("case_name",)),)), "cases", {"path": ["case_name"]}, {}
        )
        == {}
    )


def test_tables_name_their_applications() -> None:
    structure = STRUCTURE.to_dict()
    assert origin_of("case_type", "child", structure) == {
        "case_type": "child", "apps": [{"id": "a1", "name": "Health"}],
    }  # fmt: skip
    form = {"form": "Enrol", "xmlns": "http://x", "module": "Children"}
    apps = [{"id": "a1", "name": "Health"}, {"id": "a2", "name": "Health copy"}]
    assert origin_of("form", "http://x", structure) == {**form, "apps": apps}
    assert origin_of("repeat", "http://x g/visit", structure) == {**form, "apps": apps, "repeat": "g/visit"}
    assert origin_of("form", "http://gone", structure) == origin_of("mart", None, structure) == "unknown"
