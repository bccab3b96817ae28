"""The product's own bridge, with the conformance suite's tools mounted beside its own.

    TOKEN=dex_... python -m tests.external.fixture_bridge --transport streamable-http --port-file FILE

What the suite then fails is the product's transport, sessions or gate, and not a tool that is missing. The suite cannot send a
token: requests without one get that of TOKEN, before the product sees them.
"""

import inspect
import os
import sys
from collections.abc import Callable
from typing import Any

import mcp_types as types
from starlette.types import ASGIApp, Receive, Scope, Send

import mcp_bridge.__main__ as program
import mcp_bridge.server as product
from tests.external import fixture_tools as suite


def with_more_tools(real: Callable[..., Any]) -> Callable[..., Any]:
    """A server with the tools of the suite beside those that it is made with."""

    def make(name: str, **given: Any) -> Any:
        list_tools, call_tool, schema_of = given["on_list_tools"], given["on_call_tool"], given["get_tool_input_schema"]

        async def listed(ctx: Any, params: Any) -> types.ListToolsResult:
            own = await list_tools(ctx, params)
            return types.ListToolsResult(tools=[*own.tools, *suite.TOOLS])

        async def called(ctx: Any, params: Any) -> Any:
            return await (suite.call if params.name in suite.NAMES else call_tool)(ctx, params)

        more = {
            "on_list_tools": listed,
            "on_call_tool": called,
            "get_tool_input_schema": lambda tool: suite.schema_of(tool) if tool in suite.NAMES else schema_of(tool),
            "on_list_resources": suite.list_resources,
            "on_list_resource_templates": suite.list_resource_templates,
            "on_read_resource": suite.read_resource,
            "on_subscribe_resource": suite.nothing,
            "on_unsubscribe_resource": suite.nothing,
            "on_list_prompts": suite.list_prompts,
            "on_get_prompt": suite.get_prompt,
            "on_completion": suite.complete,
            "on_set_logging_level": suite.nothing,
        }
        taken = inspect.signature(real).parameters
        return real(name, **{**given, **{key: value for key, value in more.items() if key in taken}})

    return make


def with_token(app: Any, token: str) -> ASGIApp:
    """The app, whose callers have a token even if they send none."""

    class WithToken:
        close = staticmethod(app.close)

        async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
            if scope["type"] == "http" and all(name != b"authorization" for name, _ in scope["headers"]):
                scope = {**scope, "headers": [*scope["headers"], (b"authorization", f"Bearer {token}".encode())]}
            await app(scope, receive, send)

    return WithToken()


def main() -> int:
    product.Server = with_more_tools(product.Server)  # type: ignore[misc,assignment]
    http_app, token = program.http_app, os.environ["TOKEN"]
    program.http_app = lambda *args, **kwargs: with_token(http_app(*args, **kwargs), token)  # type: ignore[assignment]
    return program.main(sys.argv[1:])


if __name__ == "__main__":
    raise SystemExit(main())
