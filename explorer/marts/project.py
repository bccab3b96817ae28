"""Where is the dbt project, and which version of it is this?"""

import hashlib
from collections.abc import Iterator
from pathlib import Path

from explorer.core.settings import Settings
from explorer.marts.errors import DbtProjectMissing

_FOLDERS = ("models", "macros", "tests")


def find_project(settings: Settings) -> Path:
    """The folder of the dbt project. Raises: DbtProjectMissing."""
    folder = settings.project_dir / "dbt_project"
    if not (folder / "dbt_project.yml").is_file():
        raise DbtProjectMissing(
            f"No dbt project at {folder}.",
            next_step="Set EXPLORER_PROJECT_DIR to the checkout that holds dbt_project/.",
        )
    return folder


def settings_hash(settings: Settings) -> str:
    """A hash of the project's own settings, such as its variables, which any model may read."""
    return hashlib.sha256((find_project(settings) / "dbt_project.yml").read_bytes()).hexdigest()


def content_hash(settings: Settings) -> str:
    """A hash of the whole project."""
    return _hash(_files(find_project(settings)), find_project(settings))


def _files(project: Path) -> Iterator[Path]:
    yield project / "dbt_project.yml"
    for folder in _FOLDERS:
        yield from (path for path in sorted((project / folder).rglob("*")) if path.suffix in (".sql", ".yml", ".csv"))


def _hash(files: Iterator[Path], root: Path) -> str:
    digest = hashlib.sha256()
    for path in files:
        digest.update(path.relative_to(root).as_posix().encode() + b"\0")
        digest.update(hashlib.sha256(path.read_bytes()).digest())
    return digest.hexdigest()
