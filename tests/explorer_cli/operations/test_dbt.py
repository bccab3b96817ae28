"""`explorer dbt`: dbt's own command line as one tenant, under its lock, audited."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from demo_commcare import RunningServer
from explorer.catalog import AuditEntry, Catalog, State, migrate
from explorer.contract.bookkeeping import builds, dbt_tests
from explorer.core.settings import Settings
from explorer.marts import Models, TenantDbt, build, is_current, manifest
from explorer.postgres.connections import Login
from explorer.postgres.run_lock import run_lock
from tests.conftest import PgServer
from tests.explorer.marts.studio import copy_project, until
from tests.explorer_cli.conftest import Explorer

ROOT = Path(__file__).resolve().parents[3]
KEY = "dbt:nutrition"


class Operated:
    """A tenant, a project of its own, and the command line."""

    def __init__(self, explorer: Explorer, server: PgServer, checkout: Path, catalog: Catalog) -> None:
        self.server, self.checkout, self.catalog = server, checkout, catalog
        self.variables = {
            "EXPLORER_HOME": str(server.home), "EXPLORER_PROJECT_DIR": str(checkout), "EXPLORER_TENANT_WAIT_S": "0",
        }  # fmt: skip
        self._explorer = explorer

    def dbt(self, *arguments: str) -> int:
        return self._explorer("dbt", KEY, "--", *arguments, **self.variables).code

    def said(self, code: int, *arguments: str) -> str:
        answer = self._explorer("dbt", KEY, "--", *arguments, **self.variables)
        assert answer.code == code
        return answer.err

    def write(self, name: str, text: str) -> None:
        """A file of the project's models."""
        path = self.checkout / "dbt_project" / "models" / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)

    @property
    def login(self) -> Login:
        login = self.catalog.schemas.rw_login(self.catalog.tenants.get(KEY))
        return self.server.connections.tenant(login.user, login.password)

    @property
    def prefix(self) -> str:
        return self.catalog.schemas.get(self.catalog.tenants.get(KEY)).prefix

    def read(self, query: str) -> list[tuple[object, ...]]:
        with self.login.connect() as connection:
            return connection.execute(query.format(marts=f"{self.prefix}_marts").encode()).fetchall()

    @property
    def dbt_of_runs(self) -> TenantDbt:
        settings = Settings(_env_file=None, home=self.server.home, project_dir=self.checkout)
        schemas = self.catalog.schemas.get(self.catalog.tenants.get(KEY))
        return TenantDbt(settings, "commcare", schemas, self.login)

    def last_entry(self) -> AuditEntry:
        return self.catalog.audit.read(actor="operator", tenant=KEY, limit=1)[0].entry


@pytest.fixture
def operated(explorer: Explorer, pg_server: PgServer, commcare: RunningServer, tmp_path: Path) -> Iterator[Operated]:
    migrate(pg_server.connections)
    checkout = tmp_path / "checkout"
    copy_project(checkout)
    (checkout / "pipelines").symlink_to(ROOT / "pipelines")
    explorer(
        "tenants", "add", KEY, "--server", commcare.url, "--domain", "demo-nutrition", "--username", commcare.username,
        "--api-key-env", "COMMCARE_KEY", EXPLORER_HOME=str(pg_server.home), COMMCARE_KEY=commcare.api_key,
    )  # fmt: skip
    catalog = Catalog.open(Settings(_env_file=None, home=pg_server.home))
    yield Operated(explorer, pg_server, checkout, catalog)
    catalog.close()
    explorer("tenants", "remove", KEY, "--purge", "--yes", EXPLORER_HOME=str(pg_server.home))


def test_a_command_works_as_that_tenant_and_ends_as_dbt_does(operated: Operated) -> None:
    operated.write("commcare/one.sql", "select 1 as n, current_user::text as login")
    operated.write("commcare/two.sql", "select 1 / 0 as n")
    assert operated.dbt("build", "--select", "one") == 0
    assert operated.read("select n, login from {marts}.one") == [(1, operated.login.user)]
    entry = operated.last_entry()
    assert (entry.action, entry.outcome) == ("dbt", "ok")
    # What the bridge knows of the tables until a run writes them gives way.
    schema = operated.catalog.schemas.get(operated.catalog.tenants.get(KEY))
    assert (schema.state, schema.run_id) == (State.ACTIVE, entry.detail["run_id"])
    assert entry.detail["command"] == ["build", "--select", "one"]
    assert entry.detail["exit_status"] == 0
    assert operated.dbt("build") == 1
    assert operated.dbt("bild") == 2
    assert (operated.last_entry().outcome, operated.last_entry().detail["exit_status"]) == ("error", 2)
    assert operated.dbt("docs", "generate") == 0
    assert (operated.server.home / "dbt" / operated.prefix / "target" / "catalog.json").is_file()
    assert operated.dbt("show", "--inline", "select 'a secret' as name") == 0
    assert "secret" not in str(operated.last_entry().detail)


