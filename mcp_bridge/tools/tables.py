"""Tools about tables: which there are, what they hold, how they join; what an agent needs to write right SQL the first time."""

import asyncio
from typing import Any

from anyio import to_thread
from pydantic import Field

from explorer_dagster.catalog import DiscoveredStructure, Scope
from explorer_dagster.errors import ExplorerError
from mcp_bridge.envelope import (
    MAX_ANSWER_CHARS,
    Answer,
    InvalidCursor,
    compact_json,
    fit,
    iso,
    page_after,
    unknown_name,
    without_nulls,
)
from mcp_bridge.joins import joins_of
from mcp_bridge.query_path import sample_rows
from mcp_bridge.relations import Column, live_columns
from mcp_bridge.tables import TableFacts, TenantTables, table_warnings, tenant_tables
from mcp_bridge.tool import Call, Format, TenantArguments, Tool

_MAX_TABLE_CHARS = 8_000
# Tables cut from others, and copies of the source: what joins lead from, not to.
_CUT = frozenset({"case_type", "form", "repeat", "raw"})
_CURSOR = Field(None, max_length=200, description="next_cursor of the page before.")


class UnknownTable(ExplorerError):
    """The tenant has no readable table of this name."""

    code = "unknown_table"


class ListTables(TenantArguments):
    search: str | None = Field(None, max_length=200, description="Only tables whose name or description contains this.")
    kind: str | None = Field(None, max_length=40, description="Only this kind: mart, case_type, form, repeat or raw.")
    response_format: Format = "concise"
    limit: int = Field(50, ge=1, le=50, description="Tables per page.")
    cursor: str | None = _CURSOR


class DescribeTable(TenantArguments):
    table: str = Field(min_length=1, max_length=200, description="Table name from list_tables, without schema.")
    sample_rows: int = Field(3, ge=0, le=10, description="Rows to show as an example.")
    response_format: Format = "concise"
    limit: int = Field(100, ge=1, le=200, description="Columns per page.")
    cursor: str | None = _CURSOR


class GetMetadata(TenantArguments):
    search: str | None = Field(
        None, max_length=200, description="Only tables with this in their name, description or columns."
    )
    response_format: Format = "concise"
    limit: int = Field(50, ge=1, le=50, description="Tables per page; a page may end earlier at its size limit.")
    cursor: str | None = _CURSOR


async def list_tables(call: Call, args: ListTables) -> Answer:
    known = await tenant_tables(call.bridge, call.own_tenant)
    wanted = (args.search or "").lower()
    matching = [
        facts
        for facts in known.tables.values()
        if wanted in f"{facts.name}\n{facts.description}".lower() and args.kind in (None, facts.kind)
    ]
    page, cursor = page_after(matching, args.cursor, args.limit, lambda facts: facts.name)
    rows = fit((facts.row(detailed=args.response_format == "detailed") for facts in page), MAX_ANSWER_CHARS - 2_000)
    if len(rows) < len(page):
        cursor = rows[-1]["name"]
    data: dict[str, Any] = {"tables": rows, "total": len(matching), "next_cursor": cursor}
    if cursor:
        data["next_call"] = f"list_tables with cursor={cursor!r} shows the next of {len(matching)}."
    if known.not_built:
        data["not_built"] = [{"name": n, "error": e[:200]} for n, e in sorted(known.not_built.items())[:10]]
    return Answer(data, _warnings(known, page), known.live.schema.marts)


def _warnings(known: TenantTables, facts: list[TableFacts]) -> list[str]:
    warnings = known.warnings + table_warnings(facts)
    if not known.tables:
        warnings.append("There are no tables yet: run_materialization brings the data.")
    if known.not_built:
        warnings.append(f"{len(known.not_built)} generated tables could not be built; list_tables names them.")
    return warnings


async def describe_table(call: Call, args: DescribeTable) -> Answer:
    tenant, name = call.own_tenant, args.table.strip().rpartition(".")[2].strip('"')
    known = await tenant_tables(call.bridge, tenant)
    if name not in known.tables:
        raise unknown_name(UnknownTable, "table", name, list(known.tables), "list_tables")
    facts = known.tables[name]
    joinable = _joinable(known, name)
    columns, sample = await asyncio.gather(
        to_thread.run_sync(live_columns, call.bridge, tenant, known.live, joinable),
        sample_rows(call.bridge, tenant, known.live, name, args.sample_rows),
    )
    detailed = args.response_format == "detailed"
    page, cursor = _column_page(columns[name], args.cursor, args.limit)
    room = MAX_ANSWER_CHARS - 4_000 - len(compact_json(sample))
    rows = fit((_column_row(column, detailed=detailed) for column in page), room)
    if len(rows) < len(page):
        cursor = rows[-1]["name"]
    data = {
        **facts.row(detailed=True),
        "columns": rows,
        "column_count": len(columns[name]),
        "next_cursor": cursor,
        "primary_key": [column.name for column in columns[name] if column.in_primary_key],
        "joins": joins_of(name, facts.kind, columns, _relationships(known))[:12],
        "sample": sample,
    }
    return Answer(data, known.warnings + table_warnings([facts]), known.live.schema.marts)


def _joinable(known: TenantTables, name: str) -> list[str]:
    """The tables whose columns decide the joins of `name`: the general ones, and those of its own family."""
    family = name.split("__", 1)[0]
    return [n for n, f in known.tables.items() if n == name or f.kind not in _CUT or n.split("__", 1)[0] == family]


def _relationships(known: TenantTables) -> list[tuple[str, str, str]]:
    return [(r.from_, r.to, r.description) for pipeline in known.pipelines for r in pipeline.relationships]


