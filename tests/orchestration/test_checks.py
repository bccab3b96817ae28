"""What a load claims is checked against the table, the walk and the API; a difference says which of them do not agree."""

from typing import Any

import dagster as dg
import pytest

from demo_commcare import MATERNAL
from explorer_dagster.loading import ResourceReport
from explorer_dagster.orchestration.loading import _count_check
from tests.orchestration.conftest import Stage

KEY = dg.AssetKey(["commcare", "raw", "cases"])


def checks(result: Any, resource: str) -> dict[str, dg.AssetCheckEvaluation]:
    return {
        check.check_name: check
        for check in result.get_asset_check_evaluations()
        if check.asset_key.path[-1] == resource
    }


def facts(check: dg.AssetCheckEvaluation | dg.AssetCheckResult) -> dict[str, Any]:
    return {label: getattr(value, "value", value) for label, value in (check.metadata or {}).items()}


def test_a_first_and_an_incremental_load_pass(stage: Stage) -> None:
    first = stage.run("cases")
    assert facts(checks(first, "cases")["rows_match_api"])["compared"] is True
    case = stage.demo.truth(MATERNAL).cases[0]["case_id"]
    stage.demo.control.update_case(MATERNAL, case, {"note": "changed"})
    second = stage.run("cases")
    assert facts(checks(second, "cases")["rows_match_api"])["compared"] is True
    for result in (first, second):
        found = checks(result, "cases")
        assert found.keys() == {"rows_match_api", "primary_key_unique", "no_rows_rejected", "missing_rows_are_gone"}
        assert all(check.passed for check in found.values())
        assert facts(found["rows_match_api"])["rows"] == len(stage.demo.truth(MATERNAL).cases)


def test_a_table_that_lost_rows_behind_the_loaders_back_is_an_error(stage: Stage) -> None:
    assert stage.run("cases").success
    prefix = stage.catalog.schemas.get(stage.tenant).prefix
    cases = sorted(stage.demo.truth(MATERNAL).cases, key=lambda case: case["indexed_on"])
    with stage.pg_server.connections.admin.connect(autocommit=True) as connection:
        connection.execute(f"DELETE FROM {prefix}_raw.raw_cases WHERE case_id = %s", [cases[0]["case_id"]])
    # An incremental load does not read the lost case again: only the count can tell.
    stage.demo.control.update_case(MATERNAL, cases[-1]["case_id"], {"note": "again"})
    check = checks(stage.run("cases"), "cases")["rows_match_api"]
    assert not check.passed
    assert check.severity == dg.AssetCheckSeverity.ERROR
    assert facts(check)["differs"] == "table vs walked"
    assert facts(check)["rows"] == facts(check)["walked"] - 1 == len(cases) - 1


def test_rejected_records_are_a_warning_with_reasons(stage: Stage) -> None:
    stage.demo.control.fail(
        "/group/v1/",
        status=200,
        body='{"meta": {"total_count": 2, "next": null}, "objects": [{"id": "good", "name": "x"}, {"name": "without id"}]}',
    )
    check = checks(stage.run("groups"), "groups")["no_rows_rejected"]
    assert not check.passed
    assert check.severity == dg.AssetCheckSeverity.WARN
    assert facts(check) == {"rows_rejected": 1, "reasons": {"the record has no primary key": 1}}


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
    check = _count_check(report, rows, KEY)
    assert check.passed == (differs is None)
    assert facts(check).get("differs") == differs
    assert check.severity.value == severity
