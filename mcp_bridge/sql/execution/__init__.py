"""What does a validated statement give, within bounds of rows, bytes, time and memory? From a `ValidatedQuery` to a page of rows.

`executor` takes a slot of the tenant (`slots`) after the wait that the caller has earned (`throttle`), connects as the tenant's
reader and reads one page. `failures` turns what the database says into `QueryFailed`.
"""

from mcp_bridge.sql.execution.executor import Executor, QueryLimits, QueryResult
from mcp_bridge.sql.execution.slots import Termination
from mcp_bridge.sql.execution.throttle import OverrunThrottle

__all__ = ["Executor", "OverrunThrottle", "QueryLimits", "QueryResult", "Termination"]
