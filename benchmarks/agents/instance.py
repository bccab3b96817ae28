"""An instance with tenants, their tables and a finished run each: the real Dagster and the real bridge over HTTP."""

import os
import shutil
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
from psycopg import sql

from benchmarks.ground import ROOT, Child, ChildFailed, Ground
from benchmarks.job import benchmark_settings
from explorer.catalog import ApiKeyCredential, Catalog, State, Tenant, migrate
from explorer.contract.bookkeeping import columns as kept_columns
from explorer.contract.schemas import TenantSchemas
from explorer.core.ports import free_port
from explorer.postgres.connections import Login
from explorer.providers.base import Access
from explorer.providers.commcare.provider import CommCare
from explorer.providers.commcare.structure import CaseType, Form, Option, Question, Structure
from explorer.providers.commcare.tables.plan import generate_tables
from explorer.providers.commcare.tables.profile import Profile
from explorer.tables.column_facts import facts_of
from explorer.tables.values import TableSpec
from explorer.tenants import add_tenant

JOB = "commcare_sync"
_START_TIMEOUT_S = 120.0
_QUESTIONS = 10


class _Unasked(CommCare):
    """A provider that accepts every tenant without asking a server."""

    def verify_access(self, *_: Any, **__: Any) -> Access:
        return Access("user@example.org", "Benchmark")


@dataclass(frozen=True)
class Bridge:
    """A running bridge: its address without a path, and its process."""

    url: str
    pid: int


