"""Runs a `ValidatedQuery` within limits of rows, bytes, time and memory, and returns a page of rows.

`executor` waits for the caller's delay (`throttle`), takes a slot of the tenant (`slots`), takes a kept session of the tenant's
reader (`kept`) or opens one (`session`), and reads one page (`page`, `results`), the plan alone (`plan`), or all rows (`rows`);
what the first two share is `reading`. `failures` turns the database's errors into `QueryFailed`, and `hints` says what to write
instead.
"""

from mcp_bridge.sql.execution.executor import MOST_SLOTS, Executor
from mcp_bridge.sql.execution.kept import KeptSessions
from mcp_bridge.sql.execution.plan import Plan
from mcp_bridge.sql.execution.results import QueryLimits, QueryResult
from mcp_bridge.sql.execution.rows import RowStream, StreamedColumn, StreamLimits
from mcp_bridge.sql.execution.slots import Tenants, Termination
from mcp_bridge.sql.execution.throttle import OverrunThrottle

__all__ = [
    "MOST_SLOTS",
    "Executor",
    "KeptSessions",
    "OverrunThrottle",
    "Plan",
    "QueryLimits",
    "QueryResult",
    "RowStream",
    "StreamLimits",
    "StreamedColumn",
    "Tenants",
    "Termination",
]
