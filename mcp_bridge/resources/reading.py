"""What may a host read by its address? A page, or what a tool answers: a table, a run, what a tenant's words mean.

Reading an address is a call of its tool: it passes the same gate, scopes, audit and budget, and gives the same answer.
"""

from collections.abc import Awaitable, Callable, Mapping
from typing import Any

import mcp_types as types
from mcp.server.context import ServerRequestContext
from mcp.shared.exceptions import MCPError

from explorer.catalog import Scope
from explorer.core.errors import ExplorerError
from mcp_bridge.answers.addresses import ADDRESSED, JSON, SEMANTICS
from mcp_bridge.clients.platform_database import PlatformDatabase
from mcp_bridge.clients.timeouts import CATALOG_S, in_thread
from mcp_bridge.gate.access import Caller
from mcp_bridge.gate.audit import for_caller
from mcp_bridge.gate.handlers import Gate
from mcp_bridge.views import pages

# A list of addresses is for people who pick one. Of more tenants they know the key.
_MOST_LISTED = 100


class Resources:
    """The handlers of resources, for the callers of a gate."""

    def __init__(self, gate: Gate, platform: PlatformDatabase, caller: Callable[[], Awaitable[Caller]]) -> None:
        self._gate, self._platform, self._caller = gate, platform, caller

    async def list_templates(
        self, ctx: ServerRequestContext[Any, Any], params: types.PaginatedRequestParams | None
    ) -> types.ListResourceTemplatesResult:
        """The forms of addresses."""
        listed = [
            types.ResourceTemplate(
                uri_template=each.template,
                name=each.tool,
                title=each.title,
                description=each.description,
                mime_type=JSON,
            )
            for each in ADDRESSED
        ]
        return types.ListResourceTemplatesResult(resource_templates=listed)

    async def list_resources(
        self, ctx: ServerRequestContext[Any, Any], params: types.PaginatedRequestParams | None
    ) -> types.ListResourcesResult:
        """The pages, and the semantics of the caller's tenants. An unknown caller gets a protocol error."""
        try:
            caller = await self._caller()
            tenants = await in_thread(caller.tenants, self._platform.catalog, within_s=CATALOG_S)
        except ExplorerError as error:
            raise _refused(for_caller(error, None).as_dict()) from None
        readable = [tenant for tenant in tenants if Scope.METADATA_READ in caller.scopes(tenant.key)]
        listed = [
            types.Resource(
                uri=SEMANTICS.uri(tenant=tenant.key), name=tenant.key, title=f"Meanings of {tenant.key}", mime_type=JSON
            )
            for tenant in readable[:_MOST_LISTED]
        ]
        return types.ListResourcesResult(resources=[*pages.listed(), *listed])

    async def read(
        self, ctx: ServerRequestContext[Any, Any], params: types.ReadResourceRequestParams
    ) -> types.ReadResourceResult:
        """What lies under an address. What the tool refuses is a protocol error with the tool's own words."""
        page = pages.page(params.uri)
        if page is not None:
            return page
        for each in ADDRESSED:
            arguments = each.arguments(params.uri)
            if arguments is not None:
                result = await self._gate.read(ctx, each.tool, arguments)
                if result.is_error:
                    raise _refused((result.structured_content or {}).get("error", {}))
                text = "".join(part.text for part in result.content if isinstance(part, types.TextContent))
                content = types.TextResourceContents(uri=params.uri, mime_type=JSON, text=text)
                return types.ReadResourceResult(contents=[content])
        forms = ", ".join(each.template for each in ADDRESSED)
        raise MCPError(
            code=types.INVALID_PARAMS, message=f"There is nothing under {params.uri[:80]!r}; there are {forms}."
        )


def _refused(error: Mapping[str, Any]) -> MCPError:
    said = " ".join(str(error[part]) for part in ("message", "next_step") if error.get(part))
    return MCPError(code=types.INVALID_PARAMS, message=said or "It cannot be read.", data=dict(error))
