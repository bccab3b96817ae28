"""The tool that answers SQL: checked, run as the tenant's own reader, cut to size, with the provenance of what it read."""

import hashlib
from dataclasses import replace
from typing import Any

from pydantic import Field

from explorer_dagster.catalog import Scope, Tenant
from explorer_dagster.settings import Settings
from mcp_bridge.envelope import MAX_ANSWER_CHARS, Answer, fit
from mcp_bridge.patience import QUERY_S
from mcp_bridge.query_path import CONCISE_BYTES, UNTRUSTED, check, execute
from mcp_bridge.relations import LiveTables, sql_type
from mcp_bridge.sql import PageBinding, QueryLimits, QueryResult
from mcp_bridge.tables import TenantTables, table_warnings, tenant_tables
from mcp_bridge.tool import Call, ResponseFormat, TenantArguments, Tool


class Query(TenantArguments):
    sql: str = Field(
        min_length=1,
        max_length=100_000,
        description="One PostgreSQL SELECT (CTEs allowed) over unqualified table names from list_tables.",
    )
    limit: int = Field(500, ge=1, le=100_000, description="Rows per page at most; the server's own maximum applies.")
    cursor: str | None = Field(None, max_length=400, description="next_cursor of the page before, with the same sql.")
    response_format: ResponseFormat = Field(
        "concise",
        description="concise ends a page at about 8,000 tokens; detailed at the server's limit.",
    )


async def query(call: Call, args: Query) -> Answer:
    tenant = call.own_tenant
    call.audit["statement_sha256"] = hashlib.sha256(args.sql.encode("utf-8", "surrogatepass")).hexdigest()
    known = await tenant_tables(call.bridge, tenant, QUERY_S)
    live = known.live
    statement = check(live, args.sql)
    binding = _binding(call, tenant, live, args.sql)
    offset = call.bridge.cursors.offset(args.cursor, binding) if args.cursor else 0
    result = await execute(call.bridge, tenant, live, statement, _limits(call.bridge.settings, args), offset)
    call.audit |= {"tables": sorted(statement.tables), "rows": result.row_count}
    page = _page(result, MAX_ANSWER_CHARS - 4_000 if args.response_format == "concise" else None)
    cursor = call.bridge.cursors.issue(binding, page.next_offset) if page.next_offset is not None else None
    return _answer(known, sorted(statement.tables), page, cursor)


def _page(result: QueryResult, max_chars: int | None) -> QueryResult:
    """The result less the rows that do not fit: written as JSON, control characters take six times their bytes."""
    rows = result.rows if max_chars is None else fit(result.rows, max_chars)
    if len(rows) == len(result.rows):
        return result
    return replace(result, rows=rows, row_count=len(rows), truncated="bytes")


def _binding(call: Call, tenant: Tenant, live: LiveTables, sql: str) -> PageBinding:
    # The run that last wrote the schemas: known from the catalog, so that paging works while Dagster is down.
    version = f"{live.schema.prefix}:{live.schema.run_id or ''}"
    return PageBinding(call.caller.identity, tenant.key, sql, version)


def _limits(settings: Settings, args: Query) -> QueryLimits:
    max_bytes = settings.query_max_bytes
    if args.response_format == "concise":
        max_bytes = min(max_bytes, CONCISE_BYTES)
    return QueryLimits(
        max_rows=min(args.limit, settings.query_max_rows),
        max_bytes=max_bytes,
        max_cell_bytes=min(settings.query_max_cell_bytes, max_bytes),
        timeout_s=settings.query_timeout_s,
    )


def _answer(known: TenantTables, tables: list[str], result: QueryResult, cursor: str | None) -> Answer:
    read = [known.tables[name] for name in tables if name in known.tables]
    data: dict[str, Any] = {
        "columns": [{"name": column.name, "type": sql_type(column.type)} for column in result.columns],
        "rows": result.rows,
        "row_count": result.row_count,
        "truncated": result.truncated is not None,
        "next_cursor": cursor,
        "sources": [facts.source_row() for facts in read],
        "note": UNTRUSTED,
    }
    warnings = known.warnings + table_warnings(read)
    if result.truncated is not None:
        data["truncated_by"] = result.truncated
        reached = result.offset + result.row_count
        more = "call again with cursor=next_cursor and the same sql" if cursor else "aggregate or select fewer columns"
        warnings.append(
            f"Cut at {reached} rows by the limit on {result.truncated}: {more}. "
            "Pages fit together only with ORDER BY a unique key."
        )
    if result.cells_truncated:
        warnings.append(f"{result.cells_truncated} cells were too long and are cut; select parts of them for more.")
    return Answer(data, warnings, known.live.schema.marts)


TOOLS = (
    Tool(
        "query",
        "Query",
        "Runs one read-only PostgreSQL SELECT over a tenant's tables and returns typed columns, rows, and for each "
        "table read when it was filled, by which run, and which checks fail. Prefer aggregates to many rows. Look "
        "up names with list_tables or describe_table first; to bring newer data use run_materialization.",
        Query,
        query,
        Scope.QUERY_RUN,
        own_cursors=True,
    ),
)
