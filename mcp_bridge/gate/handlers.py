"""How is a call let in, carried out and written down? Caller, arguments, tenant, scope, tool, audit, envelope, in this order.

Fails closed: a call that cannot be audited gets no answer, and a change is audited before it is attempted.
"""

import logging
import time
from collections.abc import Callable, Iterable
from typing import Any

import mcp_types as types
from anyio import CancelScope
from mcp.server.context import ServerRequestContext
from mcp.shared.exceptions import MCPError
from pydantic import ValidationError

from explorer.catalog import AuditEntry, CatalogNotReady, KeyringInvalid, KeyringMismatch
from explorer.core.errors import ExplorerError, SettingsInvalid, UnknownTenant
from explorer.postgres.errors import DatabaseNotReady, DatabaseUnreachable, ProvisioningRefused
from mcp_bridge.answers.envelope import Answer, InvalidArgument, did_you_mean, failure, success
from mcp_bridge.answers.wording import Wording
from mcp_bridge.clients.platform_database import PlatformDatabase
from mcp_bridge.clients.timeouts import CATALOG_S, in_thread
from mcp_bridge.gate.access import Caller, ScopeMissing, TenantRequired
from mcp_bridge.gate.list_cursors import ListCursors
from mcp_bridge.gate.tool import Arguments, Call, TenantArguments, Tool, ToolFamily

_log = logging.getLogger(__name__)


class InternalError(ExplorerError):
    """A fault of the bridge itself; the cause is in its log."""

    code = "internal_error"


class AuditUnavailable(ExplorerError):
    """The audit trail cannot be written, so nothing may be done."""

    code = "audit_unavailable"


# Their words name addresses, logins, folders and settings of the installation.
_OF_THE_INSTALLATION = (
    CatalogNotReady,
    DatabaseNotReady,
    DatabaseUnreachable,
    KeyringInvalid,
    KeyringMismatch,
    ProvisioningRefused,
    SettingsInvalid,
)


def for_caller(error: ExplorerError, caller: Caller | None) -> ExplorerError:
    """The error as the caller may read it: what it says of the installation is for the operator, else for the log."""
    if not isinstance(error, _OF_THE_INSTALLATION) or (caller is not None and caller.grants is None):
        return error
    _log.warning("%s [%s] %s", error.message, error.code, error.next_step)
    return type(error)(
        "The platform's database or settings cannot be used at present.",
        next_step="Try again in a moment; if it lasts, tell the operator: the bridge's log has the cause.",
    )


