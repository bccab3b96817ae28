"""The tool that shows where a table or a column comes from, and what is made from it."""

import asyncio
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

from pydantic import Field

from explorer.catalog import DiscoveredStructure, Scope, Tenant
from explorer.contract.bookkeeping import lineage as lineage_records
from explorer.contract.bookkeeping.lineage import Lineage
from explorer.contract.names import within_pipeline
from explorer.core.errors import ExplorerError
from explorer.providers.base import Provider
from mcp_bridge.answers.envelope import Answer, age_s, fit, iso, shrunk, unknown_name, without_nulls
from mcp_bridge.clients.dagster.records import AssetState
from mcp_bridge.clients.tenant_databases import TenantDatabases
from mcp_bridge.clients.timeouts import in_thread
from mcp_bridge.facts.columns.lineage import Resources, made_from, resources_of, used_by
from mcp_bridge.facts.relations import Column, columns_of
from mcp_bridge.facts.table_facts import TableFacts
from mcp_bridge.facts.tables import TenantTables, upstream
from mcp_bridge.facts.tenant_facts import TenantFacts
from mcp_bridge.gate.tool import Call, TenantArguments, Tool

# Tokens: assets of one side, columns upstream of a column, columns downstream, the column's texts, the table's origin.
_ASSETS_TOKENS, _ABOVE_TOKENS, _BELOW_TOKENS, _COLUMN_TOKENS, _ORIGIN_TOKENS = 1_200, 1_800, 1_500, 900, 700


class UnknownColumn(ExplorerError):
    """The table has no column of this name."""

    code = "unknown_column"


class GetLineage(TenantArguments):
    table: str = Field(min_length=1, max_length=200, description="Table name from list_tables.")
    column: str | None = Field(
        None, max_length=200, description="Also trace this column, to its origin and to columns made from it."
    )
    direction: Literal["both", "upstream", "downstream"] = Field("both", description="Which side to show.")


def _assets(known: TenantTables, facts: TableFacts, direction: str) -> dict[str, Any]:
    asset = known.assets.get(facts.provenance.asset_key or ())
    if asset is None:
        return {"asset": None, "upstream": "unknown", "downstream": "unknown"}
    above = upstream(known.assets, asset) if direction != "downstream" else []
    below = _downstream(known.assets, asset) if direction != "upstream" else []
    return {
        "asset": within_pipeline(asset.key),
        "upstream": _listed(map(_asset_row, above), len(above), _ASSETS_TOKENS, "more_assets"),
        "downstream": _listed(map(_asset_row, below), len(below), _ASSETS_TOKENS, "more_assets"),
    }


def _listed(rows: Iterable[dict[str, Any]], count: int, room: int, more: str) -> list[dict[str, Any]]:
    """As many rows as fit; if some do not fit, the last entry gives their number."""
    shown = fit(rows, room) if count else []
    return shown + ([{more: count - len(shown)}] if len(shown) < count else [])


def _downstream(assets: dict[tuple[str, ...], AssetState], asset: AssetState) -> list[AssetState]:
    return [other for other in assets.values() if any(up.key == asset.key for up in upstream(assets, other))]


def _asset_row(state: AssetState) -> dict[str, Any]:
    return without_nulls(
        {
            "asset": within_pipeline(state.key),
            "group": state.group,
            "kinds": list(state.kinds),
            "materialized_at": iso(state.materialized_at),
            "age_s": age_s(state.materialized_at),
            "made_from": [within_pipeline(key) for key in state.upstream],
        }
    )


def _resources(known: TenantTables) -> Resources:
    return {
        source.table: {"name": source.name, "endpoint": source.endpoint}
        for pipeline in known.pipelines
        for source in pipeline.sources
    }


def _column(columns: list[Column], facts: TableFacts, name: str) -> Column:
    by_name = {column.name: column for column in columns}
    if name not in by_name:
        raise unknown_name(UnknownColumn, f"column in {facts.name}", name, list(by_name), "describe_table")
    return by_name[name]


def _traced(lineage: Lineage, resources: Resources, column: Column, direction: str) -> dict[str, Any]:
    traced: dict[str, Any] = {}
    if direction != "downstream":
        origins = made_from(lineage, resources, column.table, column.name)
        traced["made_from"] = "unknown" if origins is None else shrunk(origins, _ABOVE_TOKENS)
        if origins == [] and column.table not in resources:
            traced["note"] = "Computed from no other column: a constant, or a count of rows."
        if column.table in resources:
            traced |= {"made_from": [], "resource": resources[column.table]}
    if direction != "upstream":
        below = used_by(lineage, column.table, column.name)
        traced["used_by"] = _listed(below, len(below), _BELOW_TOKENS, "more_tables") if lineage else "unknown"
    return traced


@dataclass(frozen=True)
class LineageTools:
    """`discovered`: a tenant's structure as last discovered, which `provider_named`'s provider explains; blocks. `databases`: to
    read the lineage that runs stored."""

    facts: TenantFacts
    databases: TenantDatabases
    discovered: Callable[[Tenant], DiscoveredStructure | None]
    provider_named: Callable[[str], Provider]

    async def get_lineage(self, call: Call, args: GetLineage) -> Answer:
        tenant = call.own_tenant
        known = await self.facts.tables(tenant)
        facts = known.table_named(args.table)
        name = facts.name
        data: dict[str, Any] = {"table": name, "kind": facts.kind, "source": facts.source}
        data |= _assets(known, facts, args.direction)
        found, (lineage, columns) = await asyncio.gather(
            in_thread(self.discovered, tenant),
            in_thread(self._lineage, known, name),
        )
        structure, planner = found.structure if found else None, self.provider_named(tenant.provider).tables
        resources = _resources(known)
        loaded = resources_of(lineage, resources, name)
        data["origin"] = (
            {"resources": loaded}
            if loaded and facts.source is None
            else planner.origin_of(facts.kind, facts.source, structure)
        )
        data["origin"] = shrunk(data["origin"], _ORIGIN_TOKENS)
        if args.column is not None:
            column = _column(columns, facts, args.column)
            data["column"] = {"name": column.name, "type": column.type, "description": column.comment}
            behind = lineage.get(name, {}).get(column.name)
            data["column"] |= planner.origin_of_column(behind, facts.source, column.facts, structure)
            data["column"] = shrunk(data["column"], _COLUMN_TOKENS)
            data["column"] |= _traced(lineage, resources, column, args.direction)
        warnings = list(known.warnings)
        if data["upstream"] == "unknown" or data["downstream"] == "unknown":
            warnings.append("No asset of Dagster is known for this table, so its neighbours are unknown.")
        return Answer(data, warnings, known.live.schema.marts)

    def _lineage(self, known: TenantTables, table: str) -> tuple[Lineage, list[Column]]:
        """The column lineage of all models, and one table's live columns. Blocks; raises as `TenantDatabases.connection`."""
        schema = known.live.schema
        with self.databases.connection(known.tenant, schema) as connection:
            return lineage_records.read(connection, schema), columns_of(connection, known.live, [table])[table]

    TOOLS: ClassVar[tuple[Tool, ...]] = (
        Tool(
            "get_lineage",
            "Get lineage",
            "Where a table comes from (assets, applications, form or case type) and what is made from it; with column, "
            "the chain of columns and JSON paths down to the resource of the source, the question or property behind it, "
            "and the columns made from it. Use it to explain a number or to judge a "
            "change; for columns and joins use describe_table.",
            GetLineage,
            get_lineage,
            Scope.METADATA_READ,
        ),
    )
