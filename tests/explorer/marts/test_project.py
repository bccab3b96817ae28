"""The content of a tenant's dbt project: its provider's models, its planner's tables, and the shared files."""

from collections.abc import Callable
from pathlib import Path

from explorer.contract.schemas import TenantSchemas
from explorer.marts.project import prepare
from explorer.tables.plan import NoTables, TablePlan
from tests.explorer.workshop import DBT_PROJECT, Workshop


def test_a_provider_without_models_and_tables_has_an_empty_project(
    make_workshop: Callable[[], Workshop], tmp_path: Path
) -> None:
    workshop = make_workshop()
    project = prepare(
        {"anything": 1},
        NoTables(),
        provider="nobody",
        dbt_project=DBT_PROJECT,
        work_dir=tmp_path,
        schemas=TenantSchemas(workshop.tenant.prefix),
        connection_rw=workshop.tenant.rw,
    )
    assert (project.tables, project.retired, project.type_changes, project.digests) == ((), (), (), {})
    files = {path.relative_to(project.dir).as_posix() for path in project.dir.rglob("*") if path.is_file()}
    assert {"dbt_project.yml", "profiles.yml", "macros/raw.sql", "tests/generic/primary_key.sql"} <= files
    assert not any(name.startswith(("models/", "macros/commcare/")) for name in files)
    planner = NoTables()
    assert planner.example({"cases"}) == TablePlan()
    with workshop.tenant.rw.connect() as connection:
        planner.mark_reported(connection, TenantSchemas(workshop.tenant.prefix))


def test_files_that_belong_no_longer_leave_the_project(make_workshop: Callable[[], Workshop], tmp_path: Path) -> None:
    workshop = make_workshop()
    # As a version before laid it out.
    old = tmp_path / "project" / "models" / "marts" / "cases.sql"
    old.parent.mkdir(parents=True)
    old.write_text("select 1 as case_id")
    prepare(
        {},
        NoTables(),
        provider="commcare",
        dbt_project=DBT_PROJECT,
        work_dir=tmp_path,
        schemas=TenantSchemas(workshop.tenant.prefix),
        connection_rw=workshop.tenant.rw,
    )
    assert not old.exists()
    assert (tmp_path / "project" / "models" / "commcare" / "marts" / "cases.sql").is_file()
