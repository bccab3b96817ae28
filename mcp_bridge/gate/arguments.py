"""Parses the arguments of a call. Errors say in words what to change."""

from typing import Any

from pydantic import ValidationError

from mcp_bridge.answers.envelope import InvalidArgument, did_you_mean
from mcp_bridge.gate.tool import Arguments, Tool


def parse(tool: Tool, raw: dict[str, Any]) -> Arguments:
    """The arguments, parsed and typed.

    Raises:
        InvalidArgument: says in words what is wrong with the first few arguments. It does not repeat their values.
    """
    try:
        return tool.arguments.model_validate(raw)
    except ValidationError as error:
        known = list(tool.arguments.model_fields)
        faults = [_fault(fault, known) for fault in error.errors(include_url=False, include_input=False)[:5]]
        raise InvalidArgument(
            f"{tool.name}: {'; '.join(faults)}.",
            next_step="Correct the arguments and call again.",
            details=_allowed(tool, error) or {"arguments": known[:10]},
        ) from None


def _allowed(tool: Tool, error: ValidationError) -> dict[str, Any]:
    """The allowed values of the first argument that has another value."""
    for fault in error.errors(include_url=False, include_input=False):
        if fault["type"] == "literal_error":
            name = str(fault["loc"][0])
            return {"argument": name, "allowed": _values(tool.input_schema["properties"][name])}
    return {}


def _values(prop: dict[str, Any]) -> list[Any]:
    return list(prop.get("enum") or prop.get("items", {}).get("enum") or ())


def _fault(fault: Any, known: list[str]) -> str:
    name = ".".join(str(part) for part in fault["loc"]) or "arguments"
    if fault["type"] == "extra_forbidden":
        near = did_you_mean(name, known)
        return f"unknown argument {name[:60]!r}" + (f", did you mean {near[0]!r}?" if near else "")
    if fault["type"] == "missing":
        return f"{name!r} is required"
    message = str(fault["msg"])
    return f"{name!r}: {message[:1].lower()}{message[1:]}"
