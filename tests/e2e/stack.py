"""A running platform for the end-to-end tests, and clients for it."""

import asyncio
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import httpx2
import psycopg
from mcp import Client
from mcp.client.stdio import StdioServerParameters
from mcp.client.streamable_http import streamable_http_client

from demo_commcare import MATERNAL, NUTRITION, RunningServer, serve_in_thread
from explorer.postgres.embedded import EmbeddedPostgres
from tests.collector import Collector, collecting

MOTHERS = "e2e:maternal"
CHILDREN = "e2e:nutrition"
SCOPES = ("metadata:read", "query:run", "runs:launch", "runs:cancel", "schema:manage")
ACTIVE = {"QUEUED", "NOT_STARTED", "STARTING", "STARTED", "CANCELING"}


@dataclass
class Stack:
    """A running platform. `token`: may use both tenants; `mothers_token`: only the first. `folder`: where commands run.

    Commands run with umask 0, since nothing of an installation may depend on it.
    """

    home: Path
    demo: RunningServer
    env: dict[str, str] = field(repr=False)
    collector: Collector = field(default_factory=lambda: Collector(""), repr=False)
    bridge_url: str = ""
    dagster_url: str = ""
    token: str = field(default="", repr=False)
    mothers_token: str = field(default="", repr=False)
    folder: Path | None = None

    def graphql(self, query: str, **variables: Any) -> dict[str, Any]:
        """Dagster's answer to a query, asked as a program with the webserver's token."""
        token = (self.home / "webserver.token").read_text().strip()
        body, headers = {"query": query, "variables": variables}, {"X-Explorer-Token": token}
        answer = httpx.post(
            f"{self.dagster_url}/graphql", json=body, headers=headers, timeout=60, trust_env=False, verify=False
        )
        return dict(answer.json()["data"])

    def cli(self, *arguments: str, check: bool = True) -> "subprocess.CompletedProcess[str]":
        done = subprocess.run(
            [sys.executable, "-m", "explorer_cli", *arguments],
            env=self.env, capture_output=True, text=True, timeout=240, check=False, cwd=self.folder, umask=0,
        )  # fmt: skip
        if check and done.returncode:
            raise AssertionError(f"explorer {arguments} exited {done.returncode}\n{done.stdout}\n{done.stderr}")
        return done

    def up(self) -> None:
        """Start the platform without its demo, and note the addresses that it chose."""
        self.cli("up", "--detach", "--no-demo")
        status = json.loads(self.cli("status", "--json", check=False).stdout)
        self.bridge_url, self.dagster_url = status["bridge_url"], status["dagster_url"]

    def add_tenant(self, key: str, domain: str) -> None:
        """Add a project space of the demo server."""
        self.cli("tenants", "add", key, "--provider", "commcare", "--server", self.demo.url, "--domain", domain,
                 "--username", self.demo.username, "--api-key-env", "DEMO_KEY")  # fmt: skip

    def new_token(self, name: str, *tenants: str) -> str:
        """A token with every right in these tenants."""
        of = [argument for tenant in tenants for argument in ("--tenant", tenant)]
        return self.cli("tokens", "create", "--name", name, *of, *(f"--scope={s}" for s in SCOPES)).stdout.strip()

    def http(self, token: str | None = None) -> AbstractAsyncContextManager[Client]:
        """A client over streamable HTTP, with the bearer token."""

        @asynccontextmanager
        async def connected() -> AsyncIterator[Client]:
            headers = {"Authorization": f"Bearer {token or self.token}"}
            async with (
                # Without a TLS context, whose making takes longer than most calls.
                httpx2.AsyncClient(headers=headers, timeout=120, verify=False) as http_client,
                Client(streamable_http_client(self.bridge_url, http_client=http_client)) as client,
            ):
                yield client

        return connected()

    def stdio(self, token: str | None = None) -> Client:
        """A client that starts the bridge itself."""
        env = {**self.env, "EXPLORER_TOKEN": token or self.token}
        return Client(StdioServerParameters(command=sys.executable, args=["-m", "mcp_bridge"], env=env))

    def call(self, tool: str, token: str | None = None, **arguments: Any) -> dict[str, Any]:
        """Call a tool over HTTP and return its envelope."""

        async def once() -> dict[str, Any]:
            async with self.http(token) as client:
                return await call(client, tool, **arguments)

        return asyncio.run(once())

    def sync(self, tenant: str, **arguments: Any) -> dict[str, Any]:
        """Materialize through the bridge and wait for the end; returns the data of the last answer."""
        answer = self.call("run_materialization", tenant=tenant, wait_s=45, **arguments)
        assert answer["success"], answer
        return self.finished(answer["data"]["run_id"], tenant)

    def finished(self, run_id: str, tenant: str, deadline_s: float = 150) -> dict[str, Any]:
        end = time.monotonic() + deadline_s
        while True:
            answer = self.call("get_materialization_status", tenant=tenant, run_id=run_id, wait_s=20)
            assert answer["success"], answer
            if answer["data"]["status"] not in ACTIVE:
                return answer["data"]
            assert time.monotonic() < end, answer

    def rows(self, tenant: str, sql: str, token: str | None = None) -> list[list[Any]]:
        """All rows of a query through the bridge, page by page."""
        rows: list[list[Any]] = []
        cursor: str | None = None
        while True:
            answer = self.call("query", token, tenant=tenant, sql=sql, **({"cursor": cursor} if cursor else {}))
            assert answer["success"], answer
            rows += answer["data"]["rows"]
            cursor = answer["data"]["next_cursor"]
            if not cursor:
                return rows

    def admin(self, database: str = "explorer") -> "psycopg.Connection[Any]":
        """A connection to a database as superuser."""
        record = json.loads((self.home / "connection.json").read_text())
        return psycopg.connect(
            host=record["host"],
            port=record["port"],
            user="postgres",
            password=record["password"],
            dbname=database,
            autocommit=True,
        )


