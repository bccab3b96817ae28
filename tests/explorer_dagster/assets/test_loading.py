"""A load's counts are checked against the table, the extract and the API; a difference names those that disagree."""

from typing import Any

import dagster as dg
import pytest

from demo_commcare import MATERNAL
from explorer.load import ResourceReport, name_failures
from explorer.load.checks import check_report
from explorer_dagster.checks import check_result
from tests.explorer_dagster.conftest import Stage

KEY = dg.AssetKey(["commcare", "raw", "cases"])


def check_of(result: Any, resource: str) -> dg.AssetCheckEvaluation:
    """The only check of the raw table."""
    [found] = [each for each in result.get_asset_check_evaluations() if each.asset_key.path[-1] == resource]
    assert found.check_name == "load_is_sound"
    evaluation: dg.AssetCheckEvaluation = found
    return evaluation


def facts(check: dg.AssetCheckEvaluation | dg.AssetCheckResult) -> dict[str, Any]:
    return {label: getattr(value, "value", value) for label, value in (check.metadata or {}).items()}


def test_a_first_and_an_incremental_load_pass(stage: Stage) -> None:
    first = stage.run("cases")
    case = stage.demo.truth(MATERNAL).cases[0]["case_id"]
    stage.demo.control.update_case(MATERNAL, case, {"note": "changed"})
    second = stage.run("cases")
    for result in (first, second):
        check = check_of(result, "cases")
        assert check.passed
        assert "failing" not in facts(check)
        assert facts(check)["compared"] is True
        assert facts(check)["rows"] == len(stage.demo.truth(MATERNAL).cases)


def test_a_table_that_lost_rows_behind_the_loaders_back_is_an_error(stage: Stage) -> None:
    assert stage.run("cases").success
    prefix = stage.catalog.schemas.get(stage.tenant).prefix
    cases = sorted(stage.demo.truth(MATERNAL).cases, key=lambda case: case["indexed_on"])
    with stage.pg_server.connections.admin.connect(autocommit=True) as connection:
        connection.execute(f"DELETE FROM {prefix}_raw.raw_cases WHERE case_id = %s", [cases[0]["case_id"]])
    # An incremental load does not read the lost case again: only the count can tell.
    stage.demo.control.update_case(MATERNAL, cases[-1]["case_id"], {"note": "again"})
    check = check_of(stage.run("cases"), "cases")
    assert not check.passed
    assert facts(check)["failing"] == "rows_match_api"
    assert check.severity == dg.AssetCheckSeverity.ERROR
    assert facts(check)["differs"] == "table vs walked"
    assert facts(check)["rows"] == facts(check)["walked"] - 1 == len(cases) - 1


def test_what_did_not_come_and_is_not_proven_to_be_gone_fails_a_check_that_says_so(stage: Stage) -> None:
    assert stage.run("groups").success
    control = stage.demo.control
    victim = stage.demo.truth(MATERNAL).groups[0]["id"]
    control.delete_record(MATERNAL, "groups", victim)
    control.fail("/group/v1/[^?]", status=403, body="", times=100)
    result = stage.run("groups")
    assert result.success
    check = check_of(result, "groups")
    assert facts(check)["failing"] == "missing_rows_are_gone"
    assert (check.passed, check.severity) == (False, dg.AssetCheckSeverity.WARN)
    assert "1 records of groups did not come" in (check.description or "")
    assert "denies access" in (check.description or "")
    assert facts(check)["rows_unproven"] == 1
    control.clear_faults()
    check = check_of(stage.run("groups"), "groups")
    assert check.passed
    told = facts(check)
    assert (told["rows_marked"], told["rows_unproven"], told["rows_overlooked"]) == (1, 0, 0)


