"""What do the static models look like to Dagster: dbt's manifest of the project, made without a database.

It names models, tests, descriptions and dependencies for asset specs. Per-tenant models are not in it.
"""

import json
import shutil
import tempfile
from importlib.metadata import version
from pathlib import Path
from typing import Any

from explorer_dagster.settings import Settings
from explorer_dagster.transforms import project, runner


def static_manifest(settings: Settings) -> dict[str, Any]:
    """dbt's manifest (schema v12) of `project_dir/dbt_project`; parsed when the project changed, else read from
    HOME/dbt/manifests.

    Raises:
        TransformFailed: dbt cannot read the project.
    """
    source = settings.project_dir / "dbt_project"
    folder = settings.home / "dbt" / "manifests"
    file = folder / f"{project.content_hash(source)[:32]}-dbt-{version('dbt-core')}.json"
    if not file.is_file():
        folder.mkdir(parents=True, exist_ok=True)
        _parse_to(source, file)
    manifest: dict[str, Any] = json.loads(file.read_bytes())
    return manifest


def _parse_to(source: Path, file: Path) -> None:
    with tempfile.TemporaryDirectory(dir=file.parent) as target:
        runner.write_manifest(source, Path(target))
        shutil.move(Path(target) / "manifest.json", file)
