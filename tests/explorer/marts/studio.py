"""A tenant with tables made by hand, and a dbt project of the real settings and macros with models of a test."""

import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from explorer.contract.bookkeeping import builds
from explorer.core.settings import Settings
from explorer.marts import Built, Models, TenantDbt, build, manifest
from explorer.postgres.connections import Connections
from explorer.tables.engine.results import TableResult
from tests.conftest import Tenant

DBT_PROJECT = Path(__file__).resolve().parents[3] / "dbt_project"
PROVIDER = "commcare"


@dataclass(frozen=True)
class Studio:
    """`folder`: of dbt_project/ and the HOME."""

    tenant: Tenant
    connections: Connections
    settings: Settings

    @property
    def dbt(self) -> TenantDbt:
        return TenantDbt(self.settings, PROVIDER, self.tenant.names, self.tenant.rw)

    @property
    def project(self) -> Path:
        return self.settings.project_dir / "dbt_project"

    def clear(self) -> None:
        """Take away the tenant's tables and the project's models and tests."""
        with self.tenant.rw.connect() as connection:
            builds.read(connection, self.tenant.names)
            builds.forget(connection, self.tenant.names, list(builds.read(connection, self.tenant.names)))
            for schema in (self.tenant.names.marts, self.tenant.names.staging):
                query = (
                    "select relkind, relname from pg_class where relnamespace = %s::regnamespace"
                    " and relkind in ('r', 'v') and not starts_with(relname, 'explorer_')"
                )
                for kind, name in connection.execute(query, [schema]).fetchall():
                    drop = f'drop {"view" if kind == "v" else "table"} if exists {schema}."{name}" cascade'
                    connection.execute(drop.encode())
        shutil.rmtree(self.project)
        copy_project(self.settings.project_dir)

    def write(self, files: dict[str, str] | None = None, **models: str) -> None:
        """Write models, and other `files` by their paths in the project."""
        named = {f"models/{PROVIDER}/marts/{name}.sql": text for name, text in models.items()}
        for path, text in (named | (files or {})).items():
            target = self.project / path
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_text(text)

    def make_table(self, name: str, query: str) -> None:
        """Make a table of the tenant anew, or change its rows, and record it as an update does."""
        with self.tenant.rw.connect() as connection:
            builds.read(connection, self.tenant.names)
            connection.execute(
                f"create table if not exists {self.tenant.names.marts}.{name} as {query} limit 0".encode()
            )
            connection.execute(f"delete from {self.tenant.names.marts}.{name}".encode())
            connection.execute(f"insert into {self.tenant.names.marts}.{name} {query}".encode())
            builds.record(connection, self.tenant.names, name, definition="d", built_from={}, run_id="tables", rows=0)

    def build(
        self,
        wanted: set[str] | None = None,
        *,
        by_need: bool = True,
        run_id: str = "run-1",
        on_plan: Callable[[str], None] = lambda _: None,
        on_result: Callable[[TableResult], None] = lambda _: None,
    ) -> Built:
        return build(
            self.dbt,
            Models(manifest(self.settings, PROVIDER)),
            wanted=wanted,
            by_need=by_need,
            run_id=run_id,
            on_plan=on_plan,
            on_result=on_result,
        )

    def verbs(self, **arguments: Any) -> dict[str, str]:
        """What a build did to each model."""
        return {name: result.verb for name, result in self.build(**arguments).results.items()}

    def read(self, query: str) -> list[tuple[Any, ...]]:
        """What the tenant's agents see."""
        with self.tenant.ro.connect() as connection:
            return connection.execute(query.encode()).fetchall()

    def queries(self) -> list[tuple[Any, ...]]:
        """The sessions of dbt: state and last query."""
        with self.connections.admin.connect() as connection:
            query = "select state, query from pg_stat_activity where usename = %s and application_name = 'explorer-dbt'"
            return connection.execute(query, [self.tenant.rw.user]).fetchall()


def copy_project(project_dir: Path) -> None:
    """The real project without its models."""
    shutil.copytree(DBT_PROJECT, project_dir / "dbt_project", ignore=shutil.ignore_patterns("models", "target", "logs"))
    (project_dir / "dbt_project" / "models").mkdir()


def until(condition: Callable[[], bool], limit_s: float) -> bool:
    """Whether the condition came true in time."""
    deadline = time.monotonic() + limit_s
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.02)
    return True
