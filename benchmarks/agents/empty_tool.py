"""A server on the bridge's SDK with one tool that does nothing: what the protocol alone costs."""

import sys
from typing import Any

import mcp_types as types
import uvicorn
from mcp.server import Server
from mcp.server.context import ServerRequestContext

NAME = "empty"
_TOOL = types.Tool(name=NAME, description="Does nothing.", input_schema={"type": "object"})


async def _list(
    ctx: ServerRequestContext[Any, Any], params: types.PaginatedRequestParams | None
) -> types.ListToolsResult:
    return types.ListToolsResult(tools=[_TOOL])


async def _call(ctx: ServerRequestContext[Any, Any], params: types.CallToolRequestParams) -> types.CallToolResult:
    return types.CallToolResult(content=[types.TextContent(type="text", text="{}")])


def main() -> None:
    """Serve at 127.0.0.1 and the port of the first argument."""
    app = Server(NAME, on_list_tools=_list, on_call_tool=_call).streamable_http_app(streamable_http_path="/mcp")
    uvicorn.run(app, host="127.0.0.1", port=int(sys.argv[1]), log_level="warning", access_log=False)


if __name__ == "__main__":
    main()