def _column_page(columns: list[Column], cursor: str | None, limit: int) -> tuple[list[Column], str | None]:
    """Columns keep the table's order, so the cursor is a name to go on behind."""
    names = [column.name for column in columns]
    if cursor is not None and cursor not in names:
        raise InvalidCursor("The cursor names no column of this table.", next_step="Call again without a cursor.")
    start = names.index(cursor) + 1 if cursor is not None else 0
    page = columns[start : start + limit]
    return page, page[-1].name if page and start + limit < len(columns) else None


def _column_row(column: Column, *, detailed: bool) -> dict[str, Any]:
    row: dict[str, Any] = {"name": column.name, "type": column.type}
    if column.comment:
        row["description"] = column.comment if detailed else column.comment[:160]
    if detailed:
        row["nullable"] = column.nullable
        row["null_share"] = round(column.null_share, 3) if column.null_share is not None else None
        row["distinct_estimate"] = column.distinct
    return without_nulls(row)


async def get_metadata(call: Call, args: GetMetadata) -> Answer:
    tenant = call.own_tenant
    known, structure = await asyncio.gather(
        tenant_tables(call.bridge, tenant),
        to_thread.run_sync(lambda: call.bridge.catalog.discovered.latest(tenant)),
    )
    columns = await to_thread.run_sync(live_columns, call.bridge, tenant, known.live, list(known.tables))
    wanted = (args.search or "").lower()
    matching = [facts for facts in known.tables.values() if wanted in _haystack(facts, columns[facts.name])]
    page, cursor = page_after(matching, args.cursor, args.limit, lambda facts: facts.name)
    detailed = args.response_format == "detailed"
    data: dict[str, Any] = {}
    if args.cursor is None:
        data = {"structure": _structure_row(structure), "relationships": _joins_of_tenant(known, columns)}
    room = MAX_ANSWER_CHARS - 2_000 - len(compact_json(data))
    rows = fit((_metadata_row(facts, columns[facts.name], detailed=detailed) for facts in page), room)
    if len(rows) < len(page):
        cursor = rows[-1]["name"]
    data |= {"tables": rows, "total": len(matching), "next_cursor": cursor}
    if cursor:
        data["next_call"] = f"get_metadata with cursor={cursor!r} shows the next of {len(matching)}."
    return Answer(data, _warnings(known, page), known.live.schema.marts)


def _haystack(facts: TableFacts, columns: list[Column]) -> str:
    words = [facts.name, facts.description, *(f"{column.name}\n{column.comment or ''}" for column in columns)]
    return "\n".join(words).lower()


def _metadata_row(facts: TableFacts, columns: list[Column], *, detailed: bool) -> dict[str, Any]:
    if detailed:
        shown = fit((_column_row(column, detailed=True) for column in columns), _MAX_TABLE_CHARS)
        more = {"columns_omitted": len(columns) - len(shown)} if len(shown) < len(columns) else {}
        return facts.row(detailed=True) | {"columns": shown} | more
    row = facts.row(detailed=False)
    for key in ("materialized_at", "freshness"):
        del row[key]
    listed = ", ".join(f"{column.name} {column.type}" for column in columns)
    if len(listed) > _MAX_TABLE_CHARS:
        listed = f"{listed[:_MAX_TABLE_CHARS].rpartition(', ')[0]}, ... {len(columns)} in all: see describe_table"
    return without_nulls(row) | {"columns": listed}


def _joins_of_tenant(known: TenantTables, columns: dict[str, list[Column]]) -> list[str]:
    """`cases.owner_id = users.user_id (why)`, for joins of which both sides exist."""
    present = {f"{table}.{column.name}" for table, listed in columns.items() for column in listed}
    return [f"{a} = {b} ({why})" for a, b, why in _relationships(known) if a in present and b in present]


def _structure_row(found: DiscoveredStructure | None) -> dict[str, Any] | None:
    """What the project space consists of, in a few lines; the questions are in the columns' descriptions."""
    if found is None:
        return None
    structure = found.structure
    return {
        "version": found.version,
        "discovered_at": iso(found.created_at),
        "apps": [app["name"] for app in structure.get("apps", ())][:20],
        "case_types": [case_type["name"] for case_type in structure.get("case_types", ())][:60],
        "forms": len(structure.get("forms", ())),
        "changed_since_last_version": {part: _counts(change) for part, change in found.diff.items()},
        "warnings": list(structure.get("warnings", ()))[:5],
    }


def _counts(change: Any) -> dict[str, int]:
    return {name: len(items) for name, items in change.items()} if isinstance(change, dict) else {}


TOOLS = (
    Tool(
        "list_tables",
        "List tables",
        "Lists the tables of a tenant that can be queried: rows, age, freshness, failing checks, what each row is. "
        "Names are used unqualified in SQL. Use it to find a table; for columns and joins use describe_table, for "
        "everything at once get_metadata.",
        ListTables,
        list_tables,
        Scope.METADATA_READ,
    ),
    Tool(
        "describe_table",
        "Describe table",
        "One table in full: columns with type and the words of the question behind them, primary key, joins with "
        "ready SQL, sample rows, provenance. Use it before writing SQL on a table you do not know. For an overview "
        "of all tables use get_metadata.",
        DescribeTable,
        describe_table,
        Scope.METADATA_READ,
    ),
    Tool(
        "get_metadata",
        "Get metadata",
        "The whole tenant in one call: every table with its columns, the joins between tables, the applications "
        "behind them; continued by cursor. Use it to plan a query over several tables. For one table's details and "
        "samples use describe_table.",
        GetMetadata,
        get_metadata,
        Scope.METADATA_READ,
    ),
)
