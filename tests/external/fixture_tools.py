"""The tools, resources and prompts that the official conformance suite calls, as it demands them. For tests only."""

import base64
import json
from collections.abc import Mapping
from typing import Any

import anyio
import mcp_types as types
from mcp.shared.exceptions import MCPError

_PNG = base64.b64encode(
    bytes.fromhex(
        "89504e470d0a1a0a0000000d49484452000000010000000108060000001f15c4890000000d49444154789c6360f8cfc00000030101"
        "0018dd8db00000000049454e44ae426082"
    )
).decode()
_WAV = base64.b64encode(b"RIFF$\0\0\0WAVEfmt \x10\0\0\0\1\0\1\0@\x1f\0\0\x80>\0\0\2\0\x10\0data\0\0\0\0").decode()
# The suite changes characters of it; only exactly what was given is accepted.
_STATE = "sealed-"


def _object(required: tuple[str, ...] = (), **properties: Any) -> dict[str, Any]:
    return {"type": "object", "properties": properties, "required": list(required)}


_TEXT = {"type": "string"}
_NAME = _object(("name",), name=_TEXT)
_ANY = {"type": "object", "properties": {}}
_DEFAULTS = _object(
    name={"type": "string", "default": "John Doe"},
    age={"type": "integer", "default": 30},
    score={"type": "number", "default": 95.5},
    status={"type": "string", "enum": ["active", "inactive", "pending"], "default": "active"},
    verified={"type": "boolean", "default": True},
)
_TITLED = [
    {"const": f"value{number}", "title": f"{word} Option"}
    for number, word in enumerate(("First", "Second", "Third"), 1)
]
_OPTIONS = ["option1", "option2", "option3"]
_ENUMS = _object(
    untitledSingle={"type": "string", "enum": _OPTIONS},
    titledSingle={"type": "string", "oneOf": _TITLED},
    legacyEnum={
        "type": "string",
        "enum": ["opt1", "opt2", "opt3"],
        "enumNames": ["Option One", "Option Two", "Option Three"],
    },
    untitledMulti={"type": "array", "items": {"type": "string", "enum": _OPTIONS}},
    titledMulti={"type": "array", "items": {"anyOf": _TITLED}},
)
_JSON_SCHEMA = {
    "$schema": "https://json-schema.org/draft/2020-12/schema",
    "type": "object",
    "$defs": {"address": {"$anchor": "addressDef", "type": "object", "properties": {"street": _TEXT, "city": _TEXT}}},
    "properties": {
        "name": _TEXT,
        "address": {"$ref": "#/$defs/address"},
        "contactMethod": {"type": "string", "enum": ["phone", "email"]},
        "phone": _TEXT,
        "email": _TEXT,
    },
    "allOf": [{"anyOf": [{"required": ["phone"]}, {"required": ["email"]}]}],
    "if": {"properties": {"contactMethod": {"const": "phone"}}, "required": ["contactMethod"]},
    "then": {"required": ["phone"]},
    "else": {"required": ["email"]},
    "additionalProperties": False,
}
SCHEMAS: Mapping[str, dict[str, Any]] = {
    "json_schema_2020_12_tool": _JSON_SCHEMA,
    "test_custom_headers": _object(
        ("region", "query"), region={"type": "string", "x-mcp-header": "Region"}, query=_TEXT
    ),
}
_ECHOING = ("json_schema_2020_12_tool", "test_custom_headers", "test_logging_tool", "test_reconnection")
NAMES = (
    *_ECHOING,
    "test_simple_text",
    "test_image_content",
    "test_audio_content",
    "test_embedded_resource",
    "test_multiple_content_types",
    "test_error_handling",
    "test_tool_with_progress",
    "test_sampling",
    "test_elicitation",
    "test_elicitation_sep1034_defaults",
    "test_elicitation_sep1330_enums",
    "test_missing_capability",
    "test_streaming_elicitation",
    "test_tool_with_logging",
    "test_input_required_result_elicitation",
    "test_input_required_result_sampling",
    "test_input_required_result_list_roots",
    "test_input_required_result_request_state",
    "test_input_required_result_multiple_inputs",
    "test_input_required_result_multi_round",
    "test_input_required_result_capabilities",
    "test_input_required_result_tampered_state",
)
TOOLS = [
    types.Tool(name=name, description="A tool of the suite.", input_schema=SCHEMAS.get(name, _ANY)) for name in NAMES
]


def schema_of(name: str) -> dict[str, Any]:
    """The input schema of a tool of the suite."""
    return SCHEMAS.get(name, _ANY)


def _text(text: str) -> types.TextContent:
    return types.TextContent(type="text", text=text)


def _done(*content: Any, is_error: bool = False) -> types.CallToolResult:
    return types.CallToolResult(content=list(content), is_error=is_error)


def _form(message: str, schema: dict[str, Any] = _NAME) -> types.ElicitRequest:
    params = types.ElicitRequestFormParams(mode="form", message=message, requested_schema=schema)
    return types.ElicitRequest(method="elicitation/create", params=params)


