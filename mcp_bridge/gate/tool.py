"""The definition of a tool: name, texts for the model, typed arguments, required scope, and whether it changes something."""

import json
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from functools import cache
from typing import Annotated, Any, ClassVar, Literal, Protocol, get_args, get_origin

import mcp_types as types
from pydantic import BaseModel, ConfigDict, Field, model_validator

from explorer.catalog import AdmittedTenant, AdmittedWorkspace, Limits, Scope, Tenant
from explorer.core.toolsets import Toolset
from mcp_bridge.answers.envelope import Answer
from mcp_bridge.answers.wording import Wording
from mcp_bridge.gate.access import Caller
from mcp_bridge.gate.budgets import Budget
from mcp_bridge.gate.confirmation import User
from mcp_bridge.views.pages import tool_meta

ResponseFormat = Literal["concise", "detailed"]
Format = Annotated[
    ResponseFormat,
    Field(description="detailed costs up to 3 times the tokens."),
]
Progress = Callable[[float, float | None, str], Awaitable[None]]


class Arguments(BaseModel):
    """Base of all argument models. Unknown names are refused; lists may be JSON text, as some hosts send them."""

    model_config = ConfigDict(extra="forbid")

    @model_validator(mode="before")
    @classmethod
    def _parse_lists(cls, values: Any) -> Any:
        if not isinstance(values, dict):
            return values
        lists = _lists_of(cls)
        return {name: _parsed(value) if name in lists else value for name, value in values.items()}


class TenantArguments(Arguments):
    """Base of the tools that work on one tenant."""

    tenant: str | None = Field(None, description="Tenant key.")


class WorkspaceArguments(TenantArguments):
    """Base of the tools that work on one tenant, or on all of a workspace."""

    workspace: str | None = Field(
        None, max_length=63, description="Instead of tenant: all tenants of it at once, told apart by column tenant."
    )


def _parsed(value: Any) -> Any:
    if isinstance(value, str) and value[:1] == "[":
        try:
            return json.loads(value)
        except (ValueError, RecursionError):
            return value
    return value


@cache
def _lists_of(arguments: type[Arguments]) -> frozenset[str]:
    """The names of the arguments that take a list."""
    return frozenset(name for name, field in arguments.model_fields.items() if _takes_list(field.annotation))


def _takes_list(annotation: Any) -> bool:
    """Whether the type is a list or a union with one. Only then JSON text is read as a list."""
    return get_origin(annotation) is list or any(_takes_list(part) for part in get_args(annotation))


@dataclass(frozen=True)
class Member:
    """A tenant of a workspace that the caller may query, with its limits and windows."""

    admitted: AdmittedTenant
    budget: Budget


@dataclass
class Call:
    """The call that is served. The gate has checked `tenant` and scope; tools with a run id find the tenant themselves.
    `user`: is asked before something is lost. `admitted`: the tenant as the gate found it, with its schemas. `budget`: the limits
    that hold, and what the tool has used. For a workspace there is no tenant: `members` are the tenants that the call is for, and
    `budget` has the strictest of their limits; it counts for each of them.

    `audit`: facts for the audit trail, never values from the caller.
    """

    caller: Caller
    progress: Progress
    user: User
    tenant: Tenant | None = None
    admitted: AdmittedTenant | None = None
    budget: Budget = field(default_factory=lambda: Budget(Limits()))
    audit: dict[str, Any] = field(default_factory=dict)
    workspace: AdmittedWorkspace | None = None
    members: tuple[Member, ...] = ()

    @property
    def shares(self) -> list[tuple[str | None, Budget]]:
        """For whom the call counts: keys of tenants with their budgets."""
        if self.members:
            return [(member.admitted.tenant.key, member.budget) for member in self.members]
        return [(self.tenant.key if self.tenant else None, self.budget)]

    @property
    def over(self) -> AdmittedWorkspace:
        """The workspace of the call, for tools that were given one."""
        if self.workspace is None:
            raise RuntimeError("the gate finds the workspace before the tool runs")
        return self.workspace

    @property
    def own(self) -> AdmittedTenant:
        """The tenant of the call and its schemas when the call came, for tools that always have one."""
        if self.admitted is None:
            raise RuntimeError("the gate resolves the tenant before the tool runs")
        return self.admitted

    @property
    def own_tenant(self) -> Tenant:
        """The tenant of the call, for tools that always have one."""
        return self.own.tenant


@dataclass(frozen=True)
class Tool:
    """One tool, served by the method `run` of its family. `description` may have placeholders for `Wording.fill`. `scope` None:
    any valid token may call it. `toolset` None: every caller sees it. `view`: the page that hosts may show beside its answers.
    `by_address`: it is not for agents to call, but read as a resource. `mutates`: an attempt is audited before it is made.
    `own_cursors`: the tool signs its cursors itself; otherwise the gate does."""

    name: str
    title: str
    description: str
    arguments: type[Arguments]
    run: Callable[[Any, Call, Any], Awaitable[Answer]]
    scope: Scope | None
    toolset: Toolset | None = None
    view: str | None = None
    by_address: bool = False
    mutates: bool = False
    destructive: bool = False
    idempotent: bool = True
    open_world: bool = False
    own_cursors: bool = False

    @property
    def input_schema(self) -> dict[str, Any]:
        """The tool's arguments as JSON schema."""
        return _input_schema(self.arguments)

    def definition(self, wording: Wording) -> types.Tool:
        """The tool as in `tools/list`; the same bytes in every process."""
        return types.Tool(
            name=self.name,
            title=self.title,
            description=wording.fill(self.description),
            input_schema=_with_default_pipeline(self.input_schema, wording.pipeline),
            annotations=types.ToolAnnotations(
                read_only_hint=not self.mutates,
                destructive_hint=self.destructive,
                idempotent_hint=self.idempotent,
                open_world_hint=self.open_world,
            ),
            _meta=tool_meta(self.view),
        )


def _with_default_pipeline(schema: dict[str, Any], pipeline: str | None) -> dict[str, Any]:
    """The schema with the default pipeline, when there is only one."""
    prop = schema["properties"].get("pipeline", {})
    if prop.get("default") == "":
        if pipeline is None:
            del prop["default"]
        else:
            prop["default"] = pipeline
    return schema


class ToolFamily(Protocol):
    """Tools that need the same parts of the bridge. The fields are these parts, the methods are the tools."""

    TOOLS: ClassVar[tuple[Tool, ...]]


_OMITTED_KEYS = frozenset({"title", "anyOf", "minLength", "maxLength", "minItems", "maxItems"})


def _input_schema(model: type[BaseModel]) -> dict[str, Any]:
    """JSON schema without entries that only cost tokens: titles, lengths, null alternatives, null defaults."""
    schema = model.model_json_schema()
    properties = {name: _slim(prop) for name, prop in schema.get("properties", {}).items()}
    slim: dict[str, Any] = {"type": "object", "properties": properties, "additionalProperties": False}
    if schema.get("required"):
        slim["required"] = schema["required"]
    return slim


def _slim(prop: dict[str, Any]) -> dict[str, Any]:
    merged = {key: value for key, value in prop.items() if key not in _OMITTED_KEYS}
    for alternative in prop.get("anyOf", ()):
        if alternative.get("type") != "null":
            merged = {**_slim(alternative), **merged}
    if merged.get("additionalProperties") is True:
        del merged["additionalProperties"]
    if merged.get("default", 0) is None:
        del merged["default"]
    return merged
