"""What does a validated statement give, within bounds of rows, bytes, time and memory? From a `ValidatedQuery` to a page of rows.

`executor` waits as long as the caller has earned (`throttle`), takes a slot of the tenant (`slots`), opens a session of the
tenant's reader (`session`) and reads one page (`page`, `results`). `failures` turns what the database says into `QueryFailed`,
and `hints` says what should be written.
"""

from mcp_bridge.sql.execution.executor import Executor
from mcp_bridge.sql.execution.results import QueryLimits, QueryResult
from mcp_bridge.sql.execution.slots import Termination
from mcp_bridge.sql.execution.throttle import OverrunThrottle

__all__ = ["Executor", "OverrunThrottle", "QueryLimits", "QueryResult", "Termination"]
