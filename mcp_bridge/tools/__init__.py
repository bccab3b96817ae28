"""The tools that agents call, one module per family: arguments, call, answer."""

from mcp_bridge.gate.tool import Tool
from mcp_bridge.tools.activity import ActivityTools
from mcp_bridge.tools.export import ExportTools
from mcp_bridge.tools.lineage import LineageTools
from mcp_bridge.tools.materialization import MaterializationTools
from mcp_bridge.tools.models.saved_models import SavedModelTools
from mcp_bridge.tools.pipelines import PipelineTools
from mcp_bridge.tools.query import QueryTools
from mcp_bridge.tools.runs import RunTools
from mcp_bridge.tools.schema.personal_data import PersonalDataTools
from mcp_bridge.tools.schema.semantics import SemanticsTools
from mcp_bridge.tools.search import SearchTools
from mcp_bridge.tools.tables import TableTools
from mcp_bridge.tools.tenants import TenantTools
from mcp_bridge.tools.workspaces.managing import WorkspaceTools

# In the order of `tools/list`.
ALL_TOOLS: tuple[Tool, ...] = tuple(
    sorted(
        (
            *ActivityTools.TOOLS,
            *ExportTools.TOOLS,
            *LineageTools.TOOLS,
            *MaterializationTools.TOOLS,
            *PersonalDataTools.TOOLS,
            *PipelineTools.TOOLS,
            *SavedModelTools.TOOLS,
            *QueryTools.TOOLS,
            *RunTools.TOOLS,
            *SearchTools.TOOLS,
            *SemanticsTools.TOOLS,
            *TableTools.TOOLS,
            *TenantTools.TOOLS,
            *WorkspaceTools.TOOLS,
        ),
        key=lambda tool: tool.name,
    )
)
