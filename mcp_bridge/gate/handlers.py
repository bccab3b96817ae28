"""Serves a call in these steps: caller, arguments, tenant, scope, tool, audit, envelope.

Fails closed: a call that cannot be audited gets no result, and a change is audited before it is attempted.
"""

import logging
import time
from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import Any
from uuid import UUID

import mcp_types as types
from anyio import CancelScope
from mcp.server.context import ServerRequestContext
from mcp.shared.exceptions import MCPError
from opentelemetry import trace

from explorer.catalog import Spent, Tenant, Used
from explorer.catalog.lifecycle.schemas import LIVE
from explorer.catalog.lifecycle.workspaces import unknown_workspace
from explorer.core.errors import ExplorerError, UnknownTenant
from explorer.core.toolsets import Toolset
from explorer.telemetry.logs import about, now_about
from mcp_bridge.answers.envelope import Answer, InvalidArgument, did_you_mean, failure, success
from mcp_bridge.answers.wording import Wording
from mcp_bridge.clients.platform_database import PlatformDatabase
from mcp_bridge.clients.timeouts import CATALOG_S, in_thread
from mcp_bridge.gate.access import Caller, ScopeMissing, TenantRequired, ToolsetOff
from mcp_bridge.gate.arguments import parse
from mcp_bridge.gate.audit import AuditTrail, elapsed_ms, for_caller
from mcp_bridge.gate.budgets import Budget, Budgets, strictest
from mcp_bridge.gate.confirmation import Asked, User
from mcp_bridge.gate.list_cursors import ListCursors
from mcp_bridge.gate.tool import Arguments, Call, Member, TenantArguments, Tool, ToolFamily, WorkspaceArguments
from mcp_bridge.metrics import BridgeMetrics

_log = logging.getLogger(__name__)


class InternalError(ExplorerError):
    """An error in the bridge itself. Its log has the cause."""

    code = "internal_error"