class Gate:
    """The two handlers of the MCP server, over the tools of some families."""

    def __init__(
        self,
        families: Iterable[ToolFamily],
        platform: PlatformDatabase,
        caller: Callable[[], Caller],
        list_cursors: Callable[[], ListCursors],
        wording: Wording,
    ) -> None:
        """`caller` tells who makes the call being served; `list_cursors` is asked when needed, since its key lies in HOME."""
        self._platform, self._caller, self._list_cursors = platform, caller, list_cursors
        served = {tool.name: (tool, family) for family in families for tool in family.TOOLS}
        self._families = {name: family for name, (_, family) in served.items()}
        self._tools = {name: served[name][0] for name in sorted(served)}
        # Made once: the SDK looks at a tool's parameters on every call.
        self._definitions = {name: tool.definition(wording) for name, tool in self._tools.items()}

    async def list_tools(
        self, ctx: ServerRequestContext[Any, Any], params: types.PaginatedRequestParams | None
    ) -> types.ListToolsResult:
        """The tools that the caller's grants allow somewhere; without a known caller a protocol error says why."""
        try:
            caller = await in_thread(self._caller, within_s=CATALOG_S)
        except ExplorerError as error:
            refusal = for_caller(error, None)
            raise MCPError(code=types.INTERNAL_ERROR, message=str(refusal), data=refusal.as_dict()) from None
        shown = [name for name, tool in self._tools.items() if tool.scope is None or caller.may_anywhere(tool.scope)]
        return types.ListToolsResult(tools=[self._definitions[name] for name in shown])

    def input_schema(self, tool: str) -> dict[str, Any] | None:
        """What the tool takes, as its definition says; None for a tool that is not there."""
        definition = self._definitions.get(tool)
        return definition.input_schema if definition else None

    async def call_tool(
        self, ctx: ServerRequestContext[Any, Any], params: types.CallToolRequestParams
    ) -> types.CallToolResult:
        """Serve one call. Only an unknown tool is a protocol error; everything else is an envelope."""
        started = time.monotonic()
        tool = self._tools.get(params.name)
        if tool is None:
            near = did_you_mean(params.name, self._tools)
            hint = f" Did you mean {near[0]}?" if near else ""
            raise MCPError(code=types.INVALID_PARAMS, message=f"Unknown tool: {params.name[:80]}.{hint}")
        try:
            caller = await in_thread(self._caller, within_s=CATALOG_S)
        except ExplorerError as error:
            return failure(for_caller(error, None), None, _ms(started))
        call = Call(caller, ctx.session.report_progress)
        return await self._serve(tool, call, params.arguments or {}, started)

    async def _serve(self, tool: Tool, call: Call, raw: dict[str, Any], started: float) -> types.CallToolResult:
        answer: Answer | None = None
        error: ExplorerError | None = None
        try:
            arguments = parse(tool, raw)
            await in_thread(self._admit, tool, call, arguments, within_s=CATALOG_S)
            if tool.mutates:
                await self._audit(tool, call, "attempted", None, started)
            answer = await self._page(tool, call, arguments)
        except ExplorerError as refused:
            error = for_caller(refused, call.caller)
        except Exception:
            _log.exception("Tool %s failed unexpectedly", tool.name)
            error = InternalError(
                f"The bridge failed while serving {tool.name}.",
                next_step="Try once more; if it happens again, the bridge's log has the cause.",
            )
        except BaseException:
            with CancelScope(shield=True):
                await self._audit_quietly(tool, call, "cancelled", started)
            raise
        if answer is not None:
            call.audit |= answer.audit
        try:
            await self._audit(tool, call, _outcome(answer, error), error, started)
        except ExplorerError as unwritten:
            answer, error = None, unwritten
        key = call.tenant.key if call.tenant else None
        if answer is not None:
            return success(answer, key, _ms(started))
        return failure(error or InternalError("No answer.", next_step="Try again."), key, _ms(started))

    async def _page(self, tool: Tool, call: Call, arguments: Arguments) -> Answer:
        """What the tool answers. Its cursors leave it sealed, and only those that it gave reach it."""
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

    def _admit(self, tool: Tool, call: Call, arguments: Arguments) -> None:
        """Resolve the tenant and check the scope; blocks on the database."""
        if isinstance(arguments, TenantArguments):
            call.tenant = call.caller.tenant(self._platform.catalog, arguments.tenant)
            if tool.scope is not None:
                call.caller.require(tool.scope, call.tenant.key)

    async def _audit(self, tool: Tool, call: Call, outcome: str, refusal: ExplorerError | None, started: float) -> None:
        entry = AuditEntry(
            actor=call.caller.actor,
            action=tool.name,
            tenant_key=call.tenant.key if call.tenant else None,
            outcome=outcome,
            code=refusal.code if refusal else None,
            detail=dict(call.audit),
            duration_ms=_ms(started),
        )
        try:
            await in_thread(lambda: self._platform.catalog.audit.append(entry), within_s=CATALOG_S)
        except ExplorerError as cause:
            unreachable = for_caller(cause, call.caller)
            if refusal is not None and refusal.code == unreachable.code:
                return  # refused for the same cause: nothing was done, and the caller gets that cause
            raise AuditUnavailable(
                f"The call could not be written to the audit trail: {unreachable.message}",
                next_step=unreachable.next_step,
            ) from None
        except Exception as error:
            _log.warning("The audit trail cannot be written: %s", error)
            raise AuditUnavailable(
                "The call could not be written to the audit trail.",
                next_step="Tell the operator; the bridge's log has the cause.",
            ) from None

    async def _audit_quietly(self, tool: Tool, call: Call, outcome: str, started: float) -> None:
        try:
            await self._audit(tool, call, outcome, None, started)
        except ExplorerError as error:
            _log.warning("A cancelled call of %s is not in the audit trail: %s", tool.name, error.message)


def _outcome(answer: Answer | None, error: ExplorerError | None) -> str:
    if answer is not None:
        return "ok"
    return "denied" if isinstance(error, (UnknownTenant, TenantRequired, ScopeMissing)) else "error"


def parse(tool: Tool, raw: dict[str, Any]) -> Arguments:
    """The arguments in their types.

    Raises:
        InvalidArgument: what is wrong with the first few, in words; the values are not repeated.
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
    """The values there are for the first argument that is none of them."""
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


def _ms(started: float) -> int:
    return round((time.monotonic() - started) * 1000)
