"""The benchmark of small queries: what `query` takes beside a server that isolates nothing and beside a tool that does nothing.

The bridge, `@bytebase/dbhub` (an MCP server for databases, on Node) and an empty tool on the bridge's own SDK, each over HTTP,
answer the same callers in turn. The bridge and dbhub run the same statements over the same tables of one PostgreSQL: the bridge
as the tenant's reader with all that it checks and records, dbhub as one login with a pool, for everybody who can reach its port.
"""

import json
import os
import shutil
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit

import httpx
from psycopg import sql

from benchmarks.agents import empty_tool
from benchmarks.agents.instance import Instance
from benchmarks.ground import ROOT, Child, ChildFailed, Ground
from benchmarks.loading import Scale
from benchmarks.results import Claim, Measure, Result, ratio
from explorer.contract.bookkeeping import builds, loads
from explorer.core.ports import free_port
from explorer.postgres.connections import Login

Step = Callable[[str], Callable[[int], None]]
_PACKAGES = ("node@22.23.3", "@bytebase/dbhub@1.4.0")
_INSTALL_S = 600.0
_START_S = 60.0
_TABLES = 10
_VISITS = 5_000
_PROTOCOL = "2026-07-28"
STATEMENTS = (
    "select count(*) from visits",
    "select visit_id, seen_on, district, weight_kg from visits where visit_id = 4711",
    "select district, count(*) as visits, round(avg(weight_kg), 2) as mean_kg from visits group by district order by district",
    "select v.visit_id, v.seen_on, m.name from visits v join mothers m on m.mother_id = v.mother_id"
    " where v.visit_id between 100 and 119 order by v.visit_id",
)
_MADE = """
CREATE TABLE {marts}.mothers (mother_id int PRIMARY KEY, name text);
INSERT INTO {marts}.mothers SELECT i, 'Mother ' || i FROM generate_series(1, {mothers}) i;
CREATE TABLE {marts}.visits (visit_id int PRIMARY KEY, mother_id int, seen_on date, district text, weight_kg numeric(5, 2));
INSERT INTO {marts}.visits SELECT i, 1 + i % {mothers}, date '2026-01-01' + i % 300, 'District ' || i % 8, 40 + i % 3000 / 100.0
  FROM generate_series(1, {visits}) i;
ANALYZE {marts}.mothers, {marts}.visits;
"""


@dataclass(frozen=True)
class Size:
    """`sessions`: how many callers there are at a time; `calls`: of all together in a round."""

    sessions: tuple[int, ...]
    calls: int
    rounds: int


SIZES = {"tiny": Size((1, 4), 24, 1), "small": Size((1, 10, 50), 600, 5), "full": Size((1, 10, 50), 2_000, 9)}
# The bridge as one process, and as two (`EXPLORER_BRIDGE_PROCESSES`).
_ONE, _TWO = "query", "query by 2 processes"
# Beside dbhub, by the number of sessions.
_GOALS = {1: 1.5, 10: 1.0, 50: 1.0}


@dataclass(frozen=True)
class Peer:
    """A server, and the calls of its tool as whole HTTP requests."""

    name: str
    url: str
    requests: list[str]


def queries(ground: Ground, scale: Scale, step: Step) -> Result:
    """What a small query takes at 1, 10 and 50 sessions, beside dbhub and beside an empty tool on the same SDK."""
    size = SIZES[scale.name]
    result = Result("queries")
    step("a tenant, Dagster and the bridge")
    with ExitStack() as stack:
        instance = stack.enter_context(Instance(ground, tenants=1, tables=_TABLES))
        key = next(iter(instance.runs))
        fill(instance, key)
        bridge = stack.enter_context(instance.served())
        several = stack.enter_context(instance.bridge(EXPLORER_BRIDGE_PROCESSES="2"))
        peers = [
            Peer(name, served.url, calls_of(served.url, instance.tokens[key]))
            for name, served in ((_ONE, bridge), (_TWO, several))
        ]
        peers.append(stack.enter_context(_empty(ground)))
        step("dbhub")
        try:
            schema = instance.owners[key][1].schema("marts")
            peers.append(stack.enter_context(_dbhub(ground, schema)))
        except _NoNode as reason:
            result.facts["left_out"] = f"dbhub: {reason}"
        callers = Child("benchmarks.agents.load", {}, ground.files / "load.log")
        stack.callback(callers.end)
        _measure(callers, peers, size, step, result)
    return result


