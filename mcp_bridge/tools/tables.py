"""The tools about tables, their columns and joins: all that an agent needs to write correct SQL at once."""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

from pydantic import Field

from explorer.catalog import DiscoveredStructure, Scope, Tenant
from explorer.core.words import fold
from explorer.providers.base import Provider
from mcp_bridge.answers.envelope import Answer, fit, room_left, shrunk
from mcp_bridge.answers.paging import PAGING_TOKENS, next_place, page_after
from mcp_bridge.clients.tenant_databases import TenantDatabases
from mcp_bridge.clients.timeouts import in_thread
from mcp_bridge.facts.pipelines import PipelineFiles
from mcp_bridge.facts.semantic_layer import SemanticLayers
from mcp_bridge.facts.table_facts import TableFacts, table_warnings
from mcp_bridge.facts.tables import TenantTables, raw_layer
from mcp_bridge.facts.tenant_facts import TenantFacts
from mcp_bridge.gate.list_cursors import MAX_CHARS
from mcp_bridge.gate.tool import Call, Format, TenantArguments, Tool
from mcp_bridge.tools.overview import overview
from mcp_bridge.tools.table_description import DescribeTable, describe
from mcp_bridge.tools.tenant_description import tables_with_columns, tenant_parts

# Tokens of a table in a list, and of the parts of an answer beside the list.
_TABLE_TOKENS = {True: 1_000, False: 300}
_RAW_TOKENS, _NOT_BUILT_TOKENS, _ASIDE_TOKENS = 900, 600, 150
_MAX_NOT_BUILT = 40
_MAX_CAUSE_CHARS = 200
_NO_TABLES = "There are no tables yet: run_materialization brings the data."
_RAW_ONLY = "Runs bring raw tables only, which are not open to query: an operator opens them with EXPLORER_EXPOSE_RAW."
_RAW_LAYER = "Loaded as the source sent them, not open to query, told by kind=raw: {}."
_CURSOR = Field(None, max_length=MAX_CHARS, description="next_cursor of the page before.")

Kind = Literal["mart", "case_type", "form", "repeat", "table", "retired", "raw"]


class ListTables(TenantArguments):
    search: str | None = Field(None, max_length=200, description="Only tables with this in name or description.")
    kind: Kind | None = Field(None, description="Only tables of this kind; table: of no known kind.")
    all_tables: bool = Field(False, description="Also empty and retired ones.")
    response_format: Format = "concise"
    limit: int = Field(50, ge=1, le=50, description="Tables per page.")
    cursor: str | None = _CURSOR


class GetMetadata(TenantArguments):
    response_format: Format = "concise"
    limit: int = Field(100, ge=1, le=200, description="Tables per page; with fewer, more columns of each.")
    cursor: str | None = _CURSOR


def _entity(name: str | None) -> dict[str, str]:
    return {"entity": name} if name else {}


def _in_use(tables: Sequence[TableFacts]) -> tuple[list[TableFacts], dict[str, Any]]:
    """The tables without those that are empty or retired, and the names of these. All tables where no other is left."""
    kept = [facts for facts in tables if facts.aside is None]
    if len(kept) in (0, len(tables)):
        return list(tables), {}
    aside: dict[str, list[str]] = {}
    for facts in tables:
        if facts.aside is not None:
            aside.setdefault(facts.aside, []).append(facts.name)
    told = {why: fit(names, _ASIDE_TOKENS) for why, names in aside.items()}
    more = {f"more_{why}": len(names) - len(told[why]) for why, names in aside.items() if len(told[why]) < len(names)}
    return kept, {"left_out": told | more}


def _raw_layer(known: TenantTables, *, described: bool) -> dict[str, Any]:
    """The loader's tables if queries cannot read them: only names, or `described`."""
    raw = raw_layer(known)
    if not raw:
        return {}
    return {"raw_layer": shrunk(raw, _RAW_TOKENS) if described else _RAW_LAYER.format(", ".join(raw))}


def _not_built(known: TenantTables) -> dict[str, Any]:
    """The generated tables that could not be built, with the cause."""
    if not known.not_built:
        return {}
    failed = sorted(known.not_built.items())[:_MAX_NOT_BUILT]
    causes = ({"name": name, "error": cause[:_MAX_CAUSE_CHARS]} for name, cause in failed)
    return {"not_built": fit(causes, _NOT_BUILT_TOKENS), "not_built_total": len(known.not_built)}


def _makes_tables(known: TenantTables) -> bool:
    """Whether the tenant's runs make more than raw tables."""
    return any(pipeline.transforms for pipeline in known.pipelines)


def _warnings(known: TenantTables, facts: list[TableFacts]) -> list[str]:
    warnings = known.warnings + table_warnings(facts)
    if not known.tables:
        warnings.append(_NO_TABLES if _makes_tables(known) or not raw_layer(known) else _RAW_ONLY)
    if known.not_built:
        count = len(known.not_built)
        warnings.append(
            f"{count} generated table{'s' if count > 1 else ''} could not be built; list_tables names "
            f"{'them' if count <= _MAX_NOT_BUILT else f'{_MAX_NOT_BUILT} of them'} with the cause."
        )
    return warnings


