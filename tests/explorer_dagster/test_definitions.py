"""The code location: its definitions, and a description of each asset for the UI."""

import json
import os
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


@pytest.fixture(scope="module")
def told(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """The definitions as another process loads them, which no test has touched."""
    environment = {**os.environ, "EXPLORER_HOME": str(tmp_path_factory.mktemp("home"))}
    done = subprocess.run(
        [sys.executable, "-c", TOLD], env=environment, cwd=ROOT, capture_output=True, text=True, check=True
    )
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def test_names_that_others_call_are_these(told: dict[str, Any]) -> None:
    assert told["jobs"] == ["commcare_sync"]
    assert told["schedules"] == ["commcare_sync_full_refresh_schedule", "commcare_sync_schedule"]
    assert told["sensors"].keys() == {"tenant_registration", "throttled_runs"}
    assert "CommCare" in told["sensors"]["throttled_runs"]
    assert told["steps"] == ["commcare__app_structure", "commcare_raw", "commcare_transforms"]


def test_every_asset_explains_itself(told: dict[str, Any]) -> None:
    assets = told["assets"]
    assert {"commcare/app_structure", "commcare/raw/cases", "commcare/staging/stg_cases", "commcare/marts/cases",
            "commcare/marts/case_tables", "commcare/marts/form_tables"} <= assets.keys()  # fmt: skip
    for name, asset in assets.items():
        assert asset["kinds"], name
        assert asset["owners"], name
        assert asset["about"], name
        assert asset["layer"] == asset["group"], name
        assert "tenants" in asset["partitioned"], name
    assert {asset["group"] for asset in assets.values()} == {"discovery", "raw", "staging", "marts"}
