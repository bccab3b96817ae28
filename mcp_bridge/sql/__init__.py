"""Checks an agent's SQL, runs it as the tenant's own reader, and reads the rows into JSON values.

1. `validation`: text -> `ValidatedQuery`, or `QueryRejected`. Nothing reaches the database in this step.
2. `masking`: a statement with masks in the place of personal data, where a tenant wants that.
   `union`: a statement over tables of several tenants.
3. `execution`: `ValidatedQuery` -> `QueryResult`, or `QueryFailed`, by an `Executor` with the tenant's read-only login.
   `execution.plan`: how it would be run; `joins` finds conditions that are missing, `explained` says both in words.
4. `values`: PostgreSQL's text of a value -> JSON.
5. `page_cursors`: where the next page begins, signed.

Callers handle tools, sessions and grants: see `mcp_bridge.query_path`.
"""

from mcp_bridge.sql.errors import QueryFailed, QueryRejected
from mcp_bridge.sql.execution import (
    MOST_SLOTS,
    Executor,
    KeptSessions,
    OverrunThrottle,
    Plan,
    QueryLimits,
    QueryResult,
    RowStream,
    StreamedColumn,
    StreamLimits,
    Tenants,
    Termination,
)
from mcp_bridge.sql.explained import explained, hints
from mcp_bridge.sql.joins import unjoined
from mcp_bridge.sql.masking import masked
from mcp_bridge.sql.page_cursors import CursorExpired, CursorRefused, PageBinding, PageCursors
from mcp_bridge.sql.union import TENANT, Arm, LiveColumn, Union, around, names_of, union
from mcp_bridge.sql.validation import ValidatedQuery, validate

__all__ = [
    "MOST_SLOTS",
    "TENANT",
    "Arm",
    "CursorExpired",
    "CursorRefused",
    "Executor",
    "KeptSessions",
    "LiveColumn",
    "OverrunThrottle",
    "PageBinding",
    "PageCursors",
    "Plan",
    "QueryFailed",
    "QueryLimits",
    "QueryRejected",
    "QueryResult",
    "RowStream",
    "StreamLimits",
    "StreamedColumn",
    "Tenants",
    "Termination",
    "Union",
    "ValidatedQuery",
    "around",
    "explained",
    "hints",
    "masked",
    "names_of",
    "union",
    "unjoined",
    "validate",
]
