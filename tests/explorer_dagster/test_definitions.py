"""The code location: its definitions, and a description of each asset for the UI."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
TOLD = """
import json
from explorer_dagster.definitions import defs
repository = defs.get_repository_def()
specs = {tuple(spec.key.path): spec for each in repository.assets_defs_by_key.values() for spec in each.specs}
print(json.dumps({
    "jobs": sorted(job.name for job in repository.get_all_jobs() if not job.name.startswith("__")),
    "schedules": sorted(each.name for each in repository.schedule_defs),
    "sensors": {each.name: each.description for each in repository.sensor_defs},
    "checks": sorted(
        [spec.asset_key.path[-1], spec.name, each.op.name]
        for each in set(repository.assets_defs_by_key.values()) for spec in each.check_specs
    ),
    "deps": {"/".join(key.path): sorted("/".join(dep.path) for dep in each.asset_deps[key])
             for key, each in repository.assets_defs_by_key.items()},
    "steps": sorted({each.op.name for each in repository.assets_defs_by_key.values()}),
    "assets": {
        "/".join(key): {
            "group": spec.group_name, "kinds": sorted(spec.kinds), "owners": len(spec.owners),
            "layer": spec.tags.get("layer"), "about": bool(spec.description), "partitioned": str(spec.partitions_def),
        }
        for key, spec in specs.items()
    },
}))
"""

# File of the dbt project to its text.
PUT_IN = {
    "models/commcare/marts/my_mart.sql": "select case_id, count(*) as visits from {{ ref('visits') }} group by 1",
    "models/commcare/marts/my_mart.yml": "models: [{name: my_mart, columns: [{name: case_id, data_tests: [unique]}]}]",
    "models/commcare/marts/patients.sql": "select case_id from {{ source('own', 'case_patient') }}",
    "models/commcare/own.yml": "sources: [{name: own, schema: '{{ target.schema }}', tables: [{name: case_patient}]}]",
    "tests/few_visits.sql": "select 1 from {{ source('commcare', 'forms') }}, {{ ref('my_mart') }} where visits > 99",
    "tests/cases_have_a_type.sql": "select 1 from {{ source('commcare', 'cases') }} where case_type is null",
}


@pytest.fixture(scope="module")
def told(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """The definitions as another process loads them, which no test has touched; with models and tests that somebody put in."""
    home, project = tmp_path_factory.mktemp("home"), tmp_path_factory.mktemp("project")
    for folder in ("dbt_project", "pipelines", "docs"):
        shutil.copytree(ROOT / folder, project / folder)
    for name, text in PUT_IN.items():
        (project / "dbt_project" / name).parent.mkdir(exist_ok=True)
        (project / "dbt_project" / name).write_text(text)
    environment = {**os.environ, "EXPLORER_HOME": str(home), "EXPLORER_PROJECT_DIR": str(project)}
    done = subprocess.run(
        [sys.executable, "-c", TOLD], env=environment, cwd=ROOT, capture_output=True, text=True, check=True
    )
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def test_names_that_others_call_are_these(told: dict[str, Any]) -> None:
    assert told["jobs"] == ["commcare_sync", "maintenance", "provisioning"]
    schedules = ["commcare_sync_full_refresh_schedule", "commcare_sync_schedule", "maintenance_schedule"]
    assert told["schedules"] == schedules
    assert told["sensors"].keys() == {"alerts", "tenant_registration", "throttled_runs", "run_outcomes"}
    assert "CommCare" in told["sensors"]["throttled_runs"]
    steps = [
        "commcare__app_structure",
        "commcare_dbt",
        "commcare_raw",
        "commcare_saved_models",
        "commcare_tables",
        "platform__retention",
    ]
    assert told["steps"] == steps


def test_every_asset_explains_itself(told: dict[str, Any]) -> None:
    assets = told["assets"]
    assert {"commcare/app_structure", "commcare/raw/cases", "commcare/marts/cases", "commcare/marts/case_activity",
            "commcare/marts/case_tables", "commcare/marts/form_tables"} <= assets.keys()  # fmt: skip
    for name, asset in assets.items():
        assert asset["kinds"], name
        assert asset["owners"], name
        assert asset["about"], name
        assert asset["layer"] == asset["group"], name
        assert ("tenants" in asset["partitioned"]) is (asset["group"] != "platform"), name
    groups = {asset["group"] for asset in assets.values()}
    assert groups == {"discovery", "raw", "tables", "staging", "marts", "saved_models", "platform"}


def test_what_is_put_into_the_dbt_project_is_an_asset_or_a_check(told: dict[str, Any]) -> None:
    assert told["deps"]["commcare/marts/my_mart"] == ["commcare/marts/visits"]
    # A table that only some tenants have belongs to its family.
    assert told["deps"]["commcare/marts/patients"] == ["commcare/marts/case_tables"]
    for expected in (
        ["my_mart", "unique_my_mart_case_id", "commcare_dbt"],
        ["my_mart", "few_visits", "commcare_dbt"],
        ["cases", "cases_have_a_type", "commcare_dbt"],
        ["cases", "rows_are_sound", "commcare_tables"],
    ):
        assert expected in told["checks"]