class Gate:
    """The two handlers of the MCP server, for the tools of the given families."""

    def __init__(
        self,
        families: Iterable[ToolFamily],
        platform: PlatformDatabase,
        caller: Callable[[], Awaitable[Caller]],
        budgets: Budgets,
        list_cursors: Callable[[], ListCursors],
        wording: Wording,
        metrics: BridgeMetrics,
        toolsets: frozenset[Toolset],
    ) -> None:
        """`caller` returns the caller of the current call. `list_cursors` is called when needed, because its key is in HOME.
        `toolsets`: that all callers see."""
        self._platform, self._caller, self._list_cursors = platform, caller, list_cursors
        self._audit = AuditTrail(platform)
        self._budgets, self._metrics, self._toolsets = budgets, metrics, toolsets
        served = {tool.name: (tool, family) for family in families for tool in family.TOOLS}
        self._families = {name: family for name, (_, family) in served.items()}
        self._tools = {name: served[name][0] for name in sorted(served) if not served[name][0].by_address}
        self._read = {name: tool for name, (tool, _) in served.items() if not tool.mutates}
        # Made once, because the SDK reads a tool's parameters on every call.
        self._definitions = {name: tool.definition(wording) for name, tool in self._tools.items()}

    async def list_tools(
        self, ctx: ServerRequestContext[Any, Any], params: types.PaginatedRequestParams | None
    ) -> types.ListToolsResult:
        """The tools that the caller may use for at least one tenant, of the default ones and the toolsets that are on. An unknown
        caller gets a protocol error with the reason."""
        try:
            caller = await self._caller()
        except ExplorerError as error:
            refusal = for_caller(error, None)
            raise MCPError(code=types.INTERNAL_ERROR, message=str(refusal), data=refusal.as_dict()) from None
        shown = [
            name
            for name, tool in self._tools.items()
            if (tool.scope is None or caller.may_anywhere(tool.scope)) and self._is_on(tool, caller)
        ]
        return types.ListToolsResult(tools=[self._definitions[name] for name in shown])

    def _is_on(self, tool: Tool, caller: Caller) -> bool:
        """Whether the caller sees the tool's toolset, or was granted by name what only such tools need."""
        if tool.toolset is None or tool.toolset in self._toolsets or tool.toolset in caller.toolsets:
            return True
        return tool.scope is not None and caller.has_named(tool.scope)

    def input_schema(self, tool: str) -> dict[str, Any] | None:
        """The input schema from the tool's definition; None when there is no such tool."""
        definition = self._definitions.get(tool)
        return definition.input_schema if definition else None

    async def call_tool(
        self, ctx: ServerRequestContext[Any, Any], params: types.CallToolRequestParams
    ) -> types.CallToolResult | types.InputRequiredResult:
        """Serve one call. Only an unknown tool is a protocol error; all other results are envelopes or questions to the user."""
        started = time.monotonic()
        tool = self._tools.get(params.name)
        if tool is None:
            near = did_you_mean(params.name, self._tools)
            hint = f" Did you mean {near[0]}?" if near else ""
            raise MCPError(code=types.INVALID_PARAMS, message=f"Unknown tool: {params.name[:80]}.{hint}")
        return await self._called(ctx, tool, params, started)

    async def read(
        self, ctx: ServerRequestContext[Any, Any], name: str, arguments: dict[str, Any]
    ) -> types.CallToolResult:
        """Serve what is read by address as a call of that tool, which changes nothing."""
        params = types.CallToolRequestParams(name=name, arguments=arguments)
        result = await self._called(ctx, self._read[name], params, time.monotonic())
        if not isinstance(result, types.CallToolResult):
            raise TypeError(f"{name} reads only, and asks nothing")
        return result

    async def _called(
        self, ctx: ServerRequestContext[Any, Any], tool: Tool, params: types.CallToolRequestParams, started: float
    ) -> types.CallToolResult | types.InputRequiredResult:
        try:
            caller = await self._caller()
        except ExplorerError as error:
            return failure(for_caller(error, None), None, elapsed_ms(started))
        call = Call(caller, ctx.session.report_progress, User(ctx, params), audit=dict(caller.audit))
        try:
            with self._metrics.at_work(), about():
                return await self._serve(tool, call, params.arguments or {}, started)
        finally:
            # Not before its entry counts it.
            for _, budget in call.shares:
                self._budgets.leave(budget)

    async def _serve(
        self, tool: Tool, call: Call, raw: dict[str, Any], started: float
    ) -> types.CallToolResult | types.InputRequiredResult:
        answer: Answer | None = None
        error: ExplorerError | None = None
        try:
            if tool.toolset is not None and not self._is_on(tool, call.caller):
                call.caller.refuse_hidden(tool.name, tool.toolset)
            arguments = parse(tool, raw)
            now_about(run=getattr(arguments, "run_id", None))
            await self._admit(tool, call, arguments)
            if tool.mutates:
                await self._audit.write(tool, call, "attempted", None, started)
            answer = await self._page(tool, call, arguments)
        except ExplorerError as refused:
            error = for_caller(refused, call.caller)
        except Asked as asked:
            return await self._question(tool, call, asked, started)
        except Exception:
            _log.exception("Tool %s failed unexpectedly", tool.name)
            error = InternalError(
                f"The bridge failed while serving {tool.name}.",
                next_step="Try once more; if it happens again, the bridge's log has the cause.",
            )
        except BaseException:
            self._metrics.call_ended(tool.name, "cancelled", None, time.monotonic() - started, call.budget.used)
            with CancelScope(shield=True):
                await self._audit.write_quietly(tool, call, "cancelled", started, self._spent(call, None))
            raise
        if answer is not None:
            call.audit |= answer.audit
        spent = self._spent(call, answer)
        used: list[Used | None] = []
        try:
            used = await self._audit.write(tool, call, _outcome(answer, error), error, started, spent)
        except ExplorerError as unwritten:
            answer, error = None, unwritten
        key = call.tenant.key if call.tenant else None
        amounts = spent[0].amounts if spent[0] else call.budget.used
        code = error.code if error else None
        self._metrics.call_ended(tool.name, _outcome(answer, error), code, time.monotonic() - started, amounts)
        if answer is not None:
            return success(answer, key, elapsed_ms(started), _left(call, used))
        return failure(error or InternalError("No answer.", next_step="Try again."), key, elapsed_ms(started))

    async def _question(
        self, tool: Tool, call: Call, asked: Asked, started: float
    ) -> types.CallToolResult | types.InputRequiredResult:
        """The question as the call's answer, once it is in the audit trail."""
        self._metrics.call_ended(tool.name, "asked", None, time.monotonic() - started, call.budget.used)
        try:
            await self._audit.write(tool, call, "asked", None, started, self._spent(call, None))
        except ExplorerError as unwritten:
            return failure(unwritten, call.tenant.key if call.tenant else None, elapsed_ms(started))
        return asked.result

    def _spent(self, call: Call, answer: Answer | None) -> list[Spent | None]:
        """What the call counts for, in the order of its shares."""
        return [self._budgets.spent(budget, answer, call.budget.used) for _, budget in call.shares]

    async def _page(self, tool: Tool, call: Call, arguments: Arguments) -> Answer:
        """The tool's answer. Cursors in it are sealed, and only cursors that the tool issued are passed to it."""
        cursor: str | None = getattr(arguments, "cursor", None)
        given = call.caller.identity, call.tenant.key if call.tenant else None, arguments.model_dump(mode="json")
        if cursor is not None and not tool.own_cursors:
            opened = self._list_cursors().place(cursor, tool.name, *given)
            arguments = arguments.model_copy(update={"cursor": opened})
        answer = await tool.run(self._families[tool.name], call, arguments)
        place = answer.data.get("next_cursor")
        if place is not None and not tool.own_cursors:
            answer.data["next_cursor"] = self._list_cursors().seal(place, tool.name, *given)
        return answer

    async def _admit(self, tool: Tool, call: Call, arguments: Arguments) -> None:
        """Resolve the tenant and check the scope."""
        if not isinstance(arguments, TenantArguments):
            return
        calls = await self._platform.calls()
        if isinstance(arguments, WorkspaceArguments) and arguments.workspace is not None:
            await self._admit_to_workspace(tool, call, arguments.workspace, arguments.tenant)
            return
        call.admitted = await call.caller.known_tenant(calls, arguments.tenant)
        if call.admitted is None:
            tenant = await in_thread(self._only_tenant, call.caller, arguments.tenant, within_s=CATALOG_S)
            call.admitted = await calls.tenant(tenant.key)
        if call.admitted is None:
            raise UnknownTenant("The tenant was just removed.", next_step="list_tenants shows yours.")
        call.tenant = call.admitted.tenant
        now_about(tenant=call.tenant.key)
        trace.get_current_span().set_attribute("explorer.tenant", call.tenant.key)
        if tool.scope is not None:
            call.caller.require(tool.scope, call.tenant.key)
        call.budget = await self._budgets.admit(call.caller, call.tenant)

    async def _admit_to_workspace(self, tool: Tool, call: Call, name: str, tenant: str | None) -> None:
        """Resolve a workspace, and which of its tenants the caller may query now: with the scope, with schemas."""
        if tenant is not None:
            raise InvalidArgument("A call is for a tenant or for a workspace.", next_step="Leave one of them out.")
        calls, caller = await self._platform.calls(), call.caller
        owner = None if caller.grants is None else UUID(caller.identity)
        call.workspace = await calls.workspace(owner, name)
        if call.workspace is None:
            raise unknown_workspace(name)
        call.audit["workspace"] = str(call.workspace.id)
        trace.get_current_span().set_attribute("explorer.workspace", str(call.workspace.id))
        for admitted in call.workspace.members:
            may = tool.scope is None or tool.scope in caller.scopes(admitted.tenant.key)
            if may and admitted.schema.state in LIVE:
                budget = await self._budgets.admit(caller, admitted.tenant)
                call.members += (Member(admitted, budget),)
        if not call.members:
            raise UnknownTenant(
                f"None of the tenants of {name} can be queried now.",
                next_step="list_workspaces tells why; list_tenants shows the tenants that you may use.",
            )
        call.budget = Budget(strictest([member.budget.limits for member in call.members]))

    def _only_tenant(self, caller: Caller, key: str | None) -> Tenant:
        """The caller's only tenant, or the error that says which there are. Blocks on the database."""
        return caller.tenant(self._platform.catalog, key)


def _left(call: Call, used: Sequence[Used | None]) -> dict[str, int]:
    """What is left of each budget; of a workspace's, where least is left."""
    found: dict[str, int] = {}
    for (_, budget), window in zip(call.shares, used, strict=False):
        for name, left in (budget.left(window) if window else {}).items():
            found[name] = min(left, found.get(name, left))
    return found


def _outcome(answer: Answer | None, error: ExplorerError | None) -> str:
    if answer is not None:
        return "ok"
    return "denied" if isinstance(error, (UnknownTenant, TenantRequired, ScopeMissing, ToolsetOff)) else "error"
