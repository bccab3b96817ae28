"""The tool by which a caller reads its own entries of the audit trail."""

from dataclasses import dataclass
from typing import ClassVar

from pydantic import Field

from explorer.catalog import AuditRecord
from explorer.core.toolsets import Toolset
from mcp_bridge.answers.envelope import Answer, fit, iso, room_left, without_nulls
from mcp_bridge.answers.paging import PAGING_TOKENS, next_place
from mcp_bridge.clients.platform_database import PlatformDatabase
from mcp_bridge.clients.timeouts import CATALOG_S, in_thread
from mcp_bridge.gate.list_cursors import MAX_CHARS
from mcp_bridge.gate.tool import Arguments, Call, Tool


class ListActivity(Arguments):
    tenant: str | None = Field(None, max_length=200, description="Only calls for this tenant key.")
    limit: int = Field(20, ge=1, le=50, description="Calls per page.")
    cursor: str | None = Field(None, max_length=MAX_CHARS, description="next_cursor of the page before.")


@dataclass(frozen=True)
class ActivityTools:
    """Reads the catalog alone."""

    platform: PlatformDatabase

    async def list_activity(self, call: Call, args: ListActivity) -> Answer:
        before = int(args.cursor) if args.cursor else None
        read = self.platform.catalog.audit.read
        actor = call.caller.actor
        found = await in_thread(lambda: read(actor, args.tenant, args.limit + 1, before), within_s=CATALOG_S)
        page = found[: args.limit]
        rows = fit(map(_row, page), room_left({}, ()) - PAGING_TOKENS)
        cursor = next_place(page, len(rows), len(found) > len(page), lambda record: str(record.id))
        return Answer({"calls": rows, "next_cursor": cursor})

    TOOLS: ClassVar[tuple[Tool, ...]] = (
        Tool(
            "list_activity",
            "List activity",
            "Your own calls, newest first, from the audit trail: tool, tenant, outcome, error, duration. For runs use list_runs.",
            ListActivity,
            list_activity,
            None,
            Toolset.OPERATIONS,
        ),
    )


def _row(record: AuditRecord) -> dict[str, object]:
    entry = record.entry
    return without_nulls(
        {
            "id": record.id,
            "at": iso(record.at),
            "action": entry.action,
            "tenant": entry.tenant_key,
            "outcome": entry.outcome,
            "code": entry.code,
            "duration_ms": entry.duration_ms,
            "detail": entry.detail or None,
        }
    )
