"""An agent's SQL on its way to rows: checked, run as the tenant's own reader, read into JSON values.

1. `validation`: text -> `ValidatedQuery`, or `QueryRejected`; nothing has reached the database yet.
2. `execution`: `ValidatedQuery` -> `QueryResult` by an `Executor`, which holds the tenant's read-only login, or `QueryFailed`.
3. `values`: PostgreSQL's text of a value -> JSON.
4. `page_cursors`: where the next page begins, signed.

Tools, sessions and grants are the caller's business: see `mcp_bridge.query_path`.
"""

from mcp_bridge.sql.errors import QueryFailed, QueryRejected
from mcp_bridge.sql.execution import Executor, OverrunThrottle, QueryLimits, QueryResult, Termination
from mcp_bridge.sql.page_cursors import CursorExpired, CursorRefused, PageBinding, PageCursors
from mcp_bridge.sql.validation import ValidatedQuery, validate

__all__ = [
    "CursorExpired",
    "CursorRefused",
    "Executor",
    "OverrunThrottle",
    "PageBinding",
    "PageCursors",
    "QueryFailed",
    "QueryLimits",
    "QueryRejected",
    "QueryResult",
    "Termination",
    "ValidatedQuery",
    "validate",
]