@pytest.mark.parametrize("all_of_them", [False, True])
def test_all_resources_that_fail_are_named_with_their_causes(stage: Stage, all_of_them: bool) -> None:
    """Whether others landed or not."""
    control = stage.demo.control
    control.fail("/group/v1/", status=200, body='{"meta": {}}', times=100)
    control.fail("/location/v2/", status=400, body='{"error": "no such parameter"}', times=100)
    control.fail("/lookup_table/v1/", status=403, body="", times=100)
    control.fail("/web-user/v1/", status=200, body="<html><title>Log in</title></html>", times=100)
    names = ["groups", "locations", "web_users", "lookup_tables"] + ([] if all_of_them else ["location_types"])
    result = stage.run(*names)
    assert not result.success
    [failed] = [event for event in result.all_events if event.is_step_failure]
    error = failed.step_failure_data.user_failure_data
    said = str(error.description)
    for words in (
        "groups: page 1",
        "locations: the server refused",
        "no such parameter",
        "web_users: page 1 is a login page",
    ):
        assert words in said
    assert said.startswith(f"{4 if all_of_them else 3} resources failed.")
    assert ("lookup_tables: the server denies access" in said) == all_of_them


def test_many_failures_are_named_within_bounds() -> None:
    errors = {f"resource_{n}": {"message": f"resource_{n}: {'x' * 1000}{n}"} for n in range(40)}
    same = {f"same_{n}": {"message": "The server is not there."} for n in range(3)}
    said = name_failures(same | errors)
    assert len(said) < 2400
    assert said.startswith("43 resources failed. same_0, same_1, same_2: The server is not there; resource_0: xxx")
    assert "and 29 more for other reasons: resource_11, resource_12" in said
    each = {f"resource_{n}": {"message": f"resource_{n}: reason {n}."} for n in range(11)}
    assert "; resource_10: reason 10." in name_failures(each)
    assert name_failures({"cases": {"message": "cases: no."}}) == "cases: no."


def test_rejected_records_are_a_warning_with_reasons(stage: Stage) -> None:
    stage.demo.control.fail(
        "/group/v1/",
        status=200,
        body='{"meta": {"total_count": 2, "next": null}, "objects": [{"id": "good", "name": "x"}, {"name": "without id"}]}',
    )
    check = check_of(stage.run("groups"), "groups")
    assert not check.passed
    assert check.severity == dg.AssetCheckSeverity.WARN
    told = facts(check)
    assert told["failing"] == "no_rows_rejected"
    assert (told["rows_rejected"], told["rejected_reasons"]) == (1, {"the record has no primary key": 1})


@pytest.mark.parametrize(
    ("report", "rows", "differs", "severity"),
    [
        (ResourceReport(rows_landed=5, rows_total=5, api_total=5, window_total=5), 5, None, "WARN"),
        (
            ResourceReport(rows_landed=5, rows_total=5, api_total=6, window_total=6, complete=False),
            5,
            "walked vs api",
            "WARN",
        ),
        (ResourceReport(rows_landed=5, rows_total=5, api_total=4, window_total=4), 5, "walked vs api", "WARN"),
        (
            ResourceReport(rows_landed=4, rejected=1, rows_total=4, api_total=5, window_total=5, complete=False),
            4,
            None,
            "WARN",
        ),
        (ResourceReport(rows_landed=5, rows_total=5, api_total=5, window_total=5), 4, "table vs walked", "ERROR"),
        (ResourceReport(rows_landed=5, rows_total=4, api_total=5, window_total=5), 4, "table vs walked", "ERROR"),
        (
            ResourceReport(rows_landed=5, rows_total=6, api_total=4, window_total=4),
            6,
            "table vs walked, walked vs api",
            "ERROR",
        ),
        (ResourceReport(rows_landed=1, rows_total=100), 100, None, "WARN"),
        (ResourceReport(rows_landed=1, rows_total=100), 101, "table vs walked", "ERROR"),
        (ResourceReport(rows_landed=3, rows_total=100, window_total=2), 100, None, "WARN"),
        (ResourceReport(rows_landed=3, rows_total=100, window_total=4), 100, "walked vs api", "WARN"),
        (ResourceReport(status="skipped", rows_total=7), 7, None, "WARN"),
    ],
)
def test_a_difference_names_its_two_sides(
    report: ResourceReport, rows: int, differs: str | None, severity: str
) -> None:
    check = check_result(KEY, check_report("cases", report, rows=rows))
    assert ("rows_match_api" in facts(check).get("failing", "")) == (differs is not None)
    assert check.passed == ("failing" not in facts(check))
    assert facts(check).get("differs") == differs
    assert check.severity.value == severity