@dataclass(frozen=True)
class TableTools:
    """`databases`: to read one table live; `discovered`: a tenant's structure as last discovered, blocks."""

    facts: TenantFacts
    layers: SemanticLayers
    files: PipelineFiles
    databases: TenantDatabases
    discovered: Callable[[Tenant], DiscoveredStructure | None]
    provider_named: Callable[[str], Provider]

    async def list_tables(self, call: Call, args: ListTables) -> Answer:
        tenant = call.own_tenant
        known = await self.facts.tables_and_schedules(tenant)
        # A caller that lists tables usually describes one next.
        self.databases.prepare(tenant, known.live.schema)
        layer = await self.layers.of(tenant, known.live)
        wanted = fold(args.search or "")
        matching = [
            facts
            for facts in known.tables.values()
            if args.kind in (None, facts.kind) and (not wanted or wanted in fold(f"{facts.name}\n{facts.description}"))
        ]
        # Who asks by words or for the retired ones wants to find them.
        shown_all = args.all_tables or bool(wanted) or args.kind == "retired"
        matching, left_out = (matching, {}) if shown_all else _in_use(matching)
        page, more = page_after(matching, args.cursor, args.limit, lambda facts: facts.name)
        detailed = args.response_format == "detailed"
        data: dict[str, Any] = {"total": len(matching), "freshness_rule": known.rule.because}
        if args.cursor is None:
            data |= left_out | _raw_layer(known, described=detailed or args.kind == "raw")
        data |= _not_built(known)
        warnings = _warnings(known, page)
        entities = {entity.table: entity.name for entity in layer.semantics.entities}
        listed = (facts.row(detailed=detailed) | _entity(entities.get(facts.name)) for facts in page)
        rows = fit(listed, room_left(data, warnings) - PAGING_TOKENS, _TABLE_TOKENS[detailed])
        cursor = next_place(page, len(rows), more, lambda facts: facts.name)
        data = {"tables": rows, "next_cursor": cursor, **data}
        if cursor:
            data["next_call"] = f"list_tables with cursor=next_cursor shows the next of {len(matching)}."
        return Answer(data, _warnings(known, page[: len(rows)]), known.live.schema.marts)

    async def describe_table(self, call: Call, args: DescribeTable) -> Answer:
        tenant = call.own_tenant
        known = await self.facts.tables_and_schedules(tenant)
        facts = known.table_named(args.table)
        layer = await self.layers.of(tenant, known.live)
        provider, warnings = self.provider_named(tenant.provider), known.warnings + table_warnings([facts])

        def read() -> dict[str, Any]:
            with self.databases.connection(tenant, known.live.schema) as connection:
                return describe(connection, self.files, known, layer, facts.name, provider, args, warnings)

        data = await in_thread(read)
        return Answer(data, warnings, known.live.schema.marts)

    async def get_metadata(self, call: Call, args: GetMetadata) -> Answer:
        tenant = call.own_tenant
        known, structure = await asyncio.gather(
            self.facts.tables_and_schedules(tenant),
            in_thread(self.discovered, tenant),
        )
        layer = await self.layers.of(tenant, known.live)
        columns = await self.facts.columns(tenant, known)
        listed, left_out = list(known.tables.values()), dict[str, Any]()
        if args.response_format == "concise":
            listed, left_out = _in_use(listed)
        page, more = page_after(listed, args.cursor, args.limit, lambda facts: facts.name)
        data: dict[str, Any] = {"total": len(listed), "freshness_rule": known.rule.because}
        if (policy := call.budget.limits.personal_data or "mark") != "mark":
            data["personal_data"] = policy
        if args.cursor is None:
            data |= left_out | tenant_parts(known, layer, self.provider_named(tenant.provider), structure)
        room = room_left(data, _warnings(known, page)) - PAGING_TOKENS
        if args.response_format == "detailed":
            shown: dict[str, Any] = {"tables": tables_with_columns(page, columns, layer, room)}
        else:
            shown = overview(page, list(known.tables.values()), columns, room)
        rows = shown["tables"]
        cursor = next_place(page, len(rows), more, lambda facts: facts.name)
        data = {**data, **shown, "next_cursor": cursor}
        if cursor:
            data["next_call"] = f"get_metadata with cursor=next_cursor shows the next of {len(listed)}."
        return Answer(data, _warnings(known, page[: len(rows)]), known.live.schema.marts)

    TOOLS: ClassVar[tuple[Tool, ...]] = (
        Tool(
            "list_tables",
            "List tables",
            "Lists the tables of a tenant that can be queried: rows, age, freshness, failing checks, what each row is; empty "
            "and retired ones are only named (left_out). To find something by words use search_metadata, for columns and joins "
            "describe_table, for everything at once get_metadata.",
            ListTables,
            list_tables,
            Scope.METADATA_READ,
        ),
        Tool(
            "describe_table",
            "Describe table",
            "One table in full: columns with type, question, options, null share, common values, range; "
            "joins with ready SQL, measures, sample rows, provenance. Use it before SQL on a table you do not "
            "know. For all tables use get_metadata.",
            DescribeTable,
            describe_table,
            Scope.METADATA_READ,
        ),
        Tool(
            "get_metadata",
            "Get metadata",
            "The whole tenant in one call: every table with its columns, joins, entities, measures, example queries, the "
            "applications behind them. Use it to plan a query over several tables. For one table's details use "
            "describe_table.",
            GetMetadata,
            get_metadata,
            Scope.METADATA_READ,
        ),
    )
