"""Which scopes would a call need that the person has, but did not allow the program? Asked before the response begins.

MCP hosts ask the person for more when the answer is status 403, which has to come before a stream is opened. A scope that the
person does not have is refused by the tool instead: the browser could not help.
"""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from explorer.catalog import Scope
from mcp_bridge.gate.access import Caller
from mcp_bridge.gate.tool import ToolFamily


@dataclass(frozen=True)
class StepUp:
    """`scopes`: the scope of each tool that needs one, by the tool's name."""

    scopes: Mapping[str, Scope]

    @classmethod
    def of(cls, families: Iterable[ToolFamily]) -> "StepUp":
        """For the tools of these families."""
        return cls({tool.name: tool.scope for family in families for tool in family.TOOLS if tool.scope is not None})

    def missing(self, body: bytes, caller: Caller) -> Scope | None:
        """The scope for which the person should be asked, if the body is such a call."""
        if not caller.withheld:
            return None
        try:
            message = json.loads(body)
            if message["method"] != "tools/call":
                return None
            scope = self.scopes[message["params"]["name"]]
            tenant = message["params"].get("arguments", {}).get("tenant")
        except (ValueError, RecursionError, LookupError, TypeError, AttributeError):
            return None  # no call of a tool with a scope: the server says what is wrong with it
        tenants = [tenant] if isinstance(tenant, str) else [*(caller.grants or {})]
        if any(scope in caller.scopes(key) for key in tenants):
            return None
        return scope if any(scope in caller.withheld.get(key, ()) for key in tenants) else None
