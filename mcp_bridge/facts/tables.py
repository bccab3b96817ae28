"""The facts about each table: its description, number of rows, the run that filled it, its age, its failing checks.

Joins the live relations with Dagster's materializations. Without Dagster the tables are known, but not their provenance.
"""

from collections import defaultdict
from dataclasses import dataclass, field, replace
from typing import Any

from explorer.catalog import State, Tenant
from explorer.contract.materializations import ListedTable
from explorer.contract.names import AssetKeys, is_raw
from explorer.core.errors import ExplorerError
from explorer.registry import Pipeline
from mcp_bridge.answers.envelope import age_s, iso, unknown_name
from mcp_bridge.clients.dagster.records import AssetState
from mcp_bridge.facts.freshness import NO_SCHEDULE, FreshnessRule
from mcp_bridge.facts.partition_state import Failing, PartitionState
from mcp_bridge.facts.relations import LiveTables
from mcp_bridge.facts.table_facts import Provenance, Retirement, TableFacts, short

_MAX_CHECKS = 10
_MAX_ERROR_CHARS = 300


class UnknownTable(ExplorerError):
    """The tenant has no readable table of this name."""

    code = "unknown_table"


@dataclass(eq=False)
class TenantTables:
    """All tables of a tenant. `not_built`: generated tables that do not exist because their build failed; name -> cause. `late`:
    Dagster has not answered yet. `unfinished`: the run that wrote the tables has not ended and may report more.
    `asked_at_s`: the time of the request to Dagster, by the monotonic clock."""

    tenant: Tenant
    live: LiveTables
    tables: dict[str, TableFacts]
    assets: dict[tuple[str, ...], AssetState]
    pipelines: list[Pipeline]
    rule: FreshnessRule = NO_SCHEDULE
    not_built: dict[str, str] = field(default_factory=dict)
    warnings: list[str] = field(default_factory=list)
    late: bool = False
    unfinished: bool = False
    asked_at_s: float = 0.0

    @property
    def is_rebuilt_now(self) -> bool:
        """Whether a run was writing the tenant's schemas when this was read."""
        return self.live.schema.state is State.MATERIALIZING

    @property
    def relationships(self) -> list[tuple[str, str, str]]:
        """The joins declared by the pipelines: `(from "t.c", to "t.c", description)`."""
        return [(r.from_, r.to, r.description) for pipeline in self.pipelines for r in pipeline.relationships]

    def table_named(self, written: str) -> TableFacts:
        """The table that a caller writes as `cases`, `"cases"` or `schema.cases`. Raises: UnknownTable."""
        name = written.strip().rpartition(".")[2].strip('"')
        if name not in self.tables:
            raise unknown_name(UnknownTable, "table", name, list(self.tables), "list_tables")
        return self.tables[name]

    def judge_by(self, rule: FreshnessRule) -> None:
        """Set `rule` for all tables, because they are cached longer than the schedules."""
        if rule != self.rule:
            self.rule = rule
            self.tables = {name: replace(facts, rule=rule) for name, facts in self.tables.items()}


def join(tenant: Tenant, pipelines: list[Pipeline], live: LiveTables, known: PartitionState) -> TenantTables:
    """Join the live relations with Dagster's facts."""
    result = TenantTables(tenant, live, {}, known.assets, pipelines)
    result.late, result.unfinished = known.late, known.unfinished_run is not None
    listed, notes = _generated(known.assets), _notes(known.assets)
    for name, relation in live.relations.items():
        in_raw = relation.schema == live.schema.raw
        result.tables[name] = _facts(result, name, in_raw, listed.get(name), known, notes.get(name, _Notes()))
    for name, (_, entry) in listed.items():
        if name not in live.relations:
            result.not_built[name] = entry.error or entry.status or "not built"
    if result.is_rebuilt_now:
        result.warnings.append(
            f"Run {live.schema.run_id} is rebuilding these tables now, since {iso(live.schema.state_changed_at)}: their rows may "
            "be of that run already, while runs, ages and checks told here are of the one before."
        )
    if known.unfinished_run is not None:
        result.warnings.append(
            f"Run {known.unfinished_run} has written these tables and has not ended: what it says of them (runs, ages, checks, "
            "changes of types) may be missing here. Ask again when it has."
        )
    if known.problem is not None:
        result.warnings.append(f"{known.problem} Kinds, ages, runs and checks of the tables are unknown meanwhile.")
    return result


