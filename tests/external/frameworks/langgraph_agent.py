"""An agent of LangGraph, with the tools that langchain-mcp-adapters makes of the bridge's. Prints its calls and what it says.

Without a token it signs in: it prints the address for the person's browser (`{"open": ...}`), and reads the one to which the
browser was sent back.
"""

import asyncio
import json
import sys
from typing import Any
from urllib.parse import parse_qs, urlsplit

from langchain_core.messages import AIMessage, AnyMessage, ToolMessage
from langchain_core.utils.function_calling import convert_to_openai_tool
from langchain_mcp_adapters.client import MultiServerMCPClient
from langgraph.graph import START, MessagesState, StateGraph
from langgraph.prebuilt import ToolNode, tools_condition
from mcp.client.auth import OAuthClientProvider
from mcp.shared.auth import OAuthClientInformationFull, OAuthClientMetadata, OAuthToken
from plan import TASK, TOKEN, URL, next_call
from pydantic import AnyUrl

CALLBACK = "http://localhost:4711/callback"


def content(message: ToolMessage) -> dict[str, Any]:
    assert message.status == "success", message
    text = message.content if isinstance(message.content, str) else message.content[0]["text"]  # type: ignore[index]
    return dict(json.loads(text))


async def model(state: MessagesState) -> dict[str, list[AnyMessage]]:
    answers = [content(message) for message in state["messages"] if isinstance(message, ToolMessage)]
    step = next_call(answers)
    if isinstance(step, str):
        return {"messages": [AIMessage(step)]}
    name, arguments = step
    call = {"name": name, "args": arguments, "id": f"call-{len(answers)}", "type": "tool_call"}
    return {"messages": [AIMessage("", tool_calls=[call])]}


class Kept:
    """What the sign-in has given, for this one run."""

    def __init__(self) -> None:
        self.tokens: OAuthToken | None = None
        self.client: OAuthClientInformationFull | None = None

    async def get_tokens(self) -> OAuthToken | None:
        return self.tokens

    async def set_tokens(self, tokens: OAuthToken) -> None:
        self.tokens = tokens

    async def get_client_info(self) -> OAuthClientInformationFull | None:
        return self.client

    async def set_client_info(self, client_info: OAuthClientInformationFull) -> None:
        self.client = client_info


async def opens(address: str) -> None:
    print(json.dumps({"open": address}), flush=True)


async def comes_back() -> tuple[str, str | None]:
    line = await asyncio.to_thread(sys.stdin.readline)
    given = parse_qs(urlsplit(line.strip()).query)
    return given["code"][0], given["state"][0]


def signing_in() -> OAuthClientProvider:
    metadata = OAuthClientMetadata(client_name="An agent of LangGraph", redirect_uris=[AnyUrl(CALLBACK)])
    return OAuthClientProvider(URL, metadata, Kept(), opens, comes_back)


async def main() -> None:
    server: dict[str, Any] = {"transport": "streamable_http", "url": URL}
    server |= {"headers": {"Authorization": f"Bearer {TOKEN}"}} if TOKEN else {"auth": signing_in()}
    tools = await MultiServerMCPClient({"data-explorer": server}).get_tools()
    # What a model would be told of them.
    told = [convert_to_openai_tool(tool)["function"] for tool in tools]
    graph = StateGraph(MessagesState)
    graph.add_node("model", model)
    graph.add_node("tools", ToolNode(tools))
    graph.add_edge(START, "model")
    graph.add_conditional_edges("model", tools_condition)
    graph.add_edge("tools", "model")
    end = await graph.compile().ainvoke({"messages": [("user", TASK)]}, {"recursion_limit": 60})
    calls = [call["name"] for message in end["messages"] for call in getattr(message, "tool_calls", [])]
    print(json.dumps({"tools": [tool["name"] for tool in told], "calls": calls, "says": end["messages"][-1].content}))


asyncio.run(main())
