"""How a run starts in half a second: a process that imported everything once forks one worker per run.

    python -m explorer_dagster.launch.warm_pool

Listens on a Unix socket in HOME/run that only the owner can open. A request is one serialized `ExecuteRunArgs`; the answer
is the worker's pid, or `stale` when the code on disk has changed since the import: the pool then exits (whoever supervises
it starts a fresh one) and the launcher falls back for that run. Nothing here may start a thread, open a database connection
or a gRPC channel before the fork. What a run does is not here; who asks is `launcher`.
"""

import contextlib
import gc
import hashlib
import importlib
import os
import selectors
import signal
import socket
import sys
import threading
import time
import traceback
from pathlib import Path
from typing import NoReturn

from explorer.core.files import write_privately
from explorer.core.home import warm_pool_socket
from explorer.core.locks import open_lock, try_lock
from explorer.core.settings import Settings, get_settings
from explorer.http.wire import tls_context
from explorer.marts.manifest import warm_up
from explorer.providers import provider_named, provider_names

MODULES = (
    "dagster._cli.api",
    "dagster._core.executor.in_process",
    "sqlalchemy.dialects.postgresql.psycopg2",
    "dagster_postgres",
    "explorer_dagster.instance",
    "explorer_dagster.launch.launcher",
    "explorer_dagster.definitions",
    "dlt.destinations.impl.postgres.postgres",
    "dbt.cli.main",
    "dbt.adapters.postgres",
)
STALE = b"stale"
_GC_THRESHOLDS = (10_000, 20, 20)
_REQUEST_TIMEOUT_S = 5.0
# Less than the supervisor gives the pool itself.
_END_GRACE_S = 2.0


def fingerprint(settings: Settings) -> str:
    """Changes whenever a source file that definitions are built from changes."""
    root = Path(__file__).resolve().parents[2]
    files = [
        *(path for package in ("explorer", "explorer_dagster") for path in (root / package).rglob("*.py")),
        *(settings.project_dir / "pipelines").glob("*.yml"),
        *(settings.project_dir / "dbt_project").rglob("*.sql"),
        *(settings.project_dir / "dbt_project").rglob("*.yml"),
    ]
    lines = sorted(f"{file}:{file.stat().st_mtime_ns}" for file in files if "target" not in file.parts)
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()


def settle() -> None:
    """What is there now stays, and is not looked through for garbage any more; what comes is looked through seldom: a run's
    process ends with it."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(*_GC_THRESHOLDS)


def serve(settings: Settings) -> None:
    """Import, listen, fork per request, until the code on disk has changed or until SIGTERM, which ends the workers too."""
    path = warm_pool_socket(settings.home)
    write_privately()
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    if path.parent.stat().st_uid != os.getuid():
        raise SystemExit(f"{path.parent} belongs to somebody else; remove it or choose another EXPLORER_HOME.")
    lock = _take_lock(path.with_suffix(".lock"))
    imported = fingerprint(settings)
    for module in MODULES:
        importlib.import_module(module)
    for name in provider_names():
        warm_up(settings, provider_named(name).tables)
    tls_context()
    if (threads := _threads()) > 1:
        raise SystemExit(f"{threads} threads after the imports: a process with threads must not fork workers.")
    settle()
    workers: set[int] = set()
    with contextlib.ExitStack() as stack:
        server = stack.enter_context(_listen(path))
        stack.callback(path.unlink, missing_ok=True)
        wakeup = _wake_on_signals()
        selector = stack.enter_context(selectors.DefaultSelector())
        selector.register(server, selectors.EVENT_READ)
        selector.register(wakeup, selectors.EVENT_READ)
        print(f"warm, listening on {path}", flush=True)
        while True:
            for key, _ in selector.select():
                if key.fileobj == wakeup:
                    terminating = signal.SIGTERM in os.read(wakeup, 4096)
                    _reap(workers)
                    if terminating:
                        _end(workers)
                        return
                elif fingerprint(settings) == imported:
                    _fork_worker(server, workers, inherited=(lock, wakeup))
                else:
                    connection, _ = server.accept()
                    with connection, contextlib.suppress(OSError):
                        connection.sendall(STALE)
                    return


def _fork_worker(server: socket.socket, workers: set[int], *, inherited: tuple[int, ...]) -> None:
    """Read one request, fork its worker and answer with the pid."""
    connection, _ = server.accept()
    with connection, contextlib.suppress(TimeoutError, BrokenPipeError, ConnectionResetError):
        connection.settimeout(_REQUEST_TIMEOUT_S)
        payload = b"".join(iter(lambda: connection.recv(65536), b""))
        if not payload:
            return
        pid = os.fork()
        if pid == 0:
            server.close()
            connection.close()
            for fd in inherited:
                os.close(fd)
            _work(payload.decode())
        workers.add(pid)
        connection.sendall(str(pid).encode())


def _work(payload: str) -> NoReturn:
    """The forked worker: Dagster's own `execute_run` command on the payload, then an end without the parent's clean-up."""
    os.setsid()
    signal.set_wakeup_fd(-1)
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    code = 1
    try:
        from dagster._cli.api import execute_run_command

        execute_run_command.main(args=[payload], standalone_mode=False)
        code = 0
    except SystemExit as exit_:
        code = exit_.code if isinstance(exit_.code, int) else 1
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def _threads() -> int:
    """Threads of this process, native ones too where the system tells."""
    tasks = Path("/proc/self/task")
    return len(list(tasks.iterdir())) if tasks.is_dir() else threading.active_count()


def _take_lock(path: Path) -> int:
    fd = open_lock(path)
    if not try_lock(fd):
        raise SystemExit(f"A warm pool is already running ({path}).")
    return fd


def _listen(path: Path) -> socket.socket:
    path.unlink(missing_ok=True)
    server = socket.socket(socket.AF_UNIX)
    previous = os.umask(0o177)
    try:
        server.bind(os.fspath(path))
    finally:
        os.umask(previous)
    server.listen(64)
    return server


def _wake_on_signals() -> int:
    """A file descriptor that turns readable on SIGCHLD and SIGTERM, so that neither can be missed between two selects."""
    read_fd, write_fd = os.pipe()
    os.set_blocking(write_fd, False)
    signal.set_wakeup_fd(write_fd, warn_on_full_buffer=False)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    signal.signal(signal.SIGTERM, lambda *_: None)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    return read_fd


def _reap(workers: set[int]) -> None:
    with contextlib.suppress(ChildProcessError):
        while pid := os.waitpid(-1, os.WNOHANG)[0]:
            workers.discard(pid)


def _end(workers: set[int]) -> None:
    """Interrupt every worker, give it time to cancel its queries and report, then kill what is left."""
    for pid in workers:
        os.kill(pid, signal.SIGTERM)
    deadline = time.monotonic() + _END_GRACE_S
    while workers and time.monotonic() < deadline:
        time.sleep(0.05)
        _reap(workers)
    for pid in workers:
        os.kill(pid, signal.SIGKILL)


if __name__ == "__main__":
    serve(get_settings())