def _sample() -> types.CreateMessageRequest:
    asked = types.SamplingMessage(role="user", content=_text("What is the capital of France?"))
    params = types.CreateMessageRequestParams(messages=[asked], max_tokens=100)
    return types.CreateMessageRequest(method="sampling/createMessage", params=params)


def _roots() -> types.ListRootsRequest:
    return types.ListRootsRequest(method="roots/list")


def _wanted(state: str | None = None, **requests: Any) -> types.InputRequiredResult:
    return types.InputRequiredResult(input_requests=requests or None, request_state=state)


def _plain(value: Any) -> Any:
    return value if isinstance(value, dict) else value.model_dump(by_alias=True, mode="json", exclude_none=True)


def _embedded(uri: str, text: str) -> types.EmbeddedResource:
    contents = types.TextResourceContents(uri=uri, mime_type="text/plain", text=text)
    return types.EmbeddedResource(type="resource", resource=contents)


async def call(ctx: Any, params: Any) -> Any:
    """Answer a call of one of `NAMES`."""
    name, arguments, state = params.name, params.arguments or {}, params.request_state
    given = getattr(params, "input_responses", None) or {}
    image = types.ImageContent(type="image", data=_PNG, mime_type="image/png")
    if name in _ECHOING:
        return _done(_text(json.dumps(arguments)))
    match name:
        case "test_simple_text":
            return _done(_text("This is a simple text response for testing."))
        case "test_image_content":
            return _done(image)
        case "test_audio_content":
            return _done(types.AudioContent(type="audio", data=_WAV, mime_type="audio/wav"))
        case "test_embedded_resource":
            return _done(_embedded("test://embedded-resource", "This is an embedded resource content."))
        case "test_multiple_content_types":
            mixed = _embedded("test://mixed-content-resource", "This is an embedded resource content.")
            return _done(_text("Multiple content types test:"), image, mixed)
        case "test_error_handling":
            return _done(_text("This tool intentionally returns an error for testing"), is_error=True)
        case "test_tool_with_progress":
            for done in (0, 50, 100):
                await ctx.session.report_progress(done, 100, f"Completed step {done} of 100")
                await anyio.sleep(0.05)
            return _done(_text("0"))
        case "test_tool_with_logging":
            for line in ("Tool execution started", "Tool processing data", "Tool execution completed"):
                await ctx.session.send_log_message(level="info", data=line, related_request_id=ctx.request_id)
                await anyio.sleep(0.05)
            return _done(_text("ok"))
        case "test_sampling":
            asked = types.SamplingMessage(role="user", content=_text(str(arguments.get("prompt", "hi"))))
            answer = await ctx.session.create_message([asked], max_tokens=100, related_request_id=ctx.request_id)
            return _done(_text(f"LLM response: {getattr(answer.content, 'text', '')}"))
        case "test_elicitation" | "test_elicitation_sep1034_defaults" | "test_elicitation_sep1330_enums":
            schema = {
                "test_elicitation": _object(("username", "email"), username=_TEXT, email=_TEXT),
                "test_elicitation_sep1034_defaults": _DEFAULTS,
            }.get(name, _ENUMS)
            message = arguments.get("message", "Please answer")
            answer = await ctx.session.elicit_form(message, schema, related_request_id=ctx.request_id)
            return _done(_text(f"User response: action={answer.action}, content={json.dumps(answer.content)}"))
        case "test_missing_capability":
            if not (ctx.session.client_capabilities and ctx.session.client_capabilities.sampling):
                needed = {"requiredCapabilities": {"sampling": {}}}
                raise MCPError(code=-32021, message="Missing required client capability", data=needed)
            return _done(_text("ok"))
    return _input_required(name, given, state, ctx.session.client_capabilities)


def _input_required(name: str, given: Mapping[str, Any], state: str | None, capabilities: Any) -> Any:
    """Tools that ask for something before they answer."""
    match name.removeprefix("test_input_required_result_"):
        case "elicitation" | "test_streaming_elicitation":
            if "user_name" in given:
                return _done(_text(f"Hello, {json.dumps(_plain(given['user_name']))}"))
            return _wanted(user_name=_form("What is your name?"))
        case "sampling":
            if "capital_question" in given:
                return _done(_text(json.dumps(_plain(given["capital_question"]))))
            return _wanted(capital_question=_sample())
        case "list_roots":
            if "client_roots" in given:
                return _done(_text(json.dumps(_plain(given["client_roots"]))))
            return _wanted(client_roots=_roots())
        case "request_state" | "tampered_state":
            if state is None:
                return _wanted(
                    f"{_STATE}one", confirm=_form("Please confirm", _object(("ok",), ok={"type": "boolean"}))
                )
            if state != f"{_STATE}one":
                raise MCPError(code=-32602, message="requestState was changed")
            return _done(_text("state-ok"))
        case "multiple_inputs":
            if {"user_name", "greeting", "client_roots"} <= set(given):
                return _done(_text("all answered"))
            asked = {"user_name": _form("What is your name?"), "greeting": _sample(), "client_roots": _roots()}
            return _wanted(f"{_STATE}multi", **asked)
        case "multi_round":
            if state is None:
                return _wanted(f"{_STATE}r1", step1=_form("Step 1: What is your name?"))
            if state == f"{_STATE}r1":
                return _wanted(f"{_STATE}r2", step2=_form("Step 2: What is your favorite color?"))
            return _done(_text("both steps done"))
        case "capabilities":
            asked = {}
            if capabilities and capabilities.elicitation is not None:
                asked["ask"] = _form("Name?")
            if capabilities and capabilities.sampling is not None:
                asked["sample"] = _sample()
            return _done(_text("ok" if given else "nothing to ask with")) if given or not asked else _wanted(**asked)
    raise MCPError(code=-32602, message=f"The suite has no tool {name}")


