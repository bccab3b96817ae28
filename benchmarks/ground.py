"""The environment of the benchmarks: an embedded Postgres in a temporary home, tenants, the demo server, measured processes.

Everything is made for the run and removed after it. Measured work and the server run in processes of their own.
"""

import contextlib
import json
import os
import secrets
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

from psycopg import sql

from benchmarks.job import benchmark_settings
from explorer.catalog import Keyring
from explorer.contract.schemas import TenantSchemas
from explorer.postgres.bootstrap import ensure_database
from explorer.postgres.connections import Connections
from explorer.postgres.embedded import EmbeddedPostgres
from explorer.postgres.provisioning import deprovision, new_prefix, provision
from explorer_cli.platform.environment import MEMORY

ROOT = Path(__file__).parents[1]
SEED = 1
_MEMORY_EVERY_S = 0.2
_LOG_MB = 512
_END_TIMEOUT_S = 20.0
# Loading millions of rows is the longest time without a line; an unattended run must still end.
_ANSWER_TIMEOUT_S = 1800.0

OnProgress = Callable[[int], None]


class ChildFailed(Exception):
    """A process of the benchmark ended early; the message has the end of its output."""


class Child:
    """A Python module in a process of its own that exchanges JSON lines. Secrets go through the pipe, never in arguments."""

    def __init__(self, module: str, first: dict[str, Any], log: Path, **variables: str) -> None:
        self._module, self._log = module, log
        # The run measures the defaults, not somebody's settings.
        env = {name: value for name, value in os.environ.items() if not name.startswith(("EXPLORER_", "DAGSTER_"))}
        env |= {**MEMORY, **variables}
        with log.open("ab") as errors:
            self._process = subprocess.Popen(
                [sys.executable, "-m", module],
                cwd=ROOT, env=env, text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=errors,
            )  # fmt: skip
        self.hello = self.ask(first)

    @property
    def pid(self) -> int:
        return self._process.pid

    def ask(self, message: dict[str, Any]) -> dict[str, Any]:
        """Send a line and return the answer."""
        self.send(message)
        return self.read()

    def send(self, message: dict[str, Any]) -> None:
        if self._process.stdin is None:
            raise ChildFailed(f"{self._module} has no stdin")
        with contextlib.suppress(BrokenPipeError):
            print(json.dumps(message), file=self._process.stdin, flush=True)

    def read(self) -> dict[str, Any]:
        """The next line. Raises ChildFailed with the end of the log when there is none."""
        timer = threading.Timer(_ANSWER_TIMEOUT_S, self._process.kill)
        timer.daemon = True
        timer.start()
        line = self._process.stdout.readline() if self._process.stdout else ""
        timer.cancel()
        if not line:
            log_tail = self._log.read_text(errors="replace")[-2000:]
            raise ChildFailed(f"{self._module} ended with status {self._process.wait()}:\n{log_tail}")
        answer: dict[str, Any] = json.loads(line)
        return answer

    def end(self) -> None:
        """Close its stdin, and kill it if it does not end."""
        for stream in (self._process.stdin, self._process.stdout):
            if stream:
                with contextlib.suppress(BrokenPipeError):
                    stream.close()
        try:
            self._process.wait(_END_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()


@dataclass(frozen=True)
class Tenant:
    """A tenant's schemas in the database, with its rw login."""

    names: TenantSchemas
    password: str = field(repr=False)

    def table(self, name: str) -> tuple[str, str]:
        """Schema and name of a raw table."""
        return self.names.schema("raw"), name


@dataclass(frozen=True)
class Prepared:
    """Rows of one table as COPY text."""

    file: Path
    columns: tuple[str, ...]
    rows: int


class Server:
    """The demo server's process; `address` has url, username and api_key."""

    def __init__(self, child: Child) -> None:
        self._child = child
        self.address = child.hello

    def order(self, name: str, **arguments: Any) -> Any:
        """Send an order; see `server.Orders`."""
        return self._child.ask({"order": name, **arguments})["answer"]


class Worker:
    """A measured process that can do its job any number of times."""

    def __init__(self, child: Child) -> None:
        self._child = child

    @property
    def pid(self) -> int:
        return self._child.pid

    def memory_mb(self) -> float:
        """Its present resident memory."""
        return resident_mb(self.pid)

    def go(self, run_id: str = "benchmark", on_progress: OnProgress | None = None) -> dict[str, Any]:
        """Do the job once and return its result."""
        self._child.send({"run_id": run_id})
        while "result" not in (answer := self._child.read()):
            if on_progress:
                on_progress(answer["progress"])
        result: dict[str, Any] = answer["result"]
        return result

    def go_watched(self, on_progress: OnProgress | None = None) -> tuple[dict[str, Any], list[tuple[float, float]]]:
        """Like `go`, and also returns (seconds, resident MB) five times a second."""
        samples: list[tuple[float, float]] = []
        done, began = threading.Event(), time.perf_counter()

        def watch() -> None:
            while not done.wait(_MEMORY_EVERY_S):
                samples.append((time.perf_counter() - began, self.memory_mb()))

        thread = threading.Thread(target=watch, name="memory", daemon=True)
        thread.start()
        try:
            return self.go(on_progress=on_progress), samples
        finally:
            done.set()
            thread.join()


class Ground:
    """A context manager. `fsync=False` spares the disk in tests of the benchmarks themselves."""

    def __init__(self, *, fsync: bool = True) -> None:
        self._folder = Path(tempfile.mkdtemp(prefix="explorer-benchmarks-"))
        # When root starts it, the database runs as another account, which must be able to enter this folder.
        self._folder.chmod(0o711)
        self._home = self._folder / "home"
        self._fsync = fsync
        self.files = self._folder / "files"
        self.files.mkdir(mode=0o700)
        self.connections: Connections

    def __enter__(self) -> Self:
        try:
            server = EmbeddedPostgres(self._home, fsync=self._fsync)
            settings = benchmark_settings(self._home)
            self.connections = ensure_database(settings, server=server)
            Keyring.make(settings)
            if self._fsync:
                self._use_log()
        except BaseException:
            self._remove()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self._remove()

    @contextlib.contextmanager
    def server(self, cases: int) -> Iterator[Server]:
        """Start the demo server with `cases` cases and about as many forms."""
        first = {"cases": cases, "seed": SEED}
        child = Child("benchmarks.server", first, self._folder / "server.log")
        try:
            yield Server(child)
        finally:
            child.end()

    @contextlib.contextmanager
    def tenant(self) -> Iterator[Tenant]:
        """Make a tenant without tables."""
        tenant = Tenant(TenantSchemas(new_prefix()), secrets.token_urlsafe(16))
        prefix = tenant.names.prefix
        with self.connections.admin.connect(autocommit=True) as admin:
            provision(admin, prefix, rw_password=tenant.password, ro_password=secrets.token_urlsafe(16))
        try:
            yield tenant
        finally:
            with self.connections.admin.connect(autocommit=True) as admin:
                deprovision(admin, prefix)

    @contextlib.contextmanager
    def loader(
        self, tenant: Tenant, server: Server, resources: Sequence[str], changes: dict[str, dict[str, Any]] | None = None
    ) -> Iterator[Worker]:
        """Start a process that loads `resources` into the tenant. `changes`: per source of the pipeline the changed fields."""
        job = {
            "kind": "load", "server": server.address, "resources": list(resources), "changes": changes or {},
            "prefix": tenant.names.prefix, "work_dir": str(self.files / "work"),
        }  # fmt: skip
        with self._worker(job, tenant) as worker:
            yield worker

    @contextlib.contextmanager
    def transformer(self, tenant: Tenant, structure: dict[str, Any]) -> Iterator[Worker]:
        """Start a warm process that builds the tenant's tables for applications with this structure."""
        job = {"kind": "transform", "structure": structure, "prefix": tenant.names.prefix}
        with self._worker(job, tenant) as worker:
            yield worker

    def copy_alone(self, tenant: Tenant, tables: dict[str, Prepared], like: Tenant) -> dict[str, Any]:
        """COPY `tables` into new tables that are defined like those of `like`. Returns `{"wall_s", "rows"}`."""
        parts = []
        for name, prepared in tables.items():
            self._make_like(tenant, name, like)
            parts.append({"table": tenant.table(name), "columns": prepared.columns, "file": str(prepared.file)})
        self.settle()
        with self._worker({"kind": "copy", "parts": parts}, tenant) as worker:
            return worker.go()

    def _use_log(self) -> None:
        """Fill the write-ahead log, so that a measured load reuses its files as on a server that has run for days."""
        with self.connections.admin.connect(autocommit=True) as admin:
            admin.execute(
                "SELECT count(pg_logical_emit_message(false, 'benchmark', repeat('.', 1000000))) FROM generate_series(1, %s)",
                [_LOG_MB],
            )
        self.settle()

    def _make_like(self, tenant: Tenant, name: str, like: Tenant) -> None:
        """Make a table with the columns, types, keys, indexes and storage options of the other tenant's table."""
        place, other = sql.Identifier(*tenant.table(name)), sql.Identifier(*like.table(name))
        with self.connections.admin.connect(autocommit=True) as admin:
            options = "SELECT unnest(reloptions) FROM pg_class WHERE oid = %s::regclass"
            stored = [sql.SQL(option) for (option,) in admin.execute(options, [other.as_string(admin)])]
            admin.execute(sql.SQL("CREATE TABLE {} (LIKE {} INCLUDING ALL)").format(place, other))
            for option in stored:
                admin.execute(sql.SQL("ALTER TABLE {} SET ({})").format(place, option))
            admin.execute(sql.SQL("ALTER TABLE {} OWNER TO {}").format(place, sql.Identifier(tenant.names.rw)))

    @contextlib.contextmanager
    def requester(self, server: Server, requests: Sequence[str]) -> Iterator[Worker]:
        """Start a process that sends `requests` and does nothing else."""
        with self._worker({"kind": "requests", "server": server.address, "requests": list(requests)}) as worker:
            yield worker

    def prepare(self, tenant: Tenant, table: str, run_id: str | None = None) -> Prepared:
        """Write the table's rows (or those of one run) to a file of COPY text."""
        with self.connections.admin.connect(autocommit=True) as admin:
            names = "SELECT column_name FROM information_schema.columns WHERE table_schema = %s AND table_name = %s"
            columns = tuple(
                name for (name,) in admin.execute(names + " ORDER BY ordinal_position", tenant.table(table))
            )
            chosen = sql.SQL("SELECT {} FROM {}").format(
                sql.SQL(", ").join(map(sql.Identifier, columns)), sql.Identifier(*tenant.table(table))
            )
            if run_id is not None:
                chosen += sql.SQL(" WHERE _run_id = {}").format(run_id)
            path = self.files / f"{table}.{run_id or 'all'}.txt"
            with path.open("wb") as file, admin.cursor() as cursor:
                with cursor.copy(sql.SQL("COPY ({}) TO STDOUT").format(chosen)) as copy:
                    for block in copy:
                        file.write(block)
                return Prepared(path, columns, cursor.rowcount)

    def count(self, tenant: Tenant, table: str) -> int:
        """The number of rows of a raw table."""
        with self.connections.admin.connect(autocommit=True) as admin:
            query = sql.SQL("SELECT count(*) FROM {}").format(sql.Identifier(*tenant.table(table)))
            row = admin.execute(query).fetchone()
        return int(row[0]) if row else 0

    def settle(self) -> None:
        """Make the database write its pending data to disk, so that the next measurement does not include that."""
        with self.connections.admin.connect(autocommit=True) as admin:
            admin.execute("CHECKPOINT")

    def vacuum(self) -> None:
        """Do at once what autovacuum does within a minute, so that the next measurement does not include that."""
        with self.connections.admin.connect(autocommit=True) as admin:
            admin.execute("VACUUM (ANALYZE)")

    @contextlib.contextmanager
    def _worker(self, job: dict[str, Any], tenant: Tenant | None = None) -> Iterator[Worker]:
        if tenant:
            job |= {"user": tenant.names.rw, "password": tenant.password}
        child = Child("benchmarks.worker", {**job, "home": str(self._home)}, self._folder / "worker.log")
        try:
            yield Worker(child)
        finally:
            child.end()

    def _remove(self) -> None:
        EmbeddedPostgres(self._home).remove_data()
        shutil.rmtree(self._folder)


def resident_mb(pid: int) -> float:
    """Resident memory of a process; 0 when the process is gone."""
    in_pages = Path(f"/proc/{pid}/statm")
    try:
        if in_pages.exists():
            return int(in_pages.read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 2**20
        shown = subprocess.run(["/bin/ps", "-o", "rss=", "-p", str(pid)], capture_output=True, text=True, check=True)
        return int(shown.stdout) / 1024
    except (OSError, ValueError, subprocess.CalledProcessError):
        return 0.0
