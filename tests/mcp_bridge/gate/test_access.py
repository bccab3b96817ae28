"""Access over HTTP and over stdio, and what each principal sees."""

import asyncio
import json
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import httpx
import pytest
from mcp.client import Client
from mcp.shared.exceptions import MCPError

from explorer.catalog import DEFAULT_SCOPES, Scope
from explorer.core.ports import free_port
from explorer.core.toolsets import Toolset
from mcp_bridge.__main__ import bind
from mcp_bridge.tools import ALL_TOOLS
from tests.conftest import PgServer
from tests.mcp_bridge.stage import Stage, ask, environment, http_bridge, on_http, refused, stdio_server

INITIALIZE = {
    "jsonrpc": "2.0",
    "id": 1,
    "method": "initialize",
    "params": {"protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": {"name": "t", "version": "1"}},
}

LISTING = {
    "jsonrpc": "2.0",
    "id": 1,
    "method": "tools/list",
    "params": {
        "_meta": {
            "io.modelcontextprotocol/protocolVersion": "2026-07-28",
            "io.modelcontextprotocol/clientInfo": {"name": "t", "version": "1"},
            "io.modelcontextprotocol/clientCapabilities": {},
        }
    },
}


def post(url: str, **headers: str) -> httpx.Response:
    accept = {"Accept": "application/json, text/event-stream"}
    return httpx.post(f"{url}/mcp", json=INITIALIZE, headers=accept | headers, trust_env=False)


@pytest.mark.parametrize("header", [None, "Bearer dex_nonsense", "Basic abc", "Bearer"])
def test_without_a_good_token_nothing_is_said(bridge_url: str, header: str | None) -> None:
    answer = post(bridge_url, **({"Authorization": header} if header else {}))
    assert answer.status_code == 401
    assert answer.headers["WWW-Authenticate"].startswith("Bearer ")


def test_a_revoked_token_is_no_token(stage: Stage, bridge_url: str) -> None:
    token = stage.token("short-lived", "demo:one")
    assert post(bridge_url, Authorization=f"Bearer {token}").status_code == 200
    stage.catalog.principals.revoke("short-lived")
    assert post(bridge_url, Authorization=f"Bearer {token}").status_code == 401


@pytest.mark.parametrize("headers", [{"Host": "evil.example"}, {"Origin": "http://evil.example"}])
def test_foreign_host_and_origin_are_refused(bridge_url: str, token: str, headers: dict[str, str]) -> None:
    assert post(bridge_url, Authorization=f"Bearer {token}", **headers).status_code in (403, 421)


def test_health_needs_no_token_and_tells_nothing(bridge_url: str) -> None:
    answer = httpx.get(f"{bridge_url}/healthz", trust_env=False)
    assert (answer.status_code, answer.json()) == (200, {"status": "ok"})


@pytest.mark.parametrize("mode", ["auto", "legacy"])
def test_both_revisions_of_the_protocol_list_the_same_tools(bridge_url: str, token: str, mode: str) -> None:
    async def work(client: Client) -> str:
        tools = (await client.list_tools()).tools
        return json.dumps([tool.model_dump(by_alias=True, exclude_none=True, mode="json") for tool in tools])

    first = on_http(bridge_url, token, work, mode=mode)
    assert len(json.loads(first)) == len(ALL_TOOLS)
    assert on_http(bridge_url, token, work, mode=mode) == first


def test_tools_beyond_the_scopes_are_hidden_and_refused(stage: Stage, bridge_url: str) -> None:
    token = stage.token("reader", "demo:one", scopes={Scope.METADATA_READ})

    async def work(client: Client) -> None:
        names = {tool.name for tool in (await client.list_tools()).tools}
        assert names.isdisjoint({"query", "run_materialization", "cancel_materialization", "teardown_schema"})
        assert "list_tables" in names
        assert (await refused(client, "query", sql="select 1"))["code"] == "scope_missing"
        assert (await refused(client, "teardown_schema", confirm="demo:one"))["code"] == "scope_missing"

    on_http(bridge_url, token, work)
    assert stage.catalog.schemas.get(stage.tenants["demo:one"]).state == "active"


