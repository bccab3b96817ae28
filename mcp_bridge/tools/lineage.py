"""The tool that tells where a table or a column comes from, and what is made from it."""

from typing import Any, Literal

from anyio import to_thread
from pydantic import Field

from explorer_dagster.catalog import Scope
from explorer_dagster.errors import ExplorerError
from mcp_bridge.column_lineage import CompiledModels, origin_of
from mcp_bridge.dagster_client import AssetState
from mcp_bridge.envelope import Answer, age_s, iso, unknown_name, without_nulls
from mcp_bridge.relations import column_types, live_columns
from mcp_bridge.runs import asset_name
from mcp_bridge.tables import TableFacts, TenantTables, tenant_tables, upstream
from mcp_bridge.tool import Call, TenantArguments, Tool
from mcp_bridge.tools.tables import UnknownTable

_MAX_ASSETS = 60


class UnknownColumn(ExplorerError):
    """The table has no column of this name."""

    code = "unknown_column"


class GetLineage(TenantArguments):
    table: str = Field(min_length=1, max_length=200, description="Table name from list_tables, without schema.")
    column: str | None = Field(None, max_length=200, description="Also trace this column to its origin.")
    direction: Literal["both", "upstream", "downstream"] = Field("both", description="Which side of the table to show.")


async def get_lineage(call: Call, args: GetLineage) -> Answer:
    tenant, name = call.own_tenant, args.table.strip().rpartition(".")[2].strip('"')
    known = await tenant_tables(call.bridge, tenant)
    if name not in known.tables:
        raise unknown_name(UnknownTable, "table", name, list(known.tables), "list_tables")
    facts = known.tables[name]
    data: dict[str, Any] = {"table": name, "kind": facts.kind, "source": facts.source}
    data |= _assets(known, facts, args.direction)
    structure = await to_thread.run_sync(lambda: call.bridge.catalog.discovered.latest(tenant))
    data["origin"] = origin_of(facts.kind, facts.source, structure.structure if structure else None)
    if args.column is not None:
        data["column"] = await _column(call, known, facts, args.column)
    warnings = list(known.warnings)
    if data["upstream"] == "unknown" or data["downstream"] == "unknown":
        warnings.append("No asset of Dagster is known for this table, so its neighbours are unknown.")
    return Answer(data, warnings, known.live.schema.marts)


def _assets(known: TenantTables, facts: TableFacts, direction: str) -> dict[str, Any]:
    asset = known.assets.get(facts.provenance.asset_key) if facts.provenance else None
    if asset is None:
        return {"asset": None, "upstream": "unknown", "downstream": "unknown"}
    above = upstream(known.assets, asset) if direction != "downstream" else []
    below = _downstream(known.assets, asset) if direction != "upstream" else []
    return {
        "asset": asset_name(asset.key),
        "upstream": [_asset_row(state) for state in above[:_MAX_ASSETS]],
        "downstream": [_asset_row(state) for state in below[:_MAX_ASSETS]],
    }


def _downstream(assets: dict[tuple[str, ...], AssetState], asset: AssetState) -> list[AssetState]:
    return [other for other in assets.values() if any(up.key == asset.key for up in upstream(assets, other))]


def _asset_row(state: AssetState) -> dict[str, Any]:
    return without_nulls(
        {
            "asset": asset_name(state.key),
            "group": state.group,
            "kinds": list(state.kinds),
            "materialized_at": iso(state.materialized_at),
            "age_s": age_s(state.materialized_at),
            "made_from": [asset_name(key) for key in state.upstream],
        }
    )


async def _column(call: Call, known: TenantTables, facts: TableFacts, name: str) -> dict[str, Any]:
    columns = await to_thread.run_sync(live_columns, call.bridge, call.own_tenant, known.live, [facts.name])
    by_name = {column.name: column for column in columns[facts.name]}
    if name not in by_name:
        raise unknown_name(UnknownColumn, f"column in {facts.name}", name, list(by_name), "describe_table")
    recorded = _recorded(known, facts, name)
    traced = recorded or await to_thread.run_sync(_compiled, call, known, facts.name, name)
    return {
        "name": name,
        "type": by_name[name].type,
        "description": by_name[name].comment,
        "made_from": traced or "unknown",
        "known_by": "dagster" if recorded else ("dbt" if traced else None),
    }


def _compiled(call: Call, known: TenantTables, table: str, column: str) -> list[dict[str, Any]] | None:
    columns = column_types(call.bridge, call.own_tenant)
    return CompiledModels(call.bridge.settings.home / "dbt" / known.live.schema.prefix, columns).trace(table, column)


def _recorded(known: TenantTables, facts: TableFacts, column: str) -> list[dict[str, Any]] | None:
    """Column lineage that the run recorded with the asset, if it did."""
    asset = known.assets.get(facts.provenance.asset_key) if facts.provenance else None
    lineage = asset.metadata.get("dagster/column_lineage") if asset else None
    if not isinstance(lineage, dict) or column not in lineage:
        return None
    return [{"table": dep["asset"][-1], "column": dep["column"]} for dep in lineage[column]]


TOOLS = (
    Tool(
        "get_lineage",
        "Get lineage",
        "Where a table comes from (assets, application, form or case type) and what is made from it; with column, "
        "also which columns it is computed from and how. Says unknown rather than guess. Use it to explain a "
        "number or to judge a change; for columns and joins use describe_table.",
        GetLineage,
        get_lineage,
        Scope.METADATA_READ,
    ),
)
