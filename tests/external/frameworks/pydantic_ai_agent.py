"""An agent of Pydantic AI, with the bridge as its toolset. Prints its calls and what it says."""

import asyncio
import json
from typing import Any

from plan import TASK, TOKEN, URL, next_call
from pydantic_ai import Agent
from pydantic_ai.mcp import MCPToolset
from pydantic_ai.messages import ModelMessage, ModelResponse, TextPart, ToolCallPart, ToolReturnPart
from pydantic_ai.models.function import AgentInfo, FunctionModel

told: list[str] = []
calls: list[str] = []


def content(part: ToolReturnPart) -> dict[str, Any]:
    """The answer, without the links that may stand behind it."""
    said = part.content[0] if isinstance(part.content, list) else part.content
    return dict(json.loads(said) if isinstance(said, str) else said)


async def model(messages: list[ModelMessage], info: AgentInfo) -> ModelResponse:
    told[:] = [tool.name for tool in info.function_tools]
    parts = (part for message in messages for part in message.parts)
    step = next_call([content(part) for part in parts if isinstance(part, ToolReturnPart)])
    if isinstance(step, str):
        return ModelResponse([TextPart(step)])
    calls.append(step[0])
    return ModelResponse([ToolCallPart(*step)])


async def main() -> None:
    toolset = MCPToolset(URL, headers={"Authorization": f"Bearer {TOKEN}"})
    end = await Agent(FunctionModel(model), toolsets=[toolset]).run(TASK)
    print(json.dumps({"tools": told, "calls": calls, "says": end.output}))


asyncio.run(main())
