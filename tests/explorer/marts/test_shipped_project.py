"""The shipped dbt project: it builds over the tables of a tenant, its unit tests pass, and a stranger can list it."""

import json
import os
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from explorer.contract.bookkeeping import lineage
from explorer.core.settings import Settings
from explorer.marts import Built, Models, TenantDbt, build, manifest
from explorer.marts.process import invoke
from explorer.tables.engine import update
from explorer.tables.plan import TablePlan
from tests.explorer.marts.studio import DBT_PROJECT, PROVIDER
from tests.explorer.workshop import PLANNER, RAW_TABLES, Workshop


@pytest.fixture(scope="module")
def workshop(make_workshop: Callable[[], Workshop]) -> Workshop:
    made = make_workshop()
    made.make_raw(*RAW_TABLES)
    made.add_case("c1", "pregnancy", edd="2024-05-01")
    made.add_form(
        "f1", "http://openrosa.org/formdesigner/visit", {"case": {"@case_id": "c1", "update": {"edd": "2024-05-01"}}}
    )
    made.add("raw_users", {"id": "u1", "username": "amina"}, user_id="u1", username="amina", is_active=True)
    planned = TablePlan(tables=PLANNER.fixed)
    updated = update(made.tenant.rw, made.tenant.names, planned, PLANNER.changed_records, wanted=None, run_id="r")
    assert {result.verb for result in updated.results.values()} == {"built"}
    return made


@pytest.fixture(scope="module")
def dbt(workshop: Workshop, tmp_path_factory: pytest.TempPathFactory) -> TenantDbt:
    settings = Settings(_env_file=None, home=tmp_path_factory.mktemp("home"))
    return TenantDbt(settings, PROVIDER, workshop.tenant.names, workshop.tenant.rw)


@pytest.fixture(scope="module")
def built(dbt: TenantDbt) -> Built:
    models = Models(manifest(dbt.settings, PROVIDER))
    return build(dbt, models, wanted=None, by_need=True, run_id="r", on_plan=lambda _: None, on_result=lambda _: None)


def test_every_model_is_built_and_no_test_fails(built: Built) -> None:
    assert {name: result.message for name, result in built.results.items() if result.verb != "built"} == {}
    assert {name for name, test in built.tests.items() if test.status not in ("pass", "warn")} == set()


def test_columns_are_described_and_have_lineage(built: Built, workshop: Workshop) -> None:
    with workshop.tenant.rw.connect() as connection:
        known = lineage.read(connection, workshop.tenant.names)
    for path in (DBT_PROJECT / "models").rglob("*.yml"):
        for model in yaml.safe_load(path.read_text()).get("models", ()):
            if model["name"] in built.results:
                described = {column["name"] for column in model["columns"]}
                schemas = (workshop.tenant.names.marts, workshop.tenant.names.staging)
                [columns] = [
                    built.columns[schema][model["name"]] for schema in schemas if model["name"] in built.columns[schema]
                ]
                assert described == {name for name, _ in columns}, model["name"]
                assert described == set(known[model["name"]]), model["name"]


def test_unit_tests_pass(dbt: TenantDbt, built: Built) -> None:
    quiet = ["--log-level", "none", "--log-level-file", "none"]
    outcome = invoke([*quiet, "test", "--select", "test_type:unit"], dbt.environment("r"), lambda _: None)
    assert outcome.is_success


def test_commands_that_people_know_work(dbt: TenantDbt, built: Built) -> None:
    quiet = ["--log-level", "none", "--log-level-file", "none"]
    for command in (["ls"], ["test", "--exclude-resource-type", "unit_test"], ["docs", "generate"]):
        assert invoke([*quiet, *command], dbt.environment("r"), lambda _: None).is_success, command
    catalog = json.loads((dbt.folder / "target" / "catalog.json").read_bytes())
    assert {node.rpartition(".")[2] for node in catalog["nodes"]} == built.results.keys()
    cases = catalog["sources"]["source.explorer.commcare.cases"]["columns"]
    assert cases["case_id"]["type"] == "text"
    assert cases["case_id"]["comment"]


def test_a_stranger_can_list_the_project_without_any_setting(tmp_path: Path) -> None:
    environment = {"PATH": os.environ["PATH"], "DBT_TARGET_PATH": str(tmp_path), "DBT_LOG_PATH": str(tmp_path)}
    listed = subprocess.run(
        ["dbt", "--quiet", "ls", "--resource-type", "model"], cwd=DBT_PROJECT, env=environment, capture_output=True, text=True,
        check=False,
    )  # fmt: skip
    assert listed.returncode == 0, listed.stdout
    assert "explorer.commcare.marts.case_activity" in listed.stdout.split()