def raw_layer(known: TenantTables) -> dict[str, dict[str, Any]]:
    """The loader's tables that agents cannot read, by name: what each holds, its number of rows and its age."""
    found = {}
    for pipeline in known.pipelines:
        for source in pipeline.sources:
            asset = known.assets.get(AssetKeys(pipeline.asset_prefix).raw(source.name))
            if asset is not None and asset.materialized_at is not None and source.table not in known.tables:
                found[source.table] = {
                    "description": short(asset.description or ""),
                    "row_count": asset.metadata.row_count,
                    "materialized_at": iso(asset.materialized_at),
                    "age_s": age_s(asset.materialized_at),
                }
    return found


def _generated(assets: dict[tuple[str, ...], AssetState]) -> dict[str, tuple[AssetState, ListedTable]]:
    """The tables that assets list in their metadata, by name. Such an asset stands for many tables."""
    return {entry.name: (asset, entry) for asset in assets.values() for entry in asset.metadata.tables or ()}


@dataclass
class _Notes:
    """What an asset that stands for many tables reports of one table, apart from the table's entry in the list."""

    type_changes: list[str] = field(default_factory=list)
    retirement: Retirement | None = None


def _notes(assets: dict[tuple[str, ...], AssetState]) -> dict[str, _Notes]:
    notes: defaultdict[str, _Notes] = defaultdict(_Notes)
    for asset in assets.values():
        for change in asset.metadata.migrations:
            notes[change.table].type_changes.append(f"{change.column}: {change.before} to {change.after}")
        for retired in asset.metadata.retired:
            notes[retired.name].retirement = Retirement(retired.since, retired.dropped_after)
    return notes


def _facts(
    known: TenantTables,
    name: str,
    in_raw: bool,
    generated: tuple[AssetState, ListedTable] | None,
    said: PartitionState,
    notes: _Notes,
) -> TableFacts:
    relation = known.live.relations[name]
    asset, entry = generated or (_asset_of(known, name, in_raw), None)
    counted = entry.row_count if entry else asset.metadata.row_count if asset else None
    provenance = _provenance(known, name, asset, said.failing) if asset else None
    if provenance and entry and entry.status != "success":
        error = entry.error[:_MAX_ERROR_CHARS] if entry.error else None
        provenance = replace(provenance, run_id=None, materialized_at=None, left_behind=True, error=error)
    elif provenance and said.failed_run and provenance.run_id not in (None, said.failed_run):
        provenance = replace(provenance, left_behind=True)
    described = relation.comment or (entry.description if entry else None) or (asset.description if asset else None)
    return TableFacts(
        name=name,
        schema=relation.schema,
        kind="retired" if notes.retirement else (entry.kind if entry else None) or _kind(in_raw, asset),
        description=str(described or ""),
        source=entry.source if entry else None,
        row_count=relation.estimate if counted is None else counted,
        row_count_exact=counted is not None,
        provenance=provenance,
        rule=known.rule,
        unfit=(entry.unfit_values if entry else None) or {},
        type_changes=tuple(notes.type_changes),
        retirement=notes.retirement,
    )


def _kind(in_raw: bool, asset: AssetState | None) -> str:
    return "raw" if in_raw else "mart" if asset else "table"


def _asset_of(known: TenantTables, name: str, in_raw: bool) -> AssetState | None:
    for pipeline in known.pipelines:
        keys = AssetKeys(pipeline.asset_prefix)
        found = [keys.raw(s.name) for s in pipeline.sources if s.table == name] if in_raw else [keys.marts(name)]
        for key in found:
            if key in known.assets:
                return known.assets[key]
    return None


def _provenance(known: TenantTables, table: str, asset: AssetState, failing: Failing) -> Provenance:
    failed = [check for check in failing.get(asset.run_id or "", ()) if check.asset_key == asset.key]
    stands_for_many = asset.metadata.tables is not None
    own = [
        name for check in failed if not (stands_for_many and check.tables is None) if (name := check.name_for(table))
    ]
    together = [f"{asset.key[-1]}: {check.name}" for check in failed if stands_for_many and check.tables is None]
    # All records that were ever rejected; the metadata of a run counts only its own.
    rejected = {
        origin.key[-1]: known.live.rejected[origin.key[-1]]
        for origin in [asset, *upstream(known.assets, asset)]
        if is_raw(origin.key) and origin.key[-1] in known.live.rejected
    }
    own_checks, shared_checks = tuple(own[:_MAX_CHECKS]), tuple(together[:_MAX_CHECKS])
    return Provenance(asset.key, asset.run_id, asset.materialized_at, own_checks, shared_checks, rejected)


def upstream(assets: dict[tuple[str, ...], AssetState], asset: AssetState) -> list[AssetState]:
    """All upstream assets, nearest first, without the asset itself."""
    found: dict[tuple[str, ...], AssetState] = {}
    unread = list(asset.upstream)
    while unread:
        key = unread.pop(0)
        if key in assets and key not in found and key != asset.key:
            found[key] = assets[key]
            unread += assets[key].upstream
    return list(found.values())