def test_toolsets_are_hidden_and_refused_until_they_are_on(stage: Stage, bridge_url: str, tmp_path: Path) -> None:
    create, tenants = stage.catalog.principals.create_token, [stage.tenants["demo:one"]]
    plain = create("agent-plain", tenants)
    chosen = create("agent-chosen", tenants, toolsets=[Toolset.OPERATIONS])
    named = create("agent-named", tenants, {*DEFAULT_SCOPES, Scope.SEMANTICS_WRITE})

    async def names(client: Client) -> set[str]:
        return {tool.name for tool in (await client.list_tools()).tools}

    async def off(client: Client) -> dict[str, Any]:
        return await refused(client, "list_activity", nonsense=1)

    default = {tool.name for tool in ALL_TOOLS if tool.toolset is None}
    assert on_http(bridge_url, plain, names) == default
    error = on_http(bridge_url, plain, off)
    assert (error["code"], error["details"]) == ("toolset_off", {"toolset": "operations"})
    assert "explorer tokens create --toolsets operations" in error["next_step"]
    denied = stage.catalog.audit.read(actor="agent-plain")[0].entry
    assert (denied.action, denied.outcome, denied.code) == ("list_activity", "denied", "toolset_off")
    # configure_pipeline needs a scope, which the token lacks.
    assert on_http(bridge_url, chosen, names) == {*default, "list_activity", "get_run_logs"}
    assert on_http(bridge_url, named, names) == {*default, "set_semantics"}
    with http_bridge(stage, tmp_path, EXPLORER_BRIDGE_TOOLSETS="operations, schema") as url:
        assert on_http(url, plain, names) == {*default, "list_activity", "get_run_logs"}


def test_another_tenant_does_not_exist(stage: Stage, bridge_url: str, token: str) -> None:
    async def work(client: Client) -> None:
        real = await refused(client, "list_tables", tenant="demo:slow")
        invented = await refused(client, "list_tables", tenant="demo:slaw")
        assert real["code"] == invented["code"] == "unknown_tenant"
        assert real["message"].replace("slow", "") == invented["message"].replace("slaw", "")
        assert "demo:slow" not in real["next_step"]
        other = stage.catalog.schemas.get(stage.tenants["demo:slow"]).marts
        assert (await refused(client, "query", sql=f"select * from {other}.cases"))["code"] == "unknown_relation"
        assert [t["key"] for t in (await ask(client, "list_tenants"))["tenants"]] == ["demo:one"]

    on_http(bridge_url, token, work)


def test_with_several_tenants_one_must_be_named(stage: Stage, bridge_url: str) -> None:
    token = stage.token("two-tenants", "demo:one", "demo:second")

    async def work(client: Client) -> None:
        error = await refused(client, "list_tables")
        assert error["code"] == "tenant_required"
        assert error["details"]["allowed"] == ["demo:one", "demo:second"]
        assert (await ask(client, "list_tables", tenant="demo:second"))["total"] == 3
        page = await ask(client, "list_tenants", limit=1)
        rest = await ask(client, "list_tenants", limit=1, cursor=page["next_cursor"])
        assert [t["key"] for t in page["tenants"] + rest["tenants"]] == ["demo:one", "demo:second"]
        assert rest["next_cursor"] is None

    on_http(bridge_url, token, work)


def test_white_space_around_a_header_is_no_part_of_it(bridge_url: str, token: str) -> None:
    # Sent by hand: clients' libraries refuse to.
    body = json.dumps(LISTING).encode()
    host = bridge_url.removeprefix("http://")
    head = [
        "POST /mcp HTTP/1.1",
        f"Host: {host}",
        f"Authorization: Bearer {token}\t ",
        "Content-Type: application/json",
        "Accept: application/json, text/event-stream",
        "MCP-Protocol-Version: 2026-07-28",
        "Mcp-Method: \t tools/list  ",
        f"Content-Length: {len(body)}",
        "Connection: close",
    ]
    name, _, port = host.partition(":")
    with socket.create_connection((name, int(port)), timeout=30) as connection:
        connection.sendall("\r\n".join([*head, "", ""]).encode() + body)
        with connection.makefile("rb") as answer:
            said = answer.read()
    assert said.startswith(b"HTTP/1.1 200 "), said[:400]
    assert b'"tools"' in said


def test_while_tokens_cannot_be_checked_the_client_is_told_why(stage: Stage, tmp_path: Path) -> None:
    """The database of HOME does not run: every client is refused, but not because of its token."""
    home = tmp_path / "home"
    home.mkdir(mode=0o700)
    with http_bridge(stage, tmp_path, EXPLORER_HOME=str(home)) as url:
        answer = post(url, Authorization="Bearer dex_whatever")
        assert answer.status_code == 503
        assert int(answer.headers["Retry-After"]) > 0
        body = answer.json()
        assert (body["jsonrpc"], body["id"], body["error"]["data"]["code"]) == ("2.0", None, "catalog_unavailable")
        assert body["error"]["data"]["next_step"]
        assert str(home) not in answer.text
        assert post(url).status_code == 401
        assert httpx.get(f"{url}/healthz", trust_env=False).status_code == 200

        told = pytest.RaisesExc(MCPError, match="cannot check tokens")
        with pytest.RaisesGroup(told, flatten_subgroups=True):
            on_http(url, "dex_whatever", lambda client: client.list_tools(), mode="legacy")


