"""UCR data sources and their rows, over HTTP: every row of every document, and project spaces without the feature."""

import json
from collections import Counter
from typing import Any

import pytest

from demo_commcare import MATERNAL
from tests.explorer.load.conftest import Loader


def landed(loader: Loader) -> Counter[str]:
    rows = loader.rows("SELECT data_source_id, record FROM raw.raw_ucr_rows WHERE _deleted_at IS NULL")
    return Counter(text({"data_source_id": source, **record}) for source, record in rows)


def text(row: dict[str, Any]) -> str:
    return json.dumps(row, sort_keys=True)


def expected(loader: Loader) -> Counter[str]:
    return Counter(text(row) for row in loader.demo.truth(MATERNAL).ucr_rows)


@pytest.mark.parametrize("page_size", [5000, 3])
def test_rows_are_those_of_the_server_however_pages_cut_documents(loader: Loader, page_size: int) -> None:
    loader.with_page_size(page_size)("ucr_data_sources", "ucr_rows")
    assert landed(loader) == expected(loader)
    names = loader.rows("SELECT data_source_id, display_name FROM raw.raw_ucr_data_sources")
    assert dict(names) == {
        source["id"]: source["display_name"] for source in loader.demo.truth(MATERNAL).ucr_data_sources
    }


def test_rows_that_changed_replace_their_former_selves(loader: Loader) -> None:
    loader("ucr_data_sources", "ucr_rows")
    mother = next(case for case in loader.demo.truth(MATERNAL).cases if case["case_type"] == "mother")
    loader.demo.control.close_case(MATERNAL, mother["case_id"])
    before = landed(loader)
    loader("ucr_data_sources", "ucr_rows")
    assert landed(loader) == expected(loader)
    assert sum((landed(loader) - before).values()) == sum((before - landed(loader)).values()) == 1


def test_without_the_feature_both_are_skipped_with_the_reason(loader: Loader) -> None:
    loader.demo.control.set_feature(MATERNAL, "user_configurable_reports", on=False)
    report = loader("location_types", "ucr_data_sources", "ucr_rows")
    statuses = {name: resource.status for name, resource in report.resources.items()}
    assert statuses == {"location_types": "loaded", "ucr_data_sources": "skipped", "ucr_rows": "skipped"}
    reason = report.resources["ucr_data_sources"].skipped_reason
    assert "permission to access this API" in (reason or "")
    types = {row[0] for row in loader.rows("SELECT location_type_id FROM raw.raw_location_types")}
    assert types == {str(kind["id"]) for kind in loader.demo.truth(MATERNAL).location_types}


def test_without_the_export_feature_only_the_rows_are_skipped(loader: Loader) -> None:
    loader.demo.control.set_feature(MATERNAL, "export_data_source_data", on=False)
    report = loader("ucr_data_sources", "ucr_rows")
    assert report.resources["ucr_data_sources"].status == "loaded"
    assert report.resources["ucr_rows"].status == "skipped"
