"""What is read by address passes the same gate as the tool whose answer it is; prompts name only tools that there are."""

import json
import re
from typing import Any

import pytest
from mcp.client import Client
from mcp.shared.exceptions import MCPError

from explorer.catalog import Scope
from mcp_bridge.answers.addresses import ADDRESSED, RUN, SEMANTICS, TABLE
from mcp_bridge.resources.prompts import ANALYSES
from mcp_bridge.tools import ALL_TOOLS
from tests.mcp_bridge.stage import Stage, on_http

KEY = "demo:words"


async def read(client: Client, uri: str) -> dict[str, Any]:
    (content,) = (await client.read_resource(uri)).contents
    assert (content.uri, content.mime_type) == (uri, "application/json")
    found: dict[str, Any] = json.loads(content.text)  # type: ignore[union-attr]
    return found


async def refusal(client: Client, uri: str) -> str:
    with pytest.raises(MCPError) as caught:
        await client.read_resource(uri)
    data = caught.value.error.data
    return str(data["code"]) if data else caught.value.error.message


@pytest.mark.parametrize("mode", ["auto", "legacy"])
def test_a_table_and_its_meanings_are_read_by_address(stage: Stage, bridge_url: str, mode: str) -> None:
    reader = f"reader-of-addresses-{mode}"
    token = stage.token(reader, KEY)

    async def work(client: Client) -> None:
        templates = (await client.list_resource_templates()).resource_templates
        assert [each.uri_template for each in templates] == [each.template for each in ADDRESSED]
        uri = TABLE.uri(tenant=KEY, table="cases")
        assert uri == "table://demo%3Awords/cases"
        described = await read(client, uri)
        called = await client.call_tool("describe_table", {"tenant": KEY, "table": "cases"})
        assert described["data"]["columns"] == (called.structured_content or {})["data"]["columns"]
        assert described["note"].endswith("never instructions.")
        # As people write it.
        assert (await read(client, f"table://{KEY}/users"))["data"]["name"] == "users"
        listed = [str(each.uri) for each in (await client.list_resources()).resources]
        assert SEMANTICS.uri(tenant=KEY) in listed
        assert not any("demo%3Aone" in each for each in listed)
        meanings = (await read(client, SEMANTICS.uri(tenant=KEY)))["data"]
        assert set(meanings) == {"entities", "measures", "synonyms", "examples"}

    on_http(bridge_url, token, work, mode=mode)
    entry = stage.catalog.audit.read(actor=reader, limit=1)[0].entry
    assert (entry.action, entry.tenant_key, entry.outcome) == ("describe_semantics", KEY, "ok")


def test_addresses_open_nothing_that_the_tool_does_not(stage: Stage, bridge_url: str) -> None:
    token = stage.token("reader-of-others", KEY)

    async def work(client: Client) -> list[str]:
        others = [
            TABLE.uri(tenant="demo:one", table="cases"),
            SEMANTICS.uri(tenant="demo:one"),
            RUN.uri(run_id="0" * 36),
        ]
        odd = [
            TABLE.uri(tenant=KEY, table="../../etc/passwd"),
            "table://demo%3Awords/a/b",
            "file:///etc/passwd",
            "ui://x",
        ]
        return [await refusal(client, uri) for uri in (*others, *odd)]

    codes = on_http(bridge_url, token, work)
    assert codes[:4] == ["unknown_tenant", "unknown_tenant", "unknown_run", "unknown_table"]
    assert all("There is nothing under" in code for code in codes[4:])
    entry = stage.catalog.audit.read(actor="reader-of-others", limit=1)[0].entry
    assert (entry.action, entry.outcome) == ("describe_table", "error")

    # Nor is what is read by address a tool.
    async def tools(client: Client) -> set[str]:
        with pytest.raises(MCPError):
            await client.call_tool("describe_semantics", {})
        return {tool.name for tool in (await client.list_tools()).tools}

    assert "describe_semantics" not in on_http(bridge_url, token, tools)


def test_scopes_and_budgets_hold_for_addresses(stage: Stage, bridge_url: str) -> None:
    token = stage.token("reader-with-a-budget", KEY)

    async def twice(client: Client) -> list[str]:
        uri = TABLE.uri(tenant=KEY, table="users")
        await read(client, uri)
        return [await refusal(client, uri)]

    stage.catalog.limits.set(stage.tenants[KEY], {"calls": 1}, "reader-with-a-budget")
    assert on_http(bridge_url, token, twice) == ["budget_exhausted"]
    narrow = stage.token("reader-of-runs-only", KEY, scopes={Scope.RUNS_LAUNCH})

    async def scoped(client: Client) -> list[str]:
        assert SEMANTICS.uri(tenant=KEY) not in [str(each.uri) for each in (await client.list_resources()).resources]
        return [await refusal(client, SEMANTICS.uri(tenant=KEY))]

    assert on_http(bridge_url, narrow, scoped) == ["scope_missing"]


def test_prompts_are_filled_in_and_name_tools_that_there_are(bridge_url: str, token: str) -> None:
    tools = {tool.name for tool in ALL_TOOLS if tool.toolset is None}
    for analysis in ANALYSES:
        named = set(re.findall(r"\b[a-z]+_[a-z_]+\b", analysis.text)) - {"date_trunc", "question_options"}
        assert named <= tools, analysis.name
        assert set(re.findall(r"{(\w+)}", analysis.text)) == analysis.asks.keys()

    async def work(client: Client) -> None:
        listed = (await client.list_prompts()).prompts
        assert [prompt.name for prompt in listed] == [analysis.name for analysis in ANALYSES]
        given = {"tenant": KEY, "what": "{tenant.key} visits", "period": "month"}
        (message,) = (await client.get_prompt("trend", given)).messages
        assert "In tenant demo:words, count {tenant.key} visits by month." in message.content.text  # type: ignore[union-attr]
        for wrong in ({"tenant": KEY}, {**given, "more": "x"}, {**given, "what": " "}):
            with pytest.raises(MCPError):
                await client.get_prompt("trend", wrong)
        with pytest.raises(MCPError):
            await client.get_prompt("nothing")

    on_http(bridge_url, token, work)
