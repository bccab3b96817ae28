"""One step builds static models and generated tables: its reports of both, of their checks, and of failed builds."""

from typing import Any

import dagster as dg
from msgspec.structs import fields

from demo_commcare import MATERNAL
from explorer.contract.materializations import GeneratedTables, StaticModel, Tables
from explorer.contract.names import AssetKeys, is_raw
from tests.explorer_dagster.conftest import Stage, failure_of, materialized

KEYS = AssetKeys("commcare")
CASES, CASE_TABLES, FORM_TABLES = KEYS.marts("cases"), KEYS.marts("case_tables"), KEYS.marts("form_tables")
CASE_TABLE_CHECKS = {"primary_keys", "relationships", "accepted_values", "values_fit"}


def defined(stage: Stage) -> set[tuple[str, ...]]:
    return {tuple(key.path) for key in stage.definitions.resolve_all_asset_keys()}


def observed(result: Any) -> list[dict[str, Any]]:
    return [
        {label: value.value for label, value in event.asset_observation_data.asset_observation.metadata.items()}
        for event in result.all_events
        if event.event_type_value == "ASSET_OBSERVATION"
    ]


def rows_of(stage: Stage, table: str) -> int:
    schemas = stage.catalog.schemas.get(stage.tenant)
    with stage.pg_server.connections.admin.connect(autocommit=True) as connection:
        row = connection.execute(f"SELECT count(*) FROM {schemas.marts}.{table}".encode()).fetchone()
    assert row
    return int(row[0])


def test_a_sync_materializes_everything_and_the_next_says_what_was_not_needed(whole: Stage) -> None:
    first = whole.run()
    assert first.success
    found = materialized(first)
    assert found.keys() == defined(whole)
    schemas = whole.catalog.schemas.get(whole.tenant)

    cases = StaticModel.from_metadata(found[CASES])
    assert (cases.table_name, cases.rebuilt) == (f"{schemas.marts}.cases", True)
    assert cases.row_count == rows_of(whole, "cases") == len(whole.demo.truth(MATERNAL).cases)
    assert {"case_id", "case_type"} <= {column.name for column in found[CASES]["dagster/column_schema"].columns}
    lineage = found[CASES]["dagster/column_lineage"].deps_by_column
    assert dg.TableColumnDep(dg.AssetKey(KEYS.of("staging", "stg_cases")), "case_id") in lineage["case_id"]

    for key in (CASE_TABLES, FORM_TABLES):
        tables = Tables.from_metadata(found[key])
        assert tables.tables
        assert {entry.status for entry in tables.tables} == {"success"}
        assert {entry.name: entry.row_count for entry in tables.tables} == {
            entry.name: rows_of(whole, entry.name) for entry in tables.tables
        }
        assert tables.row_count == sum(entry.row_count or 0 for entry in tables.tables)
        assert found[key]["table_count"] == found[key]["rebuilt"] == len(tables.tables)
        assert (found[key]["failed"], found[key]["retired"], found[key]["migrations"]) == (0, [], [])
        assert found[key].keys() == {field.encode_name for field in fields(GeneratedTables)}
        names = {column.name for column in found[key]["dagster/column_schema"].columns}
        assert len(names) == found[key]["columns_told"] <= found[key]["columns_total"]
    evaluated = {
        check.check_name for check in first.get_asset_check_evaluations() if tuple(check.asset_key.path) == CASE_TABLES
    }
    assert evaluated == CASE_TABLE_CHECKS
    assert any("table" in facts and facts["state"] == "success" for facts in observed(first))

    second = whole.run()
    assert second.success
    again = materialized(second)
    assert again.keys() == found.keys()
    models = {key for key in found if len(key) == 3 and not is_raw(key)} - {CASE_TABLES, FORM_TABLES}
    assert {again[key]["rebuilt"] for key in models} == {False}
    assert all(facts["rebuilt"] == 0 for facts in (again[CASE_TABLES], again[FORM_TABLES]))
    assert again[CASES]["dagster/row_count"] == found[CASES]["dagster/row_count"]
    # Columns are reported only when they may have changed; the bridge's metadata is reported each time.
    assert "dagster/column_schema" not in again[CASES]
    assert Tables.from_metadata(again[CASE_TABLES]).tables == Tables.from_metadata(found[CASE_TABLES]).tables


def test_what_was_selected_is_built_whether_it_is_needed_or_not(whole: Stage) -> None:
    assert whole.run().success
    result = whole.run_assets(CASES, CASE_TABLES)
    assert result.success
    found = materialized(result)
    assert found.keys() == {CASES, CASE_TABLES}
    assert found[CASES]["rebuilt"] is True
    assert found[CASE_TABLES]["rebuilt"] == found[CASE_TABLES]["table_count"] > 0
    checked = {tuple(check.asset_key.path) for check in result.get_asset_check_evaluations()}
    assert checked == {CASES, CASE_TABLES}


def test_a_model_that_cannot_be_built_fails_the_step_with_its_cause_and_the_rest_is_recorded(whole: Stage) -> None:
    assert whole.run().success
    schemas = whole.catalog.schemas.get(whole.tenant)
    with whole.pg_server.connections.admin.connect(autocommit=True) as connection:
        connection.execute(f"ALTER TABLE {schemas.raw}.raw_groups RENAME COLUMN group_id TO lost".encode())
    groups, staged, users = KEYS.marts("groups"), KEYS.of("staging", "stg_groups"), KEYS.marts("users")
    result = whole.run_assets(staged, groups, users)
    assert not result.success
    assert users in materialized(result)
    assert groups not in materialized(result)
    failure = failure_of(result)
    assert "group_id" in failure.description
    assert "stg_groups" in failure.metadata
    assert whole.catalog.schemas.get(whole.tenant).state.value == "active"
