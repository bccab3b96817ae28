"""The static models in the form for Dagster, without a database."""

import shutil
from pathlib import Path

from explorer.core.settings import Settings
from explorer.marts.manifest import static_lineage, static_manifest
from explorer.marts.project import content_hash
from tests.explorer.workshop import DBT_PROJECT

MARTS = {
    "cases",
    "forms",
    "form_cases",
    "users",
    "web_users",
    "groups",
    "locations",
    "location_types",
    "lookup_tables",
    "lookup_table_items",
    "ucr_data_sources",
    "ucr_rows",
}
# Marts over other marts; the others have a staging view each.
SUMMARIES = {"user_locations", "case_activity", "form_activity", "data_quality"}


def test_models_are_described_once_and_read_from_home_afterwards(tmp_path: Path) -> None:
    shutil.copytree(DBT_PROJECT, tmp_path / "dbt_project")
    settings = Settings(_env_file=None, home=tmp_path / "home", project_dir=tmp_path)
    manifest = static_manifest(settings, "commcare")
    models = {node["name"]: node for node in manifest["nodes"].values() if node["resource_type"] == "model"}
    assert {name for name in models if not name.startswith("stg_")} == MARTS | SUMMARIES
    assert {name for name in models if name.startswith("stg_")} == {f"stg_{name}" for name in MARTS - {"form_cases"}}
    assert all(node["description"].startswith("One row per ") for node in models.values())
    assert models["form_cases"]["depends_on"]["nodes"] == ["model.explorer.stg_forms"]
    [file] = (tmp_path / "home" / "dbt" / "manifests").glob("*/manifest.json")
    file.write_text('{"kept": true}')
    assert static_manifest(settings, "commcare") == {"kept": True}
    before = content_hash(tmp_path / "dbt_project", "commcare")
    (tmp_path / "dbt_project" / "models" / "commcare" / "marts" / "extra.sql").write_text("select 1 as id")
    assert content_hash(tmp_path / "dbt_project", "commcare") != before


def test_a_provider_has_its_own_models_and_what_all_share(tmp_path: Path) -> None:
    shutil.copytree(DBT_PROJECT, tmp_path / "dbt_project")
    other = tmp_path / "dbt_project" / "models" / "other" / "marts"
    other.mkdir(parents=True)
    before = content_hash(tmp_path / "dbt_project", "commcare")
    (other / "things.sql").write_text("select 1 as thing_id, {{ blank_to_null(\"'x'\") }} as name")
    assert content_hash(tmp_path / "dbt_project", "commcare") == before
    settings = Settings(_env_file=None, home=tmp_path / "home", project_dir=tmp_path)
    [node] = static_manifest(settings, "other")["nodes"].values()
    assert (node["name"], node["config"]["schema"], node["config"]["materialized"]) == ("things", "marts", "table")
    assert static_lineage(settings, "other")["things"]["thing_id"].origins == ()
    names = {node["name"] for node in static_manifest(settings, "commcare")["nodes"].values()}
    assert "cases" in names
    assert "things" not in names
