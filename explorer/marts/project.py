"""What is in one tenant's dbt project? The static models and those generated from its structure, as files.

A file is written only when its text differs, so that dbt parses nothing again when the structure did not change.
"""

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from explorer.contract.materializations import TypeChange
from explorer.contract.schemas import TenantSchemas
from explorer.core.errors import ExplorerError
from explorer.marts.retirement import Retired, retire
from explorer.postgres.connections import Login
from explorer.tables.plan import ChangeKey, TablePlan, TablePlanner
from explorer.tables.values import TableSpec


class DbtProjectMissing(ExplorerError):
    """The folder of the static dbt project is missing."""

    code = "dbt_project_missing"


@dataclass(frozen=True)
class TenantProject:
    """A dbt project on disk. `tables`: its generated models; `retired`: generated tables of earlier builds whose source is gone,
    kept for some time without refresh. `content_hash`, `static_hash`: equal for equal files, of the whole project or of its
    static part. `parsed_before`: folder with dbt's parse of the static models, from which the first parse starts.
    `type_changes`, `digests`: as in `tables.plan.TablePlan`; `change_keys`: of the provider's tables.
    """

    dir: Path
    target_dir: Path
    schemas: TenantSchemas
    tables: tuple[TableSpec, ...]
    content_hash: str
    static_hash: str
    parsed_before: Path | None = None
    retired: tuple[Retired, ...] = ()
    type_changes: tuple[TypeChange, ...] = ()
    digests: Mapping[str, bytes] = field(default_factory=dict)
    change_keys: Mapping[str, ChangeKey] = field(default_factory=dict)


def prepare(
    document: Mapping[str, Any],
    planner: TablePlanner,
    *,
    provider: str,
    dbt_project: Path,
    work_dir: Path,
    schemas: TenantSchemas,
    connection_rw: Login,
    parsed_before: Path | None = None,
) -> TenantProject:
    """Write the tenant's project into `work_dir`, a folder per tenant that is kept between runs.

    `document`: the tenant's discovered structure, `{}` without one; `planner`: that of `provider`, whose name is also the name
    of its models' folder.

    Raises:
        DbtProjectMissing: `dbt_project` holds no dbt_project.yml.
    """
    if not (dbt_project / "dbt_project.yml").is_file():
        raise DbtProjectMissing(
            f"No dbt project at {dbt_project}.",
            next_step="Set EXPLORER_PROJECT_DIR to the checkout that holds dbt_project/.",
        )
    static = _static_files(dbt_project, provider)
    taken = {path.stem for path in static if path.suffix == ".sql"}
    with connection_rw.connect() as connection:
        planned = planner.plan_tables(document, connection, schemas, taken=taken)
        current = taken | {table.name for table in planned.tables}
        prefixes = [family.prefix for family in planner.families]
        gone = retire(connection, schemas.marts, prefixes, current=current, today=datetime.now(UTC).date())
    project = _lay_out(work_dir, schemas, static, planned, planner, parsed_before)
    return replace(project, retired=tuple(gone), type_changes=planned.type_changes)


def example(
    dbt_project: Path, work_dir: Path, parsed_before: Path, provider: str, planner: TablePlanner
) -> TenantProject:
    """A sample project of no tenant with a few tables of the provider, written into `work_dir`, without a database."""
    static = _static_files(dbt_project, provider)
    planned = planner.example({path.stem for path in static})
    return _lay_out(work_dir, TenantSchemas("example"), static, planned, planner, parsed_before)


def _lay_out(
    work_dir: Path,
    schemas: TenantSchemas,
    static: dict[Path, bytes],
    planned: TablePlan,
    planner: TablePlanner,
    parsed_before: Path | None,
) -> TenantProject:
    project, target = work_dir / "project", work_dir / "target"
    project.mkdir(parents=True, exist_ok=True)
    target.mkdir(exist_ok=True)
    files = static | _generated_files(planned.tables)
    _sync(project, files)
    hashes = _content_hash(files), _content_hash(static)
    return TenantProject(
        project,
        target,
        schemas,
        planned.tables,
        *hashes,
        parsed_before,
        digests=planned.digests,
        change_keys=planner.change_keys,
    )


def content_hash(dbt_project: Path, provider: str) -> str:
    """Hash of a provider's static project."""
    return _content_hash(_static_files(dbt_project, provider))


def lay_out_static(dbt_project: Path, provider: str, folder: Path) -> None:
    """Write a provider's static project into an empty folder."""
    _sync(folder, _static_files(dbt_project, provider))


def _static_files(dbt_project: Path, provider: str) -> dict[Path, bytes]:
    """Files shared by all providers (settings, macros, generic tests) and the provider's own models, macros and tests."""
    shared = [
        dbt_project / "dbt_project.yml",
        dbt_project / "profiles.yml",
        *sorted((dbt_project / "macros").glob("*.sql")),
    ]
    shared += _files(dbt_project / "tests" / "generic")
    own = [path for name in ("models", "macros", "tests") for path in _files(dbt_project / name / provider)]
    return {path.relative_to(dbt_project): path.read_bytes() for path in (*shared, *own) if path.is_file()}


def _files(path: Path) -> Iterator[Path]:
    if path.is_file():
        yield path
    elif path.is_dir():
        yield from (child for child in sorted(path.rglob("*")) if child.is_file() and child.suffix in (".sql", ".yml"))


def _generated_files(tables: Sequence[TableSpec]) -> dict[Path, bytes]:
    folder = Path("models/generated")
    files = {folder / f"{table.name}.sql": table.sql.encode() for table in tables}
    return files | {folder / f"{table.name}.yml": table.properties.encode() for table in tables}


def _sync(project: Path, files: dict[Path, bytes]) -> None:
    for path in list(_files(project)):
        if path.relative_to(project) not in files:
            path.unlink()
    for relative, content in files.items():
        path = project / relative
        if not path.is_file() or path.read_bytes() != content:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)


def _content_hash(files: dict[Path, bytes]) -> str:
    digest = hashlib.sha256()
    for path in sorted(files):
        digest.update(path.as_posix().encode() + b"\0" + hashlib.sha256(files[path]).digest())
    return digest.hexdigest()
