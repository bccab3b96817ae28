"""The page beside answers, as a host finds it: from the tool to the resource, in both revisions of the protocol."""

import pytest
from mcp.client import Client
from mcp.shared.exceptions import MCPError

from mcp_bridge.tools import ALL_TOOLS
from mcp_bridge.views.pages import RESULT, page
from tests.mcp_bridge.stage import on_http


@pytest.mark.parametrize("mode", ["auto", "legacy"])
def test_a_host_finds_the_page_of_a_tool(bridge_url: str, token: str, mode: str) -> None:
    async def work(client: Client) -> None:
        tools = {tool.name: tool for tool in (await client.list_tools()).tools}
        assert tools["query"].meta == {"ui": {"resourceUri": RESULT}}
        (content,) = (await client.read_resource(RESULT)).contents
        assert content.mime_type == "text/html;profile=mcp-app"
        assert content.meta == {"ui": {"csp": {}, "prefersBorder": True}}
        assert RESULT in [str(resource.uri) for resource in (await client.list_resources()).resources]
        with pytest.raises(MCPError):
            await client.read_resource("ui://data-explorer/../../etc/passwd")

    on_http(bridge_url, token, work, mode=mode)


def test_every_view_is_there_and_asks_for_no_network() -> None:
    for tool in ALL_TOOLS:
        if tool.view is not None:
            found = page(tool.view)
            assert found is not None
            text = found.contents[0].model_dump()["text"]
            # The only address is the name of SVG's namespace.
            assert text.count("://") == text.count("http://www.w3.org/2000/svg") == 1
            assert "default-src 'none'" in text
            assert "innerHTML" not in text