async def list_resources(ctx: Any, params: Any) -> types.ListResourcesResult:
    """Two resources, a text and a picture."""
    return types.ListResourcesResult(
        resources=[
            types.Resource(uri="test://static-text", name="static-text", mime_type="text/plain"),
            types.Resource(uri="test://static-binary", name="static-binary", mime_type="image/png"),
        ]
    )


async def list_resource_templates(ctx: Any, params: Any) -> types.ListResourceTemplatesResult:
    """One template."""
    template = types.ResourceTemplate(
        uri_template="test://template/{id}/data", name="template", mime_type="application/json"
    )
    return types.ListResourceTemplatesResult(resource_templates=[template])


async def read_resource(ctx: Any, params: Any) -> types.ReadResourceResult:
    """The contents of what the two lists name."""
    uri = str(params.uri)
    contents: types.TextResourceContents | types.BlobResourceContents
    if uri == "test://static-text":
        said = "This is the content of the static text resource."
        contents = types.TextResourceContents(uri=uri, mime_type="text/plain", text=said)
    elif uri == "test://static-binary":
        contents = types.BlobResourceContents(uri=uri, mime_type="image/png", blob=_PNG)
    elif uri.startswith("test://template/"):
        key = uri.split("/")[3]
        found = json.dumps({"id": key, "templateTest": True, "data": f"Data for ID: {key}"})
        contents = types.TextResourceContents(uri=uri, mime_type="application/json", text=found)
    else:
        raise MCPError(code=-32602, message="Resource not found", data={"uri": uri})
    return types.ReadResourceResult(contents=[contents])


async def list_prompts(ctx: Any, params: Any) -> types.ListPromptsResult:
    """The prompts of the suite."""
    wanted = {
        "test_simple_prompt": (),
        "test_prompt_with_arguments": ("arg1", "arg2"),
        "test_prompt_with_embedded_resource": ("resourceUri",),
        "test_prompt_with_image": (),
        "test_input_required_result_prompt": (),
    }
    prompts = [
        types.Prompt(
            name=name,
            description="A prompt of the suite.",
            arguments=[types.PromptArgument(name=each, required=True) for each in arguments],
        )
        for name, arguments in wanted.items()
    ]
    return types.ListPromptsResult(prompts=prompts)


async def get_prompt(ctx: Any, params: Any) -> Any:
    """One of them, filled in."""
    arguments, given = params.arguments or {}, getattr(params, "input_responses", None) or {}
    content: list[Any]
    match params.name:
        case "test_simple_prompt":
            content = [_text("This is a simple prompt for testing.")]
        case "test_prompt_with_arguments":
            content = [_text(f"Prompt with arguments: arg1='{arguments.get('arg1')}', arg2='{arguments.get('arg2')}'")]
        case "test_prompt_with_embedded_resource":
            uri = arguments.get("resourceUri", "test://x")
            embedded = _embedded(uri, "Embedded resource content for testing.")
            content = [embedded, _text("Please process the embedded resource above.")]
        case "test_prompt_with_image":
            image = types.ImageContent(type="image", data=_PNG, mime_type="image/png")
            content = [image, _text("Please analyze the image above.")]
        case "test_input_required_result_prompt":
            if "user_context" not in given:
                schema = _object(("context",), context=_TEXT)
                return _wanted(user_context=_form("What context should the prompt use?", schema))
            content = [_text("with context")]
        case _:
            raise MCPError(code=-32602, message="Unknown prompt")
    return types.GetPromptResult(messages=[types.PromptMessage(role="user", content=each) for each in content])


async def complete(ctx: Any, params: Any) -> types.CompleteResult:
    """Two completions, whatever was begun."""
    return types.CompleteResult(completion=types.Completion(values=["paris", "park"], total=2, has_more=False))


async def nothing(ctx: Any, params: Any) -> types.EmptyResult:
    """Accepts what has no answer."""
    return types.EmptyResult()
