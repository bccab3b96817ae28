"""dbt's command lines."""

from collections.abc import Sequence
from pathlib import Path

from explorer.marts.project import TenantProject

BUILD = "build"
_GLOBAL = (
    "--log-level",
    "none",
    "--no-use-colors",
    "--no-version-check",
    "--no-send-anonymous-usage-stats",
    "--log-level-file",
    "none",
)


def run_arguments(
    project: TenantProject, command: Sequence[str], select: Sequence[str] | None, threads: int
) -> list[str]:
    """`command` for the models `select` (None: all), with `threads` connections."""
    paths = _paths(project.dir, project.target_dir)
    arguments = [*_GLOBAL, "--no-write-json", *command, *paths, "--threads", str(threads)]
    if command[0] == BUILD:
        arguments += ["--exclude-resource-type", "unit_test"]
    return [*arguments, "--select", *select] if select else arguments


def parse_arguments(folder: Path, target: Path, *options: str) -> list[str]:
    """Parse the project in `folder` into `target`."""
    return [*_GLOBAL, *options, "parse", *_paths(folder, target)]


def _paths(folder: Path, target: Path) -> list[str]:
    return [
        "--project-dir",
        str(folder),
        "--profiles-dir",
        str(folder),
        "--target-path",
        str(target),
        "--log-path",
        str(target),
    ]