async def call(
    client: Client, tool: str, progress: Callable[..., Awaitable[None]] | None = None, **arguments: Any
) -> dict[str, Any]:
    result = await client.call_tool(tool, arguments, progress_callback=progress)
    assert result.structured_content is not None
    return dict(result.structured_content)


@contextmanager
def running_stack() -> Iterator[Stack]:
    """A platform with the demo server and both of its project spaces."""
    parent = Path(tempfile.mkdtemp(prefix="explorer-e2e-"))
    # When root starts it, the database server runs as another account, which must be able to enter this folder.
    parent.chmod(0o711)
    home = parent / "home"
    # An older version left these open.
    for name in ("dbt", "dlt"):
        (home / name / "t_0" / "target").mkdir(parents=True)
        (home / name / "t_0" / "target" / "compiled.sql").write_text("select 1 as last_name")
        for path in (home / name, *(home / name).rglob("*")):
            path.chmod(0o777 if path.is_dir() else 0o666)
    with serve_in_thread(cases=240) as demo, collecting() as collector:
        telemetry = {"EXPLORER_OTLP_ENDPOINT": collector.url, "EXPLORER_LOG_FORMAT": "json"}
        stack = Stack(home, demo, environment(home, DEMO_KEY=demo.api_key, **telemetry), collector)
        try:
            stack.up()
            stack.add_tenant(MOTHERS, MATERNAL)
            stack.add_tenant(CHILDREN, NUTRITION)
            stack.token = stack.new_token("both", MOTHERS, CHILDREN)
            stack.mothers_token = stack.cli("tokens", "create", "--name", "mothers", "--tenant", MOTHERS).stdout.strip()
            yield stack
        finally:
            stack.cli("down", check=False)
            EmbeddedPostgres(home).remove_data()
            shutil.rmtree(parent)


def environment(home: Path, **variables: str) -> dict[str, str]:
    """The environment of a platform's commands, whose parts listen on any free port."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(("EXPLORER_", "DAGSTER_"))}
    own = {"EXPLORER_HOME": str(home), "EXPLORER_DAGSTER_PORT": "0", "EXPLORER_BRIDGE_PORT": "0"}
    own["EXPLORER_POSTGRES_FSYNC"] = "false"
    return {**inherited, **own, **variables}
