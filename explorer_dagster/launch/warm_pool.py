"""How does a run start in half a second? A process that has imported everything forks one worker per run.

    python -m explorer_dagster.launch.warm_pool

A request is a serialized `ExecuteRunArgs`. `fork_server` handles requests and workers; `launcher` sends requests. When the code
on disk has changed since the import, the pool ends and the launcher uses the default for that run.
"""

import gc
import hashlib
import importlib
import threading
from pathlib import Path

from dagster._cli.api import execute_run_command

from explorer.core.files import write_privately
from explorer.core.home import warm_pool_socket
from explorer.core.settings import Settings, get_settings
from explorer.core.tls import tls_context
from explorer.marts import stand_by, warm_up
from explorer.telemetry.logs import log_to
from explorer_dagster.launch import fork_server

MODULES = (
    "explorer_dagster.instance",
    "explorer_dagster.launch.launcher",
    "explorer_dagster.definitions",
    "dbt.cli.main",
)
_GC_THRESHOLDS = (10_000, 20, 20)


def watched_files(settings: Settings) -> list[Path]:
    """The source files that definitions are built from."""
    root = Path(__file__).resolve().parents[2]
    files = [
        *(path for package in ("explorer", "explorer_dagster") for path in (root / package).rglob("*.py")),
        *(settings.project_dir / "pipelines").glob("*.yml"),
        *(settings.project_dir / "dbt_project").rglob("*.sql"),
        *(settings.project_dir / "dbt_project").rglob("*.yml"),
    ]
    return [file for file in files if "target" not in file.parts]


def fingerprint(settings: Settings) -> str:
    """Changes with every watched file."""
    lines = sorted(f"{file}:{file.stat().st_mtime_ns}" for file in watched_files(settings))
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()


def settle() -> None:
    """Exclude existing objects from garbage collection, and collect rarely: a run's process ends with the run.

    The pool is a program of its own, so these settings are nobody else's.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(*_GC_THRESHOLDS)


def import_everything(settings: Settings) -> None:
    """Import what a run needs, before workers are forked.

    Raises:
        SystemExit: a thread was started.
    """
    for module in MODULES:
        importlib.import_module(module)
    warm_up(settings)
    tls_context()
    if (threads := _threads()) > 1:
        raise SystemExit(f"{threads} threads after the imports: a process with threads must not fork workers.")
    settle()


def main(settings: Settings) -> None:
    """Import everything that a run needs, then serve. Raises: SystemExit."""
    path = warm_pool_socket(settings.home)
    write_privately()
    with fork_server.the_only_one(path) as lock:
        imported = fingerprint(settings)
        import_everything(settings)
        fork_server.serve(path, execute_run, is_current=lambda: fingerprint(settings) == imported, lock=lock)


def execute_run(request: str) -> int:
    """The worker's work: Dagster's own `execute_run` command, as its container launchers call it. Returns 0 when it could run.

    dbt's process is forked first, as long as the worker has no threads.
    """
    settings = get_settings()
    stand_by()
    log_to(settings)
    execute_run_command.main(args=[request], standalone_mode=False)
    return 0


def _threads() -> int:
    """Threads of this process, including native ones where the system shows them."""
    tasks = Path("/proc/self/task")
    return len(list(tasks.iterdir())) if tasks.is_dir() else threading.active_count()


if __name__ == "__main__":
    main(get_settings())
