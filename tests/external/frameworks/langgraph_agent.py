"""An agent of LangGraph, with the tools that langchain-mcp-adapters makes of the bridge's. Prints its calls and what it says."""

import asyncio
import json
from typing import Any

from langchain_core.messages import AIMessage, AnyMessage, ToolMessage
from langchain_core.utils.function_calling import convert_to_openai_tool
from langchain_mcp_adapters.client import MultiServerMCPClient
from langgraph.graph import START, MessagesState, StateGraph
from langgraph.prebuilt import ToolNode, tools_condition
from plan import TASK, TOKEN, URL, next_call


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


async def main() -> None:
    server = {"transport": "streamable_http", "url": URL, "headers": {"Authorization": f"Bearer {TOKEN}"}}
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