class Instance:
    """Tenants with tables and a Dagster history in the benchmark's own database. `runs`: tenant key to run id; `tokens`: of an
    agent by tenant key; `owners`: login that owns the schemas, and their names."""

    def __init__(self, ground: Ground, tenants: int, tables: int) -> None:
        self._ground = ground
        self._home = ground.files.parent / "home"
        self._settings = benchmark_settings(self._home)
        self.tables = generated_tables(tables)
        self.runs = {f"bench:t{number:04}": str(uuid.uuid4()) for number in range(tenants)}
        self.events = 0
        self.tokens: dict[str, str] = {}
        self.owners: dict[str, tuple[Login, TenantSchemas]] = {}
        self._dagster_url = f"http://127.0.0.1:{free_port()}"

    def __enter__(self) -> "Instance":
        migrate(self._ground.connections)
        with Catalog.open(self._settings) as catalog:
            for key, run_id in self.runs.items():
                tenant = self._tenant(catalog, key, run_id)
                self.tokens[key] = catalog.principals.create_token(f"agent of {key}", [tenant])
        self._write_history()
        self._ground.settle()
        return self

    def __exit__(self, *_: object) -> None:
        """Does nothing: `Ground` removes everything."""

    def _tenant(self, catalog: Catalog, key: str, run_id: str) -> Tenant:
        tenant = add_tenant(
            self._settings, catalog, self._ground.connections, _Unasked(), key=key, server="http://127.0.0.1:9",
            external_id=key.replace(":", "-"), credential=ApiKeyCredential("user@example.org", "0123456789abcdef"),
        )  # fmt: skip
        login, schema = catalog.schemas.rw_login(tenant), catalog.schemas.get(tenant)
        owner = self._ground.connections.tenant(login.user, login.password), TenantSchemas(schema.prefix)
        self.owners[key] = owner
        _fill(*owner, self.tables)
        catalog.schemas.transition(tenant, {State.ACTIVE}, State.MATERIALIZING, run_id=run_id)
        catalog.schemas.transition(tenant, {State.MATERIALIZING}, State.ACTIVE, run_id=run_id)
        return tenant

    def _write_history(self) -> None:
        folder = self._home / "dagster"
        folder.mkdir(exist_ok=True)
        shutil.copyfile(ROOT / "dagster.yaml", folder / "dagster.yaml")
        listed = [
            {"name": t.name, "kind": t.kind, "source": t.source, "description": t.description, "row_count": 20,
             "status": "success"}
            for t in self.tables
        ]  # fmt: skip
        child = Child(
            "benchmarks.agents.dagster_history",
            {"runs": self.runs, "job": JOB, "tables": listed},
            self._ground.files / "history.log",
            EXPLORER_HOME=str(self._home),
            DAGSTER_HOME=str(folder),
        )
        self.events = child.hello["events"]
        child.end()

    @contextmanager
    def served(self) -> Iterator[Bridge]:
        """Start Dagster and the bridge."""
        port = self._dagster_url.rpartition(":")[2]
        webserver = [sys.executable, "-m", "explorer_dagster.webserver", "--host", "127.0.0.1", "--port", port]
        with ExitStack() as stack:
            stack.enter_context(self._process([*webserver, "-w", str(ROOT / "workspace.yaml")]))
            _wait(lambda: _answers(f"{self._dagster_url}/server_info"), "Dagster", self._ground.files)
            yield stack.enter_context(self.bridge())

    @contextmanager
    def bridge(self, **settings: str) -> Iterator[Bridge]:
        """Start another bridge, with these settings; Dagster is served already."""
        port_file = self._ground.files / f"port-{free_port()}"
        command = [sys.executable, "-m", "mcp_bridge", "--transport", "streamable-http", "--port", "0"]
        with self._process(
            [*command, "--port-file", str(port_file)], EXPLORER_DAGSTER_URL=self._dagster_url, **settings
        ) as pid:
            _wait(port_file.exists, "the bridge", self._ground.files)
            url = f"http://127.0.0.1:{port_file.read_text().strip()}"
            _wait(lambda: _answers(f"{url}/healthz"), "the bridge", self._ground.files)
            yield Bridge(url, pid)

    @contextmanager
    def _process(self, command: list[str], **variables: str) -> Iterator[int]:
        env = {name: value for name, value in os.environ.items() if not name.startswith(("EXPLORER_", "DAGSTER_"))}
        env |= {"EXPLORER_HOME": str(self._home), "DAGSTER_HOME": str(self._home / "dagster"), **variables}
        with (self._ground.files / "served.log").open("ab") as log:
            process = subprocess.Popen(command, cwd=ROOT, env=env, stdout=log, stderr=log)
        try:
            yield process.pid
        finally:
            process.send_signal(signal.SIGINT)
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def generated_tables(count: int) -> list[TableSpec]:
    """The generated tables of a project space of this size: two fifths case types, the rest forms."""
    case_types = tuple(
        CaseType(f"case type {number}", tuple(f"property_{i}" for i in range(_QUESTIONS)), ("a",))
        for number in range(count * 2 // 5)
    )
    forms = tuple(_form(number) for number in range(count - len(case_types)))
    return generate_tables(Structure(apps=(), case_types=case_types, forms=forms), Profile(), taken=())


def _form(number: int) -> Form:
    options = (Option("y", "Yes", {"hi": "हाँ"}), Option("n", "No", {"hi": "नहीं"}))
    questions = tuple(
        Question(
            (f"question_{i}",), f"What is the weight of child {i}?", ("Select", "Int", "Date", "Text")[i % 4],
            {"hi": f"बच्चे {i} का वजन"}, options if i % 4 == 0 else (),
        )
        for i in range(_QUESTIONS)
    )  # fmt: skip
    title = f"Form {number}"
    return Form(f"http://example.org/{number}", {"en": title}, title, "a", "App", "Module", None, questions)


def _fill(login: Login, schemas: TenantSchemas, tables: list[TableSpec]) -> None:
    """Make the tables with comments, twenty rows, statistics, and the stored labels of their columns."""
    with login.connect(autocommit=True) as connection:
        for table in tables:
            place = sql.Identifier(schemas.marts, table.name)
            columns = [sql.SQL("{} {}").format(sql.Identifier(c.name), sql.SQL(c.type)) for c in table.columns]
            key = sql.Identifier(table.columns[0].name)
            parts = [
                sql.SQL("CREATE TABLE {} ({})").format(place, sql.SQL(", ").join(columns)),
                sql.SQL("INSERT INTO {} ({}) SELECT 'id ' || i FROM generate_series(1, 20) i").format(place, key),
                sql.SQL("COMMENT ON TABLE {} IS {}").format(place, table.description),
                *(
                    sql.SQL("COMMENT ON COLUMN {}.{} IS {}").format(place, sql.Identifier(c.name), c.description)
                    for c in table.columns
                ),
                sql.SQL("ANALYZE {}").format(place),
            ]
            connection.execute(sql.SQL("; ").join(parts))
        kept_columns.write(connection, schemas, facts_of(tables))


def _answers(url: str) -> bool:
    try:
        # The webserver is open to programs with its token only.
        return httpx.get(url, trust_env=False, timeout=5).status_code in (200, 401)
    except httpx.HTTPError:
        return False


def _wait(ready: Callable[[], bool], what: str, folder: Path) -> None:
    deadline = time.monotonic() + _START_TIMEOUT_S
    while not ready():
        if time.monotonic() > deadline:
            raise ChildFailed(f"{what} did not start:\n{(folder / 'served.log').read_text(errors='replace')[-2000:]}")
        time.sleep(0.1)
