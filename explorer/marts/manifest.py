"""What do the static models look like to Dagster? dbt's manifest of the project, made without a database.

It holds models, tests, descriptions and dependencies for asset specs. Column lineage lies beside it. Generated models of tenants
are not in it.

    python -m explorer.marts.manifest PROJECT PROVIDER FOLDER     (what `static_manifest` starts: parsed into FOLDER)
"""

import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import msgspec

from explorer.contract.bookkeeping.lineage import Lineage
from explorer.core.errors import ExplorerError
from explorer.core.locks import file_lock
from explorer.core.settings import Settings
from explorer.marts import column_lineage, project, sql_lineage
from explorer.marts.dbt import runner
from explorer.marts.dbt.errors import TransformFailed
from explorer.marts.dbt.parsing import write_manifest
from explorer.tables.plan import TablePlanner

_LINEAGE = f"lineage-{column_lineage.FORMAT}.json"


def static_manifest(settings: Settings, provider: str) -> dict[str, Any]:
    """dbt's manifest (schema v12) of a provider's models in `project_dir/dbt_project`; parsed again only after a change.

    Raises:
        TransformFailed: dbt cannot read the project.
    """
    manifest: dict[str, Any] = json.loads((static_parse(settings, provider) / "manifest.json").read_bytes())
    return manifest


def static_lineage(settings: Settings, provider: str) -> Lineage:
    """Column lineage of the static models, by relation; computed from their SQL once per content of the project.

    Raises:
        TransformFailed: dbt cannot read the project.
    """
    return msgspec.json.decode((static_parse(settings, provider) / _LINEAGE).read_bytes(), type=Lineage)


def warm_up(settings: Settings, provider: str, planner: TablePlanner) -> None:
    """Fill dbt's caches in this process, for the workers forked from it: this saves each run some two seconds, and a tenant's
    first run two more.

    Raises:
        TransformFailed: dbt cannot read the project.
    """
    with tempfile.TemporaryDirectory() as scratch:
        runner.warm_up(
            project.example(
                settings.project_dir / "dbt_project", Path(scratch), static_parse(settings, provider), provider, planner
            )
        )


def static_parse(settings: Settings, provider: str) -> Path:
    """The folder, one per content of the project, that holds dbt's manifest.json and partial_parse.msgpack, and the lineage.

    Raises:
        TransformFailed: dbt cannot read the project.
    """
    source = settings.project_dir / "dbt_project"
    folder = settings.home / "dbt" / "manifests" / project.content_hash(source, provider)
    if not (folder / _LINEAGE).is_file():
        folder.parent.mkdir(parents=True, exist_ok=True)
        _parse_once(source, provider, folder)
    return folder


def _parse_once(source: Path, provider: str, folder: Path) -> None:
    """Parse in a child process: dbt's parser leaves threads behind, and a process with threads must not fork workers.

    When several processes need the same parse, one does it and the others wait.
    """
    with file_lock(folder.with_suffix(".lock")):
        if (folder / _LINEAGE).is_file():
            return
        command = [sys.executable, "-m", __name__, str(source), provider, str(folder)]
        parsed = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
        if parsed.returncode != 0:
            reason = " ".join((parsed.stdout or parsed.stderr).split())[-600:]
            raise TransformFailed(
                f"dbt cannot read the project {source}: {reason}", next_step="Correct the file named there."
            )


def _main(source: str, provider: str, folder: str) -> int:
    with tempfile.TemporaryDirectory(dir=Path(folder).parent) as scratch:
        static, target = Path(scratch) / "project", Path(scratch) / "target"
        project.lay_out_static(Path(source), provider, static)
        try:
            manifest = write_manifest(static, target)
            lineage = sql_lineage.lineage_of(sql_lineage.render(manifest))
            (target / _LINEAGE).write_bytes(msgspec.json.encode(lineage))
        except ExplorerError as error:
            print(error.message)
            return 1
        # A folder of an earlier version of the platform may be in use, and its content is the same.
        if Path(folder).is_dir():
            (target / _LINEAGE).rename(Path(folder) / _LINEAGE)
        else:
            target.rename(folder)
    return 0


if __name__ == "__main__":
    sys.exit(_main(*sys.argv[1:]))