def test_every_call_is_in_the_audit_without_literals(stage: Stage, bridge_url: str) -> None:
    token = stage.token("audited", "demo:one")

    async def work(client: Client) -> None:
        await ask(client, "query", sql="select count(*) from cases where case_name = 'Asha'")
        await refused(client, "query", sql="delete from cases where case_name = 'Asha'")
        await refused(client, "list_tables", tenant="nobody")

    on_http(bridge_url, token, work)
    entries = [record.entry for record in stage.catalog.audit.read(actor="audited")]
    assert [(e.action, e.outcome, e.code) for e in reversed(entries)] == [
        ("query", "ok", None),
        ("query", "error", "not_a_select"),
        ("list_tables", "denied", "unknown_tenant"),
    ]
    assert all("Asha" not in json.dumps(entry.detail) for entry in entries)
    assert len(entries[-1].detail["statement_sha256"]) == 64


def test_what_cannot_be_audited_is_not_answered(stage: Stage, bridge_url: str, token: str, pg_server: PgServer) -> None:
    async def work(client: Client) -> dict[str, object]:
        return await refused(client, "query", sql="select case_name from cases")

    with pg_server.connections.admin.connect(autocommit=True) as admin:
        rights = "EXECUTE ON FUNCTION audit.append(jsonb)"
        admin.execute(f"REVOKE {rights} FROM explorer_service".encode())
        try:
            error = on_http(bridge_url, token, work)
        finally:
            admin.execute(f"GRANT {rights} TO explorer_service".encode())
    assert error["code"] == "audit_unavailable"
    assert "Asha" not in json.dumps(error)


def test_stdio_serves_the_operator_while_dagster_is_down(stage: Stage) -> None:
    async def main() -> None:
        down = f"http://127.0.0.1:{free_port()}"
        async with Client(stdio_server(stage, EXPLORER_DAGSTER_URL=down)) as client:
            names = {tool.name for tool in (await client.list_tools()).tools}
            assert {"query", "cancel_materialization"} <= names
            assert names.isdisjoint({"list_activity", "provision_schema"})
            assert (await refused(client, "list_activity"))["code"] == "toolset_off"
            answer = await client.call_tool("query", {"sql": "select count(*) from cases", "tenant": "demo:one"})
            content = answer.structured_content or {}
            assert content["data"]["rows"] == [[3]]
            source = {
                "table": "cases",
                "run_id": None,
                "changed_at": None,
                "as_of": None,
                "age_s": None,
                "failing_checks": [],
            }
            assert content["data"]["sources"] == [source]
            assert any("Failures of the latest run are unknown" in warning for warning in content["warnings"])
            error = await refused(client, "run_materialization", tenant="demo:one")
            assert error["code"] == "dagster_unavailable"
            tables = await ask(client, "list_tables", tenant="demo:one")
            assert {table["name"] for table in tables["tables"]} == {"cases", "users", "case_child"}

    asyncio.run(main())


def test_stdio_with_a_token_acts_as_its_principal(stage: Stage) -> None:
    token = stage.token("stdio-agent", "demo:one")

    async def main() -> None:
        async with Client(stdio_server(stage, EXPLORER_TOKEN=token)) as client:
            assert [t["key"] for t in (await ask(client, "list_tenants"))["tenants"]] == ["demo:one"]
            assert (await refused(client, "list_tables", tenant="demo:slow"))["code"] == "unknown_tenant"

    asyncio.run(main())
    assert [r.entry.action for r in stage.catalog.audit.read(actor="stdio-agent")] == ["list_tables", "list_tenants"]


def run_bridge(stage: Stage, *arguments: str, **settings: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "mcp_bridge", *arguments]
    return subprocess.run(
        command, env=environment(stage, **settings), input="", capture_output=True, text=True, timeout=60, check=False
    )


def test_stdio_says_why_it_shows_no_tools(stage: Stage) -> None:
    token = stage.token("stdio-revoked", "demo:one")

    async def main() -> None:
        async with Client(stdio_server(stage, EXPLORER_TOKEN=token)) as client:
            stage.catalog.principals.revoke("stdio-revoked")
            assert (await refused(client, "list_tables"))["code"] == "token_invalid"
            with pytest.raises(MCPError, match="EXPLORER_TOKEN is unknown, revoked or expired"):
                await client.list_tools()

    asyncio.run(main())


def test_a_bad_token_refuses_to_start(stage: Stage) -> None:
    ended = run_bridge(stage, EXPLORER_TOKEN="dex_nonsense")
    assert ended.returncode == 1
    assert "[token_invalid]" in ended.stderr
    assert ended.stdout == ""
    assert "dex_nonsense" not in ended.stderr


def test_answers_are_sent_at_once() -> None:
    """Else the end of an answer waits some 40 ms until the client has acknowledged its beginning."""
    with bind("127.0.0.1", 0) as listening, socket.create_connection(listening.getsockname()):
        accepted, _ = listening.accept()
        with accepted:
            assert accepted.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY) != 0


def test_a_taken_port_is_a_named_error(stage: Stage, bridge_url: str, tmp_path: Path) -> None:
    port = bridge_url.rpartition(":")[2]
    ended = run_bridge(stage, "--transport", "streamable-http", "--port", port)
    assert ended.returncode == 1
    assert "[port_in_use]" in ended.stderr
    assert "Traceback" not in ended.stderr
