"""The step of tables: its reports of tables and families, of their checks, and of what could not be built."""

from typing import Any

import dagster as dg
from msgspec.structs import fields

from demo_commcare import MATERNAL
from explorer.contract.materializations import GeneratedTables, Table, Tables
from explorer.contract.names import AssetKeys, is_raw
from tests.explorer_dagster.conftest import Stage, failure_of, materialized

KEYS = AssetKeys("commcare")
CASES, CASE_TABLES, FORM_TABLES = KEYS.marts("cases"), KEYS.marts("case_tables"), KEYS.marts("form_tables")


def defined(stage: Stage) -> set[tuple[str, ...]]:
    return {tuple(key.path) for key in stage.definitions.resolve_all_asset_keys()}


def observed(result: Any) -> list[dict[str, Any]]:
    return [
        {label: value.value for label, value in event.asset_observation_data.asset_observation.metadata.items()}
        for event in result.all_events
        if event.event_type_value == "ASSET_OBSERVATION"
    ]


def checked(result: Any) -> set[dg.AssetCheckKey]:
    return {check.asset_check_key for check in result.get_asset_check_evaluations()}


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

    cases = Table.from_metadata(found[CASES])
    assert (cases.table_name, cases.verb) == (f"{schemas.marts}.cases", "built")
    assert cases.row_count == rows_of(whole, "cases") == len(whole.demo.truth(MATERNAL).cases)
    assert found[CASES]["changed_by"] == first.run_id
    columns = {column.name: column.type for column in found[CASES]["dagster/column_schema"].columns}
    assert (columns["closed"], columns["properties"]) == ("boolean", "jsonb")
    lineage = found[CASES]["dagster/column_lineage"].deps_by_column
    assert dg.TableColumnDep(dg.AssetKey(KEYS.raw("cases")), "case_id") in lineage["case_id"]

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

    assert_every_check_has_a_result_of_the_tenant(whole, first)
    assert_a_run_without_news_ends_after_the_load(whole)

    # Nothing of it is in a table of its own, and all that is made from tables may be concerned.
    group = whole.demo.truth(MATERNAL).groups[0]["id"]
    whole.demo.control.delete_record(MATERNAL, "groups", group)
    second = whole.run()
    assert second.success
    assert_every_check_has_a_result_of_the_tenant(whole, second)
    again = materialized(second)
    assert again.keys() == found.keys()
    assert again[KEYS.marts("groups")]["changed_by"] == second.run_id
    # A group may own cases: these models read who owns them.
    readers = {"int_commcare__data_quality", "location_activity_monthly", "worker_activity_monthly"}
    models = {key for key in found if key[-1] in readers}
    assert {again[key]["verb"] for key in models} == {"built"}
    concerned = {KEYS.marts("groups"), KEYS.marts("owners"), CASE_TABLES, FORM_TABLES, *models}
    families = {KEYS.marts("saved_models")}
    tables_and_models = {key for key in found if len(key) == 3 and not is_raw(key)} - concerned - families
    assert {again[key]["verb"] for key in tables_and_models} == {"unchanged"}
    assert {again[key]["changed_by"] for key in tables_and_models} == {first.run_id}
    assert all((facts["rebuilt"], facts["applied"]) == (0, 0) for facts in (again[CASE_TABLES], again[FORM_TABLES]))
    assert again[CASES]["dagster/row_count"] == found[CASES]["dagster/row_count"]
    assert_a_family_lists_its_tables(whole, again[FORM_TABLES]["overview"], first.run_id)
    # Columns are reported only when they may have changed; the bridge's metadata is reported each time.
    assert "dagster/column_schema" not in again[CASES]
    assert Tables.from_metadata(again[CASE_TABLES]).tables == Tables.from_metadata(found[CASE_TABLES]).tables


def assert_every_check_has_a_result_of_the_tenant(whole: Stage, result: Any) -> None:
    repository = whole.definitions.get_repository_def()
    every = {spec.key for assets in repository.assets_defs_by_key.values() for spec in assets.check_specs}
    assert checked(result) == every
    assert {check.partition for check in result.get_asset_check_evaluations()} == {whole.tenant.key}
    assert not [event for event in whole.instance.all_logs(result.run_id) if "did not yield" in event.message]


def assert_a_run_without_news_ends_after_the_load(whole: Stage) -> None:
    """Checks of raw tables are told where they fail; nothing but the look at the structure is materialized."""
    idle = whole.run()
    assert idle.success
    assert materialized(idle).keys() == {KEYS.discovery("app_structure")}
    assert checked(idle) == set()
    skipped = [event.step_key for event in idle.all_events if event.is_step_skipped]
    assert skipped == ["commcare_tables", "commcare_dbt", "commcare_saved_models"]
    assert observed(idle) == []
    logged = whole.instance.all_logs(idle.run_id)
    # A quarter of the 407 that told of every asset and check.
    assert len(logged) <= 101
    # What somebody chose is materialized all the same.
    chosen = whole.run("groups")
    assert materialized(chosen).keys() == {KEYS.raw("groups")}


def assert_a_family_lists_its_tables(whole: Stage, overview: str, run_id: str) -> None:
    """Each with rows, checks, and the run of its last change."""
    lines = [line.strip("| ").split(" | ") for line in overview.splitlines()[2:]]
    by_name = {line[0].strip("`"): line for line in lines}
    _, form, rows, checks, change, state = by_name["form_anc_visit"]
    assert (form, rows, state) == ("`ANC visit`", str(rows_of(whole, "form_anc_visit")), "up to date")
    assert "values_fit" in checks
    assert f"(/runs/{run_id})" in change


def test_what_was_selected_is_built_whether_it_is_needed_or_not(whole: Stage) -> None:
    assert whole.run().success
    result = whole.run_assets(CASES, CASE_TABLES)
    assert result.success
    found = materialized(result)
    assert found.keys() == {CASES, CASE_TABLES}
    assert found[CASES]["verb"] == "built"
    assert found[CASE_TABLES]["rebuilt"] == found[CASE_TABLES]["table_count"] > 0
    assert {tuple(check.asset_key.path) for check in checked(result)} == {CASES, CASE_TABLES}


def test_a_table_that_cannot_be_built_fails_the_step_with_its_cause_and_the_rest_is_recorded(whole: Stage) -> None:
    assert whole.run().success
    schemas = whole.catalog.schemas.get(whole.tenant)
    with whole.pg_server.connections.admin.connect(autocommit=True) as connection:
        connection.execute(f"ALTER TABLE {schemas.raw}.raw_groups RENAME COLUMN group_id TO lost".encode())
    groups, users = KEYS.marts("groups"), KEYS.marts("users")
    result = whole.run_assets(groups, users)
    assert not result.success
    assert users in materialized(result)
    assert groups not in materialized(result)
    failure = failure_of(result)
    assert "group_id" in failure.description
    assert "groups" in failure.metadata
    assert whole.catalog.schemas.get(whole.tenant).state.value == "active"
