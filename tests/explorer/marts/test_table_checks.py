"""Findings of dbt's tests in generated tables per kind of test: tables, numbers of values, columns."""

from typing import Any

from explorer.contract.bookkeeping.builds import Finding
from explorer.contract.checks import CheckOutcome
from explorer.marts.table_checks import DESCRIBED, TestedTable, check_tables
from explorer.providers.commcare.structure import CaseType, Form, Option, Question, Structure
from explorer.providers.commcare.tables.plan import generate_tables
from explorer.providers.commcare.tables.profile import FormProfile, Profile
from explorer.tables.value_counts import ValueCounts

STRUCTURE = Structure(
    (),
    (CaseType("child", ("age",), ("a",)),),
    (
        Form(
            "x", {"en": "Visit"}, "Visit", "a", "App", "Module", "child",
            (
                Question(("pain",), "Pain?", "Select", {}, (Option("y", "Yes"), Option("n", "No"))),
                Question(("signs",), "Signs", "MSelect", {}, (Option("fever", "Fever"),)),
                Question(("weight",), "Weight", "Double"),
                Question(("born",), "Born", "Date"),
                Question(("member",), "Member", "Repeat", is_group=True),
                Question(("member", "name"), "Name", "Text", repeat=("member",)),
            ),
        ),
    ),
)  # fmt: skip
TABLES = {table.name: table for table in generate_tables(STRUCTURE, Profile(), taken=())}
UNFIT = {"pain": 3, "signs": 1, "weight": 2, "born": 5}


def evaluated(*tested: TestedTable) -> dict[str, CheckOutcome]:
    found = {outcome.name: outcome for outcome in check_tables(tested)}
    assert found.keys() == DESCRIBED.keys() == {"primary_keys", "relationships", "accepted_values", "values_fit"}
    return found


def fact(outcome: CheckOutcome, name: str) -> Any:
    return outcome.facts.to_metadata()[name]


def visit(*findings: Finding, unfit_values: dict[str, int] | None = None) -> TestedTable:
    return TestedTable(TABLES["form_visit"], findings, unfit_values or {})


def test_without_findings_all_pass_and_say_how_many_tables_they_are_about() -> None:
    found = evaluated(*(TestedTable(table, (), {}) for table in TABLES.values()))
    assert {name: (result.passed, fact(result, "tables_tested")) for name, result in found.items()} == {
        "primary_keys": (True, len(TABLES)),
        "relationships": (True, 1),
        "accepted_values": (True, 1),
        "values_fit": (True, 1),
    }
    assert all(fact(result, "failing") == [] for result in found.values())
    assert all(result.passed for result in evaluated().values())


def test_values_are_told_apart_by_why_they_do_not_fit() -> None:
    found = evaluated(visit(Finding("values_fit_form_visit_True", "warn", 11, "Got 11 results"), unfit_values=UNFIT))
    assert {name for name, result in found.items() if not result.passed} == {"accepted_values", "values_fit"}
    [row] = fact(found["accepted_values"], "failing")
    assert (row["table"], row["status"], row["failing_rows"]) == ("form_visit", "warn", 4)
    assert row["columns"] == {"pain": 3, "signs": 1}
    [row] = fact(found["values_fit"], "failing")
    assert (row["failing_rows"], row["columns"]) == (7, {"born": 5, "weight": 2})
    assert "`form_visit`" in fact(found["values_fit"], "overview")
    assert "`born`: 5" in fact(found["values_fit"], "overview")
    assert not found["values_fit"].is_error


def test_what_is_counted_beyond_unfit_values_points_nowhere() -> None:
    table = TABLES["form_visit__member"]
    found = evaluated(TestedTable(table, [Finding("values_fit_form_visit__member_False", "warn", 2, None)], {}))
    assert {name for name, result in found.items() if not result.passed} == {"relationships"}
    assert fact(found["relationships"], "failing")[0]["failing_rows"] == 2
    # As many as the unfit values: no reference is broken.
    assert evaluated(visit(Finding("values_fit_form_visit_True", "warn", 11, None), unfit_values=UNFIT))[
        "relationships"
    ].passed


def test_broken_keys_are_errors_and_each_failing_table_is_named() -> None:
    tested = [
        TestedTable(table, [Finding(f"primary_key_{table.name}_form_id", "fail", 1, "Got 1 result")], {})
        for table in TABLES.values()
    ]
    found = evaluated(*tested)["primary_keys"]
    assert (found.passed, found.is_error) == (False, True)
    assert [row["table"] for row in fact(found, "failing")] == list(TABLES)
    assert fact(found, "tables_failing") == len(TABLES)


def test_a_test_that_could_not_run_fails_what_it_would_have_tested() -> None:
    broken = Finding("values_fit_form_visit_True", "error", None, "column | does not *exist*")
    found = evaluated(visit(broken, unfit_values=UNFIT))
    assert {name for name, result in found.items() if not result.passed} == {"accepted_values", "values_fit"}
    [row] = fact(found["values_fit"], "failing")
    assert (row["status"], row["failing_rows"], row["message"]) == ("error", None, "column | does not *exist*")
    assert "column   does not  exist" in fact(found["values_fit"], "overview")


def test_options_that_are_not_those_of_the_data_are_one_finding() -> None:
    profile = Profile()
    answers = {"m": 2000, "f": 1780, "y": 40}
    profile.forms["x"] = FormProfile("Visit", {"pain": ValueCounts({"text": 1}, answers=answers)})
    [table, *_] = [t for t in generate_tables(STRUCTURE, profile, taken=()) if t.name == "form_visit"]
    found = evaluated(TestedTable(table, [Finding("values_fit_form_visit_True", "warn", 1, None)], {"signs": 1}))
    assert {name for name, result in found.items() if not result.passed} == {"accepted_values"}
    signs, options = fact(found["accepted_values"], "failing")
    assert (signs["failing_rows"], signs["columns"]) == (1, {"signs": 1})
    assert (options["table"], options["failing_rows"]) == ("form_visit", 1)
    told = "The options of pain do not fit the data: 3780 of 3820 answers seen are none of them."
    assert options["message"] == told
    # It is reported also without any other finding.
    [alone] = fact(evaluated(TestedTable(table, (), {}))["accepted_values"], "failing")
    assert alone["message"] == told
