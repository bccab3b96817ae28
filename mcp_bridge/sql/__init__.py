"""An agent's SQL on its way to rows: checked, run as the tenant's own reader, read into JSON values.

`validate` turns text into a `ValidatedQuery`; only an `Executor`, which holds the tenant's own read-only login, runs
one; `PageCursors` signs where the next page begins. Tools, sessions and grants are the caller's business.
"""

from mcp_bridge.sql.conduct import Conduct
from mcp_bridge.sql.cursor import CursorExpired, CursorRefused, PageBinding, PageCursors
from mcp_bridge.sql.errors import QueryFailed, QueryRejected
from mcp_bridge.sql.executor import Executor, QueryLimits, QueryResult
from mcp_bridge.sql.slots import Enders
from mcp_bridge.sql.validator import ValidatedQuery, validate

__all__ = [
    "Conduct",
    "CursorExpired",
    "CursorRefused",
    "Enders",
    "Executor",
    "PageBinding",
    "PageCursors",
    "QueryFailed",
    "QueryLimits",
    "QueryRejected",
    "QueryResult",
    "ValidatedQuery",
    "validate",
]