def test_what_runs_leave_out_is_left_out_and_what_tests_find_is_recorded(operated: Operated) -> None:
    operated.write("commcare/kept.sql", "select 1 as n")
    operated.write("commcare/kept.yml", "models: [{name: kept, columns: [{name: n, data_tests: [unique]}]}]")
    operated.write("commcare/patients.sql", "{{ config(meta={'requires': ['case_patient']}) }} select * from nowhere")
    operated.write("commcare/under.sql", "select * from {{ ref('patients') }}")
    operated.write("other/foreign.sql", "select * from nowhere")
    operated.write("other/above.sql", "select * from {{ ref('foreign') }}")
    source = "sources: [{name: of_records, schema: '{{ target.schema }}', tables: [{name: case_patient}]}]"
    operated.write("commcare/sources.yml", source)
    checks = operated.checkout / "dbt_project" / "tests"
    (checks / "few.sql").write_text("select * from {{ ref('kept') }}")
    (checks / "healthy.sql").write_text("select * from {{ source('of_records', 'case_patient') }}")
    told = operated.said(1, "build", "--exclude", "unique_kept_n")
    assert "Left out: patients. This tenant has no table case_patient, which the model requires." in told
    assert "Left out: under. It reads patients" in told
    assert "Left out: healthy. This tenant has no table case_patient, which the test reads." in told
    assert "Left out: above, foreign. Runs of this tenant build models/commcare/" in told.replace(
        "foreign, above", "above, foreign"
    )
    models, dbt = Models(manifest(operated.dbt_of_runs.settings, "commcare")), operated.dbt_of_runs
    with dbt.login.connect(autocommit=True) as connection:
        assert {name: (of.status, of.rows) for name, of in dbt_tests.read(connection, dbt.schemas).items()} == {
            "few": ("fail", 1)
        }
        assert [each.check for each in builds.read(connection, dbt.schemas)["kept"].findings] == ["few"]
        assert operated.dbt("test", "--select", "kept", "--vars", "{timezone: Asia/Kathmandu}") == 1
        assert dbt_tests.read(connection, dbt.schemas).keys() == {"few"}
    assert not is_current(dbt, models)
    said = list[str]()
    built = build(dbt, models, wanted=None, by_need=True, run_id="r", on_plan=said.append, on_result=lambda _: None)
    assert said == [
        "dbt builds 0 of 3 models. 1 tests did not see what there is now. 2 need tables that this tenant has not."
    ]
    assert {name: result.verb for name, result in built.results.items()} == {
        "kept": "unchanged", "patients": "skipped", "under": "skipped",
    }  # fmt: skip
    assert built.tests["few"].status == "fail"
    assert is_current(dbt, models)


def test_what_another_process_changes_is_left_alone(operated: Operated) -> None:
    with run_lock(operated.login, KEY, operated.prefix, holder="run 123"):
        said = operated.said(1, "build")
    assert "tenant_busy" in said
    assert "run 123" in said
    assert operated.last_entry().detail["exit_status"] is None


def test_the_documentation_is_served_to_this_machine_alone(operated: Operated) -> None:
    for host in ("--host=0.0.0.0", "--host=10.0.0.1"):
        assert "no sign-in" in operated.said(1, "docs", "serve", host)


def test_ctrl_c_ends_dbt_and_its_queries(operated: Operated) -> None:
    operated.write("commcare/slow.sql", "select pg_sleep(600)::text as slept")
    command = [sys.executable, "-m", "explorer_cli", "dbt", KEY, "--", "build"]
    child = subprocess.Popen(command, cwd=ROOT, env={**os.environ, **operated.variables})

    def queries() -> list[tuple[object, ...]]:
        return operated.read(
            "select query from pg_stat_activity where query like '%pg_sleep(600)%' and pid <> pg_backend_pid()"
        )

    try:
        assert until(lambda: queries() != [], 200)
        child.send_signal(signal.SIGINT)
        assert child.wait(60) == 130
    finally:
        child.kill()
    assert until(lambda: queries() == [], 5)
    assert operated.last_entry().outcome == "error"
