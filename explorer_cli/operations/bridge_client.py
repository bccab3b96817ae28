"""Calls the bridge's tools through an MCP client, as agents do: over HTTP with a token, or over stdio as operator."""

import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Any

import httpx2
from mcp import Client, MCPError, StdioServerParameters
from mcp.client.stdio import stdio_client
from mcp.client.streamable_http import streamable_http_client
from mcp.shared.dispatcher import ProgressFnT

from explorer.core.settings import Settings
from explorer_cli.errors import ToolFailed
from explorer_cli.platform.environment import bridge_env

# The bridge answers a waiting call within 45 s; after this time no answer will come.
CALL_TIMEOUT_S = 300.0
WAIT_S = 45
FINISHED = ("SUCCESS", "FAILURE", "CANCELED")


class Tools:
    """The bridge's tools over one connection."""

    def __init__(self, client: Client) -> None:
        self._client = client

    async def call(
        self, tool: str, arguments: dict[str, Any], on_progress: ProgressFnT | None = None
    ) -> dict[str, Any]:
        """Call a tool and return the envelope of a success: `data`, `warnings`, `timing_ms`.

        Raises:
            ToolFailed: with the bridge's own code, message and next step.
        """
        given = {name: value for name, value in arguments.items() if value is not None}
        try:
            result = await self._client.call_tool(tool, given, CALL_TIMEOUT_S, on_progress)
        except MCPError as error:
            message = f"The bridge did not answer {tool}: {error}"
            raise ToolFailed("bridge_error", message, next_step="Run `explorer doctor`.") from None
        envelope = result.structured_content or {}
        if envelope.get("success") is not True:
            refusal = envelope.get("error") or {}
            raise ToolFailed(
                str(refusal.get("code", "bridge_error")),
                str(refusal.get("message", "The bridge answered with something that is not its envelope.")),
                next_step=str(refusal.get("next_step", "Run `explorer doctor`.")),
            )
        return dict(envelope)

    async def sync(
        self, tenant: str, *, full: bool, wait: bool, on_progress: ProgressFnT | None = None
    ) -> dict[str, Any]:
        """Launch a tenant's run or join the one that is running; `wait` follows it to its end. Returns the bridge's summary.

        A joined run that does not succeed is followed by a run of our own: often it died with an earlier platform.
        """
        run = await self._launch(tenant, full=full, wait=wait, on_progress=on_progress)
        if wait and not run["launched"] and run["status"] != "SUCCESS":
            run = await self._launch(tenant, full=full, wait=wait, on_progress=on_progress)
        return run

    async def tables(self, tenant: str, *, detailed: bool = False) -> list[dict[str, Any]]:
        """Every table that the tenant's agents see, as `list_tables` shows it; `detailed`: with its run."""
        asked = {"tenant": tenant, "all_tables": True, "response_format": "detailed" if detailed else None}
        return await self._pages("list_tables", asked, "tables")

    async def columns(self, tenant: str, table: str) -> list[dict[str, Any]]:
        """Every column of a table, as `describe_table` shows it."""
        return await self._pages("describe_table", {"tenant": tenant, "table": table}, "columns")

    async def _pages(self, tool: str, arguments: dict[str, Any], of: str) -> list[dict[str, Any]]:
        """The rows under `of` of all pages."""
        rows: list[dict[str, Any]] = []
        cursor = None
        while True:
            page = (await self.call(tool, {**arguments, "cursor": cursor}))["data"]
            rows += page[of]
            cursor = page.get("next_cursor")
            if not cursor:
                return rows

    async def _launch(self, tenant: str, *, full: bool, wait: bool, on_progress: ProgressFnT | None) -> dict[str, Any]:
        arguments = {"tenant": tenant, "full_refresh": full, "wait_s": WAIT_S if wait else 0}
        run = (await self.call("run_materialization", arguments, on_progress))["data"]
        launched = run["launched"]
        while wait and run["status"] not in FINISHED:
            asked = {"run_id": run["run_id"], "wait_s": WAIT_S}
            run = (await self.call("get_materialization_status", asked, on_progress))["data"]
        return {**run, "launched": launched}


@asynccontextmanager
async def over_http(url: str, token: str) -> AsyncIterator[Tools]:
    """The tools of a running bridge, as the principal of `token`."""
    headers = {"Authorization": f"Bearer {token}"}
    # The server is on loopback: a proxy from the environment must not see the token.
    timeout = httpx2.Timeout(30, read=CALL_TIMEOUT_S)
    with _one_error():
        async with (
            httpx2.AsyncClient(headers=headers, timeout=timeout, trust_env=False) as http,
            Client(streamable_http_client(url, http_client=http)) as client,
        ):
            yield Tools(client)


@asynccontextmanager
async def as_operator(settings: Settings) -> AsyncIterator[Tools]:
    """All tools of a private bridge over stdio, without a token: an account that can read HOME may do everything."""
    env = bridge_env(settings) | {"EXPLORER_BRIDGE_TOOLSETS": "all"}
    command = StdioServerParameters(
        command=sys.executable, args=["-m", "mcp_bridge"], env=env, cwd=settings.home / "run"
    )
    with _one_error(), (settings.home / "logs" / "bridge-stdio.log").open("a") as log:
        async with Client(stdio_client(command, errlog=log)) as client:
            yield Tools(client)


@contextmanager
def _one_error() -> Iterator[None]:
    """Raise the one error that a person should see, without the exception groups that the MCP client wraps it in.

    Raises:
        ToolFailed: also when the connection itself failed.
    """
    try:
        yield
    except BaseExceptionGroup as group:
        causes = list(_leaves(group))
        for cause in causes:
            if not isinstance(cause, OSError | httpx2.HTTPError | MCPError):
                raise cause from None
        raise ToolFailed(
            "bridge_unreachable",
            f"The connection to the bridge failed: {type(causes[0]).__name__}.",
            next_step="Look at `explorer status`; `explorer doctor` says more.",
        ) from group


def _leaves(group: BaseExceptionGroup[BaseException]) -> Iterator[BaseException]:
    for error in group.exceptions:
        if isinstance(error, BaseExceptionGroup):
            yield from _leaves(error)
        else:
            yield error
