"""The tool that runs SQL as the tenant's own reader: check, run, cut to size, add the provenance of the tables read."""

import asyncio
import hashlib
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any, ClassVar

from pydantic import Field

from explorer.catalog import Limits, Scope
from explorer.core.errors import ExplorerError
from mcp_bridge.answers.envelope import MAX_ANSWER_TOKENS, Answer, compact_json, fit, fits, room_left, weight
from mcp_bridge.clients.timeouts import QUERY_S
from mcp_bridge.facts.builds import TableBuild, versions_of
from mcp_bridge.facts.relations import sql_type
from mcp_bridge.facts.table_facts import table_warnings
from mcp_bridge.facts.tables import TenantTables
from mcp_bridge.facts.tenant_facts import TenantFacts
from mcp_bridge.gate.tool import Call, ResponseFormat, Tool, WorkspaceArguments
from mcp_bridge.query_path import QueryPath, personal_marks
from mcp_bridge.sql import (
    PageBinding,
    PageCursors,
    Plan,
    QueryFailed,
    QueryLimits,
    QueryResult,
    ValidatedQuery,
    explained,
    hints,
    unjoined,
)
from mcp_bridge.views.pages import RESULT

# A concise answer has no room for more bytes than this, so they are not read. Its final size is counted in tokens.
_CONCISE_BYTES = 18_000
# The cursor and the warning about it.
_PAGING_TOKENS = 350
SOURCES_TOKENS = 2_000
CHANGED = "A run was changing these tables while they were read: the rows may be of the change before."
_CELL_CHARS = (1_000, 300, 100, 30, 10)
# How often a page is read when a run changes its tables meanwhile. A run changes a table once.
_TRIES = 3
# For the plan of a statement that was stopped: its error should not wait longer.
_PLAN_S = 2.0


class ResultTooWide(ExplorerError):
    """A single row does not fit into the requested answer."""

    code = "result_too_wide"


class Query(WorkspaceArguments):
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
    explain: bool = Field(
        False, description="Do not run it; tell its estimated rows and cost, and join conditions that are missing."
    )


def fitted(result: QueryResult, without_rows: Answer) -> QueryResult:
    """The result without the rows that do not fit into the answer.

    Raises:
        ResultTooWide: the column names, or one row with cut cells, do not fit.
    """
    room = room_left(without_rows.data, without_rows.warnings) - _PAGING_TOKENS
    rows, cut = result.rows, 0
    if rows and weight(rows[0]) >= room:
        rows, cut = _with_short_cells(rows, room)
    if room < 0 or (rows and weight(rows[0]) >= room):
        raise ResultTooWide(
            f"A row of {len(result.columns)} columns is too much for one answer.",
            next_step="Select the columns that you need, or ask with response_format=detailed.",
            details={"columns": len(result.columns)},
        )
    fitting = fit(rows, room)
    result = replace(result, rows=fitting, cells_truncated=result.cells_truncated + cut)
    if len(fitting) == len(rows):
        return result
    return replace(result, row_count=len(fitting), truncated="bytes")


def _with_short_cells(rows: list[list[Any]], room: int) -> tuple[list[list[Any]], int]:
    """The rows with the longest cells of the first row cut, and the number of cut cells."""
    first = rows[0]
    for chars in _CELL_CHARS:
        cells = [_cut(cell, chars) for cell in first]
        if weight(cells) < room:
            break
    return [cells, *rows[1:]], sum(1 for cell, whole in zip(cells, first, strict=True) if cell != whole)


def _cut(cell: Any, chars: int) -> Any:
    text = cell if isinstance(cell, str) else compact_json(cell)
    return cell if len(text) <= chars else f"{text[:chars]}..."


@dataclass(frozen=True)
class _Page:
    """A page of rows, how its tables came to these rows, and what its cursors are bound to. `changed`: a run changed a table
    while the page was read, each time."""

    result: QueryResult
    builds: dict[str, TableBuild]
    binding: PageBinding
    changed: bool


def limits_within(most: QueryLimits, args: Query, own: Limits) -> QueryLimits:
    """The caller's limits, within those of the server and of the tenant."""
    max_bytes = min(most.max_bytes, _CONCISE_BYTES) if args.response_format == "concise" else most.max_bytes
    return replace(
        most,
        max_rows=min(args.limit, own.max_rows_per_query or most.max_rows, most.max_rows),
        timeout_s=min(own.max_query_timeout_seconds or most.timeout_s, most.timeout_s),
        max_bytes=max_bytes,
        max_cell_bytes=min(most.max_cell_bytes, max_bytes),
    )


def told(statement: ValidatedQuery, result: QueryResult, cursor: str | None) -> tuple[dict[str, Any], list[str]]:
    """A page for an answer, without its sources, and what to say about it. `cursor`: of the next page."""
    data: dict[str, Any] = {
        "columns": [
            {"name": column.name, "type": sql_type(column.type), **marks}
            for column, marks in zip(result.columns, personal_marks(statement, len(result.columns)), strict=True)
        ],
        "rows": result.rows,
        "row_count": result.row_count,
        "truncated": result.truncated is not None,
        "next_cursor": cursor,
    }
    warnings = []
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
    return data, warnings


def _answer(
    known: TenantTables, statement: ValidatedQuery, tables: list[str], page: _Page, cursor: str | None
) -> Answer:
    read = [known.as_built(known.tables[name], page.builds) for name in tables if name in known.tables]
    data, warnings = told(statement, page.result, cursor)
    data["sources"] = fit((facts.source_row() for facts in read), SOURCES_TOKENS) if read else []
    warnings = known.warnings + table_warnings(read) + warnings
    if page.changed:
        warnings.append(CHANGED)
    return Answer(data, warnings, known.live.schema.marts)


