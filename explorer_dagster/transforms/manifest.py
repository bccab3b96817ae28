"""What do the static models look like to Dagster: dbt's manifest of the project, made without a database.

It names models, tests, descriptions and dependencies for asset specs. Per-tenant models are not in it.

    python -m explorer_dagster.transforms.manifest PROJECT FILE     (what `static_manifest` starts to parse PROJECT into FILE)
"""

import fcntl
import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from explorer_dagster.errors import ExplorerError
from explorer_dagster.settings import Settings
from explorer_dagster.transforms import project, runner


def static_manifest(settings: Settings) -> dict[str, Any]:
    """dbt's manifest (schema v12) of `project_dir/dbt_project`, parsed when that changed, else read from HOME/dbt/manifests.

    Raises:
        TransformFailed: dbt cannot read the project.
    """
    source = settings.project_dir / "dbt_project"
    folder = settings.home / "dbt" / "manifests"
    file = folder / f"{project.content_hash(source)}.json"
    if not file.is_file():
        folder.mkdir(parents=True, exist_ok=True)
        _parse_once(source, file)
    manifest: dict[str, Any] = json.loads(file.read_bytes())
    return manifest


def _parse_once(source: Path, file: Path) -> None:
    """Parse in a process of its own: dbt's parser leaves threads behind, and a process that has had them must not fork workers.

    Of several processes that find no manifest, one parses and the others wait.
    """
    with file.with_suffix(".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if file.is_file():
            return
        command = [sys.executable, "-m", __name__, str(source), str(file)]
        parsed = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
        if parsed.returncode != 0:
            reason = " ".join((parsed.stdout or parsed.stderr).split())[-600:]
            raise runner.TransformFailed(
                f"dbt cannot read the project {source}: {reason}", next_step="Correct the file named there."
            )


def _main(source: str, file: str) -> int:
    target = Path(file)
    with tempfile.TemporaryDirectory(dir=target.parent) as folder:
        try:
            runner.write_manifest(Path(source), Path(folder))
        except ExplorerError as error:
            print(error.message)
            return 1
        (Path(folder) / "manifest.json").replace(target)
    return 0


if __name__ == "__main__":
    sys.exit(_main(*sys.argv[1:]))
