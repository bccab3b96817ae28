"""The benchmark of metadata: how long an agent waits for the descriptions of tables in an instance with many tenants.

The real bridge over HTTP, the real Dagster with the project's definitions and a finished run per tenant, PostgreSQL with every
table, its comments and its statistics. Times are those of the client, the protocol included.

An agent works on one tenant with a token of its own: it lists the tables, describes some of them, searches. First it visits
every tenant once, while the bridge knows nothing about it; then it visits random tenants. The first visits are a measure of
their own: each tenant has only one, because the bridge reads ahead what runs write to tenants in use.
"""

import asyncio
import json
import os
import random
import shutil
import signal
import statistics
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
import httpx2
from mcp.client import Client
from mcp.client.streamable_http import streamable_http_client
from psycopg import sql

from benchmarks.ground import ROOT, SEED, Child, ChildFailed, Ground
from benchmarks.job import benchmark_settings
from benchmarks.loading import Scale
from benchmarks.results import Claim, Measure, Result
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

Step = Callable[[str], Callable[[int], None]]
_JOB = "commcare_sync"
_GOAL_MS = 50
_GOAL_TOKENS = 8000
_CHARS_PER_TOKEN = 3.5
_START_TIMEOUT_S = 120.0
_QUESTIONS = 10


@dataclass(frozen=True)
class Size:
    """`sessions`: visits of an agent to a tenant drawn at random, after the first to each."""

    tenants: int
    tables: int
    sessions: int


SIZES = {"tiny": Size(2, 6, 2), "small": Size(40, 100, 60), "full": Size(1000, 100, 500)}
_TOOLS = ("list_tables", "describe_table", "search_metadata", "get_metadata")
_DESCRIBED = 4


def metadata(ground: Ground, scale: Scale, step: Step) -> Result:
    """What list_tables, describe_table and others take an agent's client, with many tenants of many tables in the instance."""
    size = SIZES[scale.name]
    result = Result("metadata")
    step(f"{size.tenants} tenants of {size.tables} tables")
    with _World(ground, size) as world:
        step("Dagster and the bridge")
        with world.served() as url:
            step(f"a first visit to each tenant, and {size.sessions} more")
            asyncio.run(_measure(world, url, size, result))
    result.facts |= {"tenants": size.tenants, "tables_per_tenant": size.tables, "events": world.events}
    return result


async def _measure(world: "_World", url: str, size: Size, result: Result) -> None:
    chosen = random.Random(SEED)  # noqa: S311
    keys = list(world.runs)
    first = {name: Measure(f"{name}, first visit (ms)") for name in _TOOLS}
    later = {name: Measure(f"{name} (ms)") for name in _TOOLS}
    for key in keys:
        await _session(world, url, key, chosen, first)
    for _ in range(size.sessions):
        answer = await _session(world, url, chosen.choice(keys), chosen, later)
    result.measures += [*later.values(), *first.values()]
    result.claims += [
        Claim("list_tables, p95", _p95(later["list_tables"]), _GOAL_MS, "at most", "ms"),
        Claim("describe_table, p95", _p95(later["describe_table"]), _GOAL_MS, "at most", "ms"),
        Claim("get_metadata, concise", len(answer) / _CHARS_PER_TOKEN, _GOAL_TOKENS, "at most", "tokens"),
    ]
    result.facts["tables_in_get_metadata"] = len(json.loads(answer)["data"]["tables"])
    result.facts["p95_ms"] = {measure.name: round(_p95(measure), 1) for measure in result.measures}


async def _session(world: "_World", url: str, key: str, chosen: random.Random, measures: dict[str, Measure]) -> str:
    """Visit a tenant once; returns the text of its get_metadata."""
    tables = chosen.sample([table.name for table in world.tables], _DESCRIBED)
    headers = {"Authorization": f"Bearer {world.tokens[key]}"}
    async with (
        httpx2.AsyncClient(headers=headers, timeout=60, trust_env=False) as transport,
        Client(streamable_http_client(f"{url}/mcp", http_client=transport)) as client,
    ):
        # Every host asks this when it connects; otherwise the client would ask during its first call.
        await client.list_tools()
        await _timed(measures["list_tables"], client, "list_tables")
        for table in tables:
            await _timed(measures["describe_table"], client, "describe_table", table=table)
        await _timed(measures["search_metadata"], client, "search_metadata", search="weight of the child")
        return await _timed(measures["get_metadata"], client, "get_metadata")


