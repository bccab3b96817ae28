"""The tools that make and show workspaces: whose tenants, which tables, which columns."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, ClassVar
from uuid import UUID

from pydantic import Field

from explorer.catalog import Scope, Tenant, Workspace, WorkspaceInvalid
from explorer.core.toolsets import Toolset
from mcp_bridge.answers.envelope import Answer, fit, iso, room_left, unknown_name
from mcp_bridge.answers.paging import PAGING_TOKENS, next_place, page_after
from mcp_bridge.clients.platform_database import PlatformDatabase
from mcp_bridge.clients.timeouts import in_thread
from mcp_bridge.facts.relations import sql_type
from mcp_bridge.facts.tables import UnknownTable
from mcp_bridge.facts.tenant_facts import TenantFacts
from mcp_bridge.gate.access import Caller
from mcp_bridge.gate.list_cursors import MAX_CHARS
from mcp_bridge.gate.tool import Arguments, Call, Tool, WorkspaceArguments
from mcp_bridge.runs.provisioning import ProvisioningJob
from mcp_bridge.sql import TENANT
from mcp_bridge.tools.workspaces.tables import WorkspaceTables, workspace_tables

_PARTS_TOKENS = 200


class SetWorkspace(Arguments):
    workspace: str = Field(min_length=1, max_length=63, description="Its name: letters, digits, `._-`.")
    tenants: list[str] = Field(max_length=100, description="Keys of all its tenants; [] takes the workspace away.")


class ListWorkspaces(Arguments):
    limit: int = Field(20, ge=1, le=50, description="Workspaces per page.")
    cursor: str | None = Field(None, max_length=MAX_CHARS, description="next_cursor of the page before.")


class DescribeWorkspace(WorkspaceArguments):
    search: str | None = Field(None, max_length=200, description="Only tables with this in their name.")
    table: str | None = Field(None, max_length=200, description="The columns of this table.")


@dataclass(frozen=True)
class WorkspaceTools:
    """`job`: gives a workspace's login its rights, for the bridge has no right to."""

    platform: PlatformDatabase
    facts: TenantFacts
    job: ProvisioningJob

    async def set_workspace(self, call: Call, args: SetWorkspace) -> Answer:
        """Raises: WorkspaceInvalid, UnknownWorkspace, UnknownTenant, ScopeMissing, and as `ProvisioningJob.aligned`."""
        owner, actor, store = _owner(call.caller), call.caller.actor, self.platform.catalog.workspaces
        if not args.tenants:
            changed = await in_thread(lambda: store.drop(owner, args.workspace, actor=actor))
        else:
            members = await in_thread(lambda: self._members(call.caller, args.tenants))
            changed = await in_thread(lambda: store.set(owner, args.workspace, members, actor=actor))
        call.audit |= {"workspace": str(changed.id), "tenants": [] if changed.is_dropped else list(changed.members)}
        request = await self.job.aligned(changed.id, actor, call.progress)
        tenants = [] if changed.is_dropped else list(changed.members)
        data: dict[str, Any] = {"workspace": changed.name, "tenants": tenants, "ready": request.has_ended}
        warnings = [] if request.has_ended else ["Its rights are still being set: query it in a few seconds."]
        return Answer(data, warnings)

    async def list_workspaces(self, call: Call, args: ListWorkspaces) -> Answer:
        owner = _owner(call.caller)
        found = await in_thread(lambda: self.platform.catalog.workspaces.of(owner))
        page, more = page_after(found, args.cursor, args.limit, lambda workspace: workspace.name)
        data: dict[str, Any] = {"total": len(found)}
        listed = (_row(workspace, call.caller) for workspace in page)
        rows = fit(listed, room_left(data, ()) - PAGING_TOKENS) if page else []
        cursor = next_place(page, len(rows), more, lambda workspace: workspace.name)
        return Answer({"workspaces": rows, "next_cursor": cursor, **data})

    async def describe_workspace(self, call: Call, args: DescribeWorkspace) -> Answer:
        """Raises: WorkspaceInvalid, UnknownTable, WorkspaceNotReady."""
        if call.workspace is None:
            raise WorkspaceInvalid("No workspace is named.", next_step="Pass `workspace`; list_workspaces shows yours.")
        tables = await workspace_tables(call, self.facts)
        left_out = [f"Left out: {key} ({why})." for key, why in sorted(tables.left_out.items())]
        data: dict[str, Any] = {"workspace": tables.name, "tenants": sorted(tables.members)}
        if args.table is not None:
            return Answer(data | await self._columns(tables, args.table), left_out)
        wanted = (args.search or "").lower()
        # The names of single tenants' tables are told once, as a rule.
        names = [name for name in tables.places if wanted in name.lower() and not tables.is_alias(name)]
        data |= {
            "total": len(names),
            "single": f"<short>__<table> is one tenant's: {', '.join(tables.shorts.values())}.",
        }
        data["tables"] = fit((_table(tables, name) for name in names), room_left(data, left_out)) if names else []
        return Answer(data, left_out)

    async def _columns(self, tables: WorkspaceTables, name: str) -> dict[str, Any]:
        if name not in tables.places:
            raise unknown_name(UnknownTable, "table", name, list(tables.places), "describe_workspace")
        (found,) = await tables.unions(await self.platform.calls(), [name], {})
        columns: list[dict[str, Any]] = [{"name": TENANT, "type": "text"}]
        for column in found.columns:
            row: dict[str, Any] = {"name": column.name, "type": sql_type(column.type)}
            lacking = [arm.tenant for arm in found.arms if column.source not in arm.columns]
            row |= {"null_for": lacking} if lacking else {}
            row |= {"types": {key: sql_type(type_) for key, type_ in column.types.items()}} if column.differs else {}
            columns.append(row)
        data = _table(tables, name)
        return data | {"columns": fit(columns, room_left(data, ()) - _PARTS_TOKENS), "column_count": len(columns)}

    def _members(self, caller: Caller, keys: Iterable[str]) -> list[Tenant]:
        """The tenants of these keys. Blocks. Raises: UnknownTenant, ScopeMissing."""
        catalog = self.platform.catalog
        tenants = [caller.tenant(catalog, key) for key in dict.fromkeys(keys)]
        for tenant in tenants:
            caller.require(Scope.QUERY_RUN, tenant.key)
        return tenants

    TOOLS: ClassVar[tuple[Tool, ...]] = (
        Tool(
            "set_workspace",
            "Set a workspace",
            "Makes a workspace, or gives it other tenants: query with workspace then sees each table of all of them as one, with "
            "a column tenant. An empty list takes it away; tenants and data stay.",
            SetWorkspace,
            set_workspace,
            Scope.QUERY_RUN,
            Toolset.WORKSPACES,
            mutates=True,
        ),
        Tool(
            "list_workspaces",
            "List workspaces",
            "Lists your workspaces: sets of tenants that query sees as one. Each with its tenants, and those that you may query "
            "no longer. For tables and columns use describe_workspace.",
            ListWorkspaces,
            list_workspaces,
            Scope.QUERY_RUN,
            Toolset.WORKSPACES,
        ),
        Tool(
            "describe_workspace",
            "Describe a workspace",
            "The tables of a workspace with rows and tenants; with table its columns as query sees them: type, tenants without "
            "it, types that differ. What a column means tells describe_table for one tenant.",
            DescribeWorkspace,
            describe_workspace,
            Scope.METADATA_READ,
            Toolset.WORKSPACES,
        ),
    )


def _owner(caller: Caller) -> UUID | None:
    return None if caller.grants is None else UUID(caller.identity)


def _row(workspace: Workspace, caller: Caller) -> dict[str, Any]:
    lost = [key for key in workspace.members if Scope.QUERY_RUN not in caller.scopes(key)]
    row = {"name": workspace.name, "tenants": list(workspace.members), "made_at": iso(workspace.created_at)}
    return row | ({"not_yours_any_more": lost} if lost else {})


def _table(tables: WorkspaceTables, name: str) -> dict[str, Any]:
    """A table with what its tenants have of it."""
    places = tables.places[name]
    counts = [tables.members[key].tables[table].row_count for key, table in places]
    facts = tables.members[places[0][0]].tables[places[0][1]]
    row: dict[str, Any] = {"name": name, "description": facts.row(detailed=False)["description"]}
    row["rows"] = None if None in counts else sum(count for count in counts if count is not None)
    missing = sorted(set(tables.members) - {key for key, _ in places})
    return row | ({"not_in": missing} if missing else {})