@dataclass(frozen=True)
class QueryTools:
    """`cursors`: signs result pages; called when needed, because its key is in HOME. `most`: the limits of one page. `over`:
    answers for a workspace."""

    facts: TenantFacts
    path: QueryPath
    cursors: Callable[[], PageCursors]
    most: QueryLimits
    over: Callable[[Call, Query], Awaitable[Answer]]

    async def query(self, call: Call, args: Query) -> Answer:
        """From SQL text to rows: check against the live tables, read the page with its tables' records, cut to the answer's size.

        Raises:
            QueryRejected: the statement may not run. QueryFailed: the database refused or stopped it.
            CursorRefused: the cursor belongs to another statement, caller, tenant or version of the data.
            ResultTooWide: one row does not fit into the answer.
        """
        call.audit["statement_sha256"] = hashlib.sha256(args.sql.encode("utf-8", "surrogatepass")).hexdigest()
        if call.workspace is not None:
            return await self.over(call, args)
        tenant = call.own_tenant
        known = await self.facts.tables(tenant, QUERY_S, call.own.schema)
        statement = await self.path.checked(tenant, known.live, args.sql, call.budget.limits.personal_data or "mark")
        if args.explain:
            return await self._explained(call, args, known, statement)
        tables = known.with_those_of_views(statement.tables)
        try:
            read = await self._read(call, args, known, statement, tables)
        except QueryFailed as error:
            if error.code != "timeout":
                raise
            said = " ".join([*await self._why_slow(call, args, known, statement), error.next_step])
            raise QueryFailed(error.code, error.message, next_step=said, details=error.details) from None
        slow = await self._why_slow(call, args, known, statement) if read.result.truncated == "time" else []
        answer = self._paged(known, statement, tables, read)
        answer.bounded = args.response_format == "concise"
        if answer.bounded and not fits([answer.data, answer.warnings], MAX_ANSWER_TOKENS // 2):
            without_rows = _answer(known, statement, tables, replace(read, result=replace(read.result, rows=[])), None)
            answer = self._paged(known, statement, tables, replace(read, result=fitted(read.result, without_rows)))
        answer.warnings += slow
        rows = len(answer.data["rows"])
        call.budget.returned(rows)
        call.audit |= {"tables": sorted(statement.tables), "rows": rows}
        return answer

    async def _explained(self, call: Call, args: Query, known: TenantTables, statement: ValidatedQuery) -> Answer:
        """The statement's plan in words. Raises: QueryFailed."""
        limits = limits_within(self.most, args, call.budget.limits)
        plan = await self.path.plan(call.own, known.live, statement, limits, call.caller.identity, call.budget.ran)
        gaps = unjoined(statement.text, known.live.columns_by_schema)
        call.audit |= {"tables": sorted(statement.tables), "explain": True}
        return Answer(explained(plan, statement, gaps, limits.timeout_s), known.warnings, known.live.schema.marts)

    async def _why_slow(self, call: Call, args: Query, known: TenantTables, statement: ValidatedQuery) -> list[str]:
        """What makes a statement expensive that was stopped: of its plan, or of its text where there is no plan in time."""
        gaps = unjoined(statement.text, known.live.columns_by_schema)
        limits = replace(limits_within(self.most, args, call.budget.limits), timeout_s=_PLAN_S, wait_s=_PLAN_S)
        plan: Plan | None = None
        with suppress(ExplorerError, TimeoutError):
            async with asyncio.timeout(_PLAN_S):
                plan = await self.path.plan(
                    call.own, known.live, statement, limits, call.caller.identity, call.budget.ran
                )
        return hints(statement, gaps, plan)

    def _paged(self, known: TenantTables, statement: ValidatedQuery, tables: list[str], read: _Page) -> Answer:
        """The answer, with the cursor of the next page if there is one."""
        offset = read.result.next_offset
        cursor = self.cursors().issue(read.binding, offset) if offset is not None else None
        return _answer(known, statement, tables, read, cursor)

    async def _read(
        self, call: Call, args: Query, known: TenantTables, statement: ValidatedQuery, tables: list[str]
    ) -> _Page:
        """The page, with the records of its tables that belong to its rows: they are the same before and after. Where a run
        changed one of the tables meanwhile, the page is read again."""
        tenant, caller = call.own_tenant, call.caller.identity
        limits = limits_within(self.most, args, call.budget.limits)
        # What is known may be old: then the page is read again. Between runs it is the same as afterwards.
        is_known = args.cursor is None and not known.is_rebuilt_now
        builds = known.live.builds if is_known else await self.facts.builds(tenant, known)
        for _ in range(_TRIES):
            versions = versions_of(builds, tables)
            binding = PageBinding(caller, tenant.key, args.sql, compact_json([known.live.schema.prefix, versions]))
            offset = self.cursors().offset(args.cursor, binding) if args.cursor is not None else 0
            result = await self.path.execute(call.own, known.live, statement, limits, caller, offset, call.budget.ran)
            builds = await self.facts.builds(tenant, known)
            changed = versions_of(builds, tables) != versions
            if not changed:
                break
        return _Page(result, builds, binding, changed)

    TOOLS: ClassVar[tuple[Tool, ...]] = (
        Tool(
            "query",
            "Query",
            "Runs one read-only PostgreSQL SELECT over a tenant's tables and returns typed columns, rows, and for each "
            "table read the run that made its rows, its age, its failing checks. Look "
            "up names with list_tables or describe_table first; to bring newer data use run_materialization. Unsure what it "
            "costs: explain=true first.",
            Query,
            query,
            Scope.QUERY_RUN,
            view=RESULT,
            own_cursors=True,
        ),
    )