async def _timed(measure: Measure, client: Client, tool: str, **arguments: Any) -> str:
    """Call a tool, add its time to the samples and return the answer's text."""
    began = time.perf_counter()
    answer = await client.call_tool(tool, arguments)
    measure.samples.append((time.perf_counter() - began) * 1000)
    text = str(getattr(answer.content[0], "text", ""))
    if answer.is_error:
        raise ChildFailed(f"{tool}: {text[:500]}")
    return text


def _p95(measure: Measure) -> float:
    if len(measure.samples) < 2:
        return measure.samples[0]
    return statistics.quantiles(measure.samples, n=20, method="inclusive")[-1]


class _Unasked(CommCare):
    """A provider that accepts every tenant without asking a server."""

    def verify_access(self, *_: Any, **__: Any) -> Access:
        return Access("user@example.org", "Benchmark")


class _World:
    """Tenants with tables and a Dagster history in the benchmark's own database. `runs`: tenant key to run id."""

    def __init__(self, ground: Ground, size: Size) -> None:
        self._ground = ground
        self._home = ground.files.parent / "home"
        self._settings = benchmark_settings(self._home)
        self.tables = _tables(size.tables)
        self.runs = {f"bench:t{number:04}": str(uuid.uuid4()) for number in range(size.tenants)}
        self.events = 0
        self.tokens: dict[str, str] = {}

    def __enter__(self) -> "_World":
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
        _fill(self._ground.connections.tenant(login.user, login.password), TenantSchemas(schema.prefix), self.tables)
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
        order = {"home": str(self._home), "dagster_home": str(folder), "runs": self.runs, "job": _JOB, "tables": listed}
        child = Child("benchmarks.dagster_history", order, self._ground.files / "history.log")
        self.events = child.hello["events"]
        child.end()

    @contextmanager
    def served(self) -> Iterator[str]:
        """Start Dagster and the bridge; gives the bridge's address."""
        port, port_file = free_port(), self._ground.files / "port"
        dagster, bridge = (
            f"http://127.0.0.1:{port}",
            [sys.executable, "-m", "mcp_bridge", "--port-file", str(port_file)],
        )
        webserver = [sys.executable, "-m", "explorer_dagster.webserver", "--host", "127.0.0.1", "--port", str(port)]
        with ExitStack() as stack:
            stack.enter_context(self._process([*webserver, "-w", str(ROOT / "workspace.yaml")]))
            _wait(lambda: _answers(f"{dagster}/server_info"), "Dagster", self._ground.files)
            transport = ["--transport", "streamable-http", "--port", "0"]
            stack.enter_context(self._process([*bridge, *transport], EXPLORER_DAGSTER_URL=dagster))
            _wait(port_file.exists, "the bridge", self._ground.files)
            url = f"http://127.0.0.1:{port_file.read_text().strip()}"
            _wait(lambda: _answers(f"{url}/healthz"), "the bridge", self._ground.files)
            yield url

    @contextmanager
    def _process(self, command: list[str], **variables: str) -> Iterator[None]:
        env = {name: value for name, value in os.environ.items() if not name.startswith(("EXPLORER_", "DAGSTER_"))}
        env |= {"EXPLORER_HOME": str(self._home), "DAGSTER_HOME": str(self._home / "dagster"), **variables}
        with (self._ground.files / "served.log").open("ab") as log:
            process = subprocess.Popen(command, cwd=ROOT, env=env, stdout=log, stderr=log)
        try:
            yield
        finally:
            process.send_signal(signal.SIGINT)
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def _tables(count: int) -> list[TableSpec]:
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
        return httpx.get(url, trust_env=False, timeout=5).is_success
    except httpx.HTTPError:
        return False


def _wait(ready: Callable[[], bool], what: str, folder: Path) -> None:
    deadline = time.monotonic() + _START_TIMEOUT_S
    while not ready():
        if time.monotonic() > deadline:
            raise ChildFailed(f"{what} did not start:\n{(folder / 'served.log').read_text(errors='replace')[-2000:]}")
        time.sleep(0.1)
