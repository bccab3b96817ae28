"""Metadata keeps its spelling, and runs of older versions can be read: labels may be missing or of another kind."""

import pytest

from explorer.contract import checks, failures, materializations, observations
from explorer.contract.materializations import App, Discovery, ListedTable, RawLoad, Summary, Tables, TypeChange
from explorer.contract.records import Markdown, Record

LISTED = ListedTable(
    name="form_visit",
    kind="form",
    source="http://x",
    description="Visits.",
    apps=(App(id="a", name="App"),),
    xmlns="http://x",
    form="Visit",
    unfit_values={"dob": 2},
    row_count=5,
    status="success",
)


def test_a_raw_load_is_told_in_these_labels_and_in_no_others() -> None:
    assert RawLoad(
        row_count=3, table_name="t_1_raw.raw_cases", status="loaded", rows_landed=3, rows_new=1, rows_changed=2,
        rows_deleted=0, rows_rejected=0, values_repaired=0, api_total=3, cursor="b", cursor_before="a", requests=2,
        bytes=9, duration_s=0.5,
    ).to_metadata() == {
        "dagster/row_count": 3, "dagster/table_name": "t_1_raw.raw_cases", "status": "loaded", "rows_landed": 3,
        "rows_new": 1, "rows_changed": 2, "rows_deleted": 0, "rows_rejected": 0, "values_repaired": 0, "api_total": 3,
        "cursor": "b", "cursor_before": "a", "requests": 2, "bytes": 9, "duration_s": 0.5,
    }  # fmt: skip
    assert RawLoad(status="skipped", skipped_reason="no plan").to_metadata() == {
        "status": "skipped",
        "skipped_reason": "no plan",
    }


def test_an_entry_of_the_list_of_tables_always_has_a_count_even_if_none() -> None:
    assert LISTED.to_metadata() == {
        "name": "form_visit",
        "kind": "form",
        "source": "http://x",
        "description": "Visits.",
        "apps": [{"id": "a", "name": "App"}],
        "xmlns": "http://x",
        "form": "Visit",
        "unfit_values": {"dob": 2},
        "row_count": 5,
        "status": "success",
    }
    assert ListedTable(name="x", status="error", error="boom").to_metadata() == {
        "name": "x",
        "row_count": None,
        "status": "error",
        "error": "boom",
    }


def test_counts_of_a_structure_stand_beside_the_other_labels() -> None:
    told = Discovery(
        counts={"apps": 1, "forms": 4}, version=2, changed=True, since_the_last_sync="1 form added",
        changes=Markdown("- `x`"), diff={"forms": 1}, warnings=("w",), requests=3, bytes=10, found=Markdown("| |"),
    ).to_metadata()  # fmt: skip
    assert list(told) == [
        "apps", "forms", "version", "changed", "since_the_last_sync", "changes", "diff", "warnings", "requests",
        "bytes", "found",
    ]  # fmt: skip
    assert (told["warnings"], told["apps"]) == (["w"], 1)
    assert isinstance(told["changes"], Markdown)


def test_tables_are_read_back_and_entries_without_a_name_are_left_out() -> None:
    change = {"table": "a", "column": "b", "before": "bigint", "after": "text"}
    found = Tables.from_metadata(
        {
            "dagster/row_count": 7,
            "tables": [LISTED.to_metadata(), {"kind": "form"}, "no table", {"name": 5}],
            "migrations": [change, {"table": "incomplete"}],
            "retired": [{"name": "r", "since": "2026-01-01", "dropped_after": "2026-04-01"}],
            "overview": "| |",
        }
    )
    assert found.tables == (LISTED,)
    assert found.migrations == (TypeChange(**change),)
    assert (found.row_count, found.retired[0].since) == (7, "2026-01-01")


@pytest.mark.parametrize("odd", [{}, {"tables": "none", "dagster/row_count": "7", "migrations": None, "retired": 3}])
def test_what_is_missing_or_of_another_kind_is_the_default(odd: dict[str, object]) -> None:
    assert Tables.from_metadata(odd) == Tables()
    assert Summary.from_metadata({"rows_landed": True, "failed": 1.5}) == Summary()


def test_a_check_that_lists_no_tables_is_told_from_one_that_lists_none() -> None:
    assert checks.TableChecks.from_metadata({"rows": 1}).failing is None
    assert checks.TableChecks.from_metadata({"failing": []}).failing == ()
    uncounted = checks.FailingTable(table="a", test="t", status="error")
    assert uncounted.to_metadata()["failing_rows"] is None
    assert checks.TableChecks.from_metadata({"failing": [uncounted.to_metadata(), {}]}).failing == (uncounted,)


def test_progress_and_failures_leave_out_what_is_not_known() -> None:
    assert observations.LoadProgress(rows=2, pages=1).to_metadata() == {"rows": 2, "pages": 1}
    assert observations.TableProgress(table="a", state="error").to_metadata() == {"table": "a", "state": "error"}
    refused = failures.Failure(code="c", next_step="n", details={})
    assert refused.to_metadata() == {"code": "c", "next_step": "n", "details": {}}
    again = failures.Failure(code="c", next_step="n", details={"status": 429}, retry_at="t", retry_number=1)
    assert failures.Failure.from_metadata(again.to_metadata()) == again


def test_facts_of_a_check_are_numbers_and_short_texts() -> None:
    told = {"rows": 1, "compared": True, "overview": "| |", "failing": [], "message": "m"}
    assert checks.facts_of(told) == {"rows": 1, "compared": True, "message": "m"}


def test_objects_of_dagster_pass_through_as_they_are() -> None:
    class Schema(tuple):  # type: ignore[type-arg]
        pass

    schema = Schema((1,))
    assert materializations.Table(column_schema=schema).to_metadata()["dagster/column_schema"] is schema


def test_a_record_without_a_field_that_it_needs_is_refused() -> None:
    with pytest.raises(TypeError):
        ListedTable.from_metadata({})
    assert issubclass(ListedTable, Record)
