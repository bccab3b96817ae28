"""Which tools does the bridge offer? One module per family; the order here is the order of `tools/list`."""

from mcp_bridge.gate.tool import Tool
from mcp_bridge.tools import lineage, query, runs, search, semantics, tables, tenants

ALL_TOOLS: tuple[Tool, ...] = tuple(
    sorted(
        (
            *tenants.TOOLS,
            *tables.TOOLS,
            *search.TOOLS,
            *semantics.TOOLS,
            *query.TOOLS,
            *runs.TOOLS,
            *lineage.TOOLS,
        ),
        key=lambda tool: tool.name,
    )
)