def _measure(callers: Child, peers: list[Peer], size: Size, step: Step, result: Result) -> None:
    failed = dict.fromkeys((peer.name for peer in peers), 0)
    for peer in peers:
        warm = _round(callers, peer, max(size.sessions), 4 * len(STATEMENTS))
        if warm["failed"]:
            raise ChildFailed(f"{peer.name}: {warm['errors']}")
    for sessions in size.sessions:
        measures = {peer.name: Measure(f"{peer.name}, p50 at {sessions} sessions (ms)") for peer in peers}
        slow = {peer.name: Measure(f"{peer.name}, p95 at {sessions} sessions (ms)") for peer in peers}
        for number in range(size.rounds):
            step(f"{sessions} sessions, round {number + 1}")
            # Each round begins with another one.
            for peer in peers[number % len(peers) :] + peers[: number % len(peers)]:
                found = _round(callers, peer, sessions, max(size.calls // sessions, 1))
                failed[peer.name] += found["failed"]
                measures[peer.name].samples.append(statistics.median(found["ms"]))
                slow[peer.name].samples.append(statistics.quantiles(found["ms"], n=20, method="inclusive")[-1])
                for error in found["errors"]:
                    result.facts.setdefault("errors", []).append(f"{peer.name} at {sessions}: {error}")
        result.measures += [*measures.values(), *slow.values()]
        for ours, other in product((_ONE, _TWO), ("dbhub", "empty")):
            if other in measures:
                times = ratio(measures[ours], measures[other])
                result.facts[f"{ours}, times_{other}_at_{sessions}"] = round(times, 2)
                if other == "dbhub" and (goal := _GOALS.get(sessions)) is not None:
                    what = f"{ours}, p50 at {sessions} sessions, times dbhub's"
                    result.claims.append(Claim(what, times, goal, "at most"))
    result.claims.append(Claim("calls of query that failed", failed[_ONE] + failed[_TWO], 0, "at most"))
    result.facts["failed"] = failed


def _round(callers: Child, peer: Peer, sessions: int, calls: int) -> dict[str, Any]:
    place = urlsplit(peer.url)
    order = {
        "host": place.hostname,
        "port": place.port,
        "requests": peer.requests,
        "sessions": sessions,
        "calls": calls,
    }
    return callers.ask(order)


def fill(instance: Instance, key: str) -> None:
    """Make the tables that the statements read, with the record of the run that made them."""
    login, schemas = instance.owners[key]
    marts = sql.Identifier(schemas.schema("marts"))
    statement = sql.SQL(_MADE).format(marts=marts, mothers=sql.Literal(_VISITS // 5), visits=sql.Literal(_VISITS))
    with login.connect(autocommit=True) as connection:
        connection.execute(statement)
        builds.read(connection, schemas)
        loads.read(connection, schemas.raw)
        for table, rows in (("visits", _VISITS), ("mothers", _VISITS // 5)):
            builds.record(
                connection, schemas, table, definition="d", built_from={}, run_id=instance.runs[key], rows=rows
            )


def calls_of(url: str, token: str) -> list[str]:
    """A call of `query` for each statement."""
    return [request(url, "query", {"sql": statement}, token) for statement in STATEMENTS]


def request(url: str, tool: str, arguments: dict[str, Any], token: str | None = None) -> str:
    """The HTTP request of a tool's call, as the SDK's client sends it."""
    meta = {
        "io.modelcontextprotocol/protocolVersion": _PROTOCOL,
        "io.modelcontextprotocol/clientInfo": {"name": "benchmark", "version": "1"},
        "io.modelcontextprotocol/clientCapabilities": {},
    }
    call = {
        "jsonrpc": "2.0",
        "id": 1,
        "method": "tools/call",
        "params": {"name": tool, "arguments": arguments, "_meta": meta},
    }
    body = json.dumps(call)
    lines = [
        "POST /mcp HTTP/1.1",
        f"host: {urlsplit(url).netloc}",
        "accept: application/json, text/event-stream",
        "content-type: application/json",
        f"mcp-protocol-version: {_PROTOCOL}",
        "mcp-method: tools/call",
        f"mcp-name: {tool}",
        f"content-length: {len(body.encode())}",
    ]
    if token is not None:
        lines.append(f"authorization: Bearer {token}")
    return "\r\n".join([*lines, "", body])


@contextmanager
def _empty(ground: Ground) -> Iterator[Peer]:
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    with _served([sys.executable, "-m", empty_tool.__name__, str(port)], url, ground.files / "empty.log"):
        yield Peer("empty", url, [request(url, empty_tool.NAME, {"sql": statement}) for statement in STATEMENTS])


class _NoNode(Exception):
    """dbhub cannot be installed here; the message says why."""


@contextmanager
def _dbhub(ground: Ground, schema: str) -> Iterator[Peer]:
    """dbhub with its defaults. It logs in as the administrator, because it needs more connections than a tenant has."""
    folder = _installed()
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    config = ground.files / "dbhub.toml"
    config.write_text(f'[[sources]]\nid = "lake"\ndsn = "{_dsn(ground.connections.admin)}"\nsearch_path = "{schema}"\n')
    command = [
        str(folder / "node_modules/.bin/node"),
        str(folder / "node_modules/@bytebase/dbhub/dist/index.js"),
        "--config", str(config), "--transport", "http", "--port", str(port),
    ]  # fmt: skip
    with _served(command, url, ground.files / "dbhub.log"):
        yield Peer("dbhub", url, [request(url, "execute_sql", {"sql": statement}) for statement in STATEMENTS])


def _installed() -> Path:
    """The folder with Node and dbhub, installed at the first use. Raises: _NoNode."""
    folder = ROOT / "build" / "benchmarks" / "dbhub"
    if (folder / "node_modules/@bytebase/dbhub/dist/index.js").exists():
        return folder
    npm = shutil.which("npm")
    if npm is None:
        raise _NoNode("there is no npm on this machine")
    folder.mkdir(parents=True, exist_ok=True)
    command = [npm, "install", "--no-audit", "--no-fund", "--prefix", str(folder), *_PACKAGES]
    try:
        subprocess.run(command, check=True, capture_output=True, text=True, timeout=_INSTALL_S)
    except (OSError, subprocess.SubprocessError) as error:
        raise _NoNode(f"npm could not install {' and '.join(_PACKAGES)} ({type(error).__name__})") from None
    return folder


def _dsn(login: Login) -> str:
    user, password = quote(login.user, safe=""), quote(login.password, safe="")
    return f"postgres://{user}:{password}@{login.host}:{login.port}/{login.dbname}?sslmode=disable"


@contextmanager
def _served(command: list[str], url: str, log: Path) -> Iterator[None]:
    with log.open("ab") as output:
        process = subprocess.Popen(command, cwd=ROOT, env=_environment(), stdout=output, stderr=output)
    try:
        deadline = time.monotonic() + _START_S
        while not _listens(url):
            if process.poll() is not None or time.monotonic() > deadline:
                raise ChildFailed(f"{command[1]} did not start:\n{log.read_text(errors='replace')[-2000:]}")
            time.sleep(0.1)
        yield
    finally:
        process.terminate()
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _environment() -> dict[str, str]:
    """Without settings that a server could take for its own."""
    return {name: value for name, value in os.environ.items() if name in ("PATH", "HOME", "LANG", "TMPDIR")}


def _listens(url: str) -> bool:
    try:
        httpx.get(f"{url}/", trust_env=False, timeout=5)
    except httpx.HTTPError:
        return False
    return True
