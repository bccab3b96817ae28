"""The facts about each table: its description, number of rows, the run that filled it, its age, its failing checks.

Joins the live relations, with their own records, and Dagster's materializations. Without Dagster the failures and changes of
types of the latest run are unknown.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from explorer.catalog import Limits, State, Tenant
from explorer.contract.bookkeeping.builds import SAVED
from explorer.contract.bookkeeping.rejected import Rejected
from explorer.contract.materializations import ListedTable
from explorer.contract.names import AssetKeys
from explorer.contract.retirement import retirement_of
from explorer.core.errors import ExplorerError
from explorer.registry import Pipeline
from mcp_bridge.answers.envelope import age_s, iso, unknown_name
from mcp_bridge.clients.dagster.records import AssetState
from mcp_bridge.facts.builds import TableBuild, build_of_view, raw_tables_of
from mcp_bridge.facts.freshness import NO_SCHEDULE, FreshnessRule
from mcp_bridge.facts.partition_state import Failing, PartitionState
from mcp_bridge.facts.relations import LiveTables, Relation
from mcp_bridge.facts.table_facts import Provenance, TableFacts, short

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
    # The same object for the same limits, since caches go by it.
    _narrowed: "tuple[Limits, dict[str, TableFacts], TenantTables] | None" = field(default=None, init=False, repr=False)

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

    def with_those_of_views(self, names: Iterable[str]) -> list[str]:
        """The named tables, and the tables that views among them read, as far as agents may read them."""
        named = [self.tables[name] for name in names if name in self.tables]
        found = {facts.name for facts in named} | {name for facts in named for name in facts.view_of}
        return sorted(found & self.tables.keys())

    def as_built(self, facts: TableFacts, builds: Mapping[str, TableBuild]) -> TableFacts:
        """The table with its build among these, which may be read later than the table."""
        build, of_view = builds.get(facts.name), [builds[name] for name in facts.view_of if name in builds]
        build = build_of_view(build, of_view) if facts.view_of else build
        behind = build is not None and build.behind and not (self.is_rebuilt_now or self.unfinished)
        left_behind = facts.provenance.failed or behind
        return replace(facts, provenance=replace(facts.provenance, build=build, left_behind=left_behind))

    def readable(self, limits: Limits) -> "TenantTables":
        """Only the tables that may be read: also no view of one that may not."""
        if limits.allowed_tables is None and not limits.excluded_tables:
            return self
        if self._narrowed is not None and self._narrowed[:2] == (limits, self.tables):
            return self._narrowed[2]
        hidden = {name for name in (*self.tables, *self.not_built) if not limits.may_read(name)}
        hidden |= {name for name, facts in self.tables.items() if not all(map(limits.may_read, facts.view_of))}
        if not hidden:
            return self
        relations = {name: found for name, found in self.live.relations.items() if name not in hidden}
        narrowed = replace(
            self,
            live=replace(self.live, relations=relations),
            tables={name: facts for name, facts in self.tables.items() if name not in hidden},
            not_built={name: cause for name, cause in self.not_built.items() if name not in hidden},
        )
        self._narrowed = limits, self.tables, narrowed
        return narrowed

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
        result.tables[name] = _facts(result, name, in_raw, listed.get(name), known.failing, notes.get(name, _Notes()))
    for name, (_, entry) in listed.items():
        if name not in live.relations:
            result.not_built[name] = entry.error or entry.status or "not built"
    if result.is_rebuilt_now:
        result.warnings.append(
            f"Run {live.schema.run_id} is rebuilding these tables now, since {iso(live.schema.state_changed_at)}: some may "
            "be of that run already, as told of each; others are of the one before."
        )
    if known.unfinished_run is not None:
        result.warnings.append(
            f"Run {known.unfinished_run} has written these tables and has not ended: what it says of them (failures, "
            "changes of types) may be missing here. Ask again when it has."
        )
    if known.problem is not None:
        result.warnings.append(f"{known.problem} Failures of the latest run are unknown meanwhile.")
    return result


def raw_layer(known: TenantTables) -> dict[str, dict[str, Any]]:
    """The loader's tables that agents cannot read, by name: what each holds, its number of rows and its age."""
    found = {}
    for pipeline in known.pipelines:
        for source in pipeline.sources:
            build = known.live.builds.get(source.table)
            if build is not None and source.table not in known.tables:
                found[source.table] = {
                    "description": short(source.description),
                    "row_count": build.rows,
                    "as_of": iso(build.as_of),
                    "age_s": age_s(build.as_of),
                }
    return found


def _generated(assets: dict[tuple[str, ...], AssetState]) -> dict[str, tuple[AssetState, ListedTable]]:
    """The tables that assets list in their metadata, by name. Such an asset stands for many tables."""
    return {entry.name: (asset, entry) for asset in assets.values() for entry in asset.metadata.tables or ()}


@dataclass
class _Notes:
    """What an asset that stands for many tables reports of one table, apart from the table's entry in the list."""

    type_changes: list[str] = field(default_factory=list)


def _notes(assets: dict[tuple[str, ...], AssetState]) -> dict[str, _Notes]:
    notes: defaultdict[str, _Notes] = defaultdict(_Notes)
    for asset in assets.values():
        for change in asset.metadata.migrations:
            notes[change.table].type_changes.append(f"{change.column}: {change.before} to {change.after}")
    return notes


def _facts(
    known: TenantTables,
    name: str,
    in_raw: bool,
    generated: tuple[AssetState, ListedTable] | None,
    failing: Failing,
    notes: _Notes,
) -> TableFacts:
    relation, build = known.live.relations[name], known.live.builds.get(name)
    retirement = retirement_of(relation.comment)
    asset, entry = generated or (_asset_of(known, name, in_raw), None)
    # Of tables that an earlier version of the platform made, Dagster tells it, until the next run.
    made = known.live.kinds.get(name) or entry
    described = relation.comment or (entry.description if entry else None) or (asset.description if asset else None)
    facts = TableFacts(
        name=name,
        schema=relation.schema,
        kind="retired" if retirement else (made.kind if made else None) or _kind(known, relation, asset, build),
        description=str(described or ""),
        source=made.source if made else None,
        estimate=relation.estimate,
        provenance=Provenance(
            None,
            asset.key if asset else None,
            failing.get(asset.key, ())[:_MAX_CHECKS] if in_raw and asset else (),
            _rejected(known, name),
            failed=entry is not None and entry.status != "success",
            error=entry.error[:_MAX_ERROR_CHARS] if entry and entry.error else None,
        ),
        rule=known.rule,
        type_changes=tuple(notes.type_changes),
        retirement=retirement,
        view_of=relation.view_of,
    )
    return known.as_built(facts, known.live.builds)


def _kind(known: TenantTables, relation: Relation, asset: AssetState | None, build: TableBuild | None) -> str:
    places = {known.live.schema.raw: "raw", known.live.schema.saved: SAVED}
    return places.get(relation.schema) or ("mart" if asset or (build and build.is_model) else "table")


def _asset_of(known: TenantTables, name: str, in_raw: bool) -> AssetState | None:
    for pipeline in known.pipelines:
        keys = AssetKeys(pipeline.asset_prefix)
        found = [keys.raw(s.name) for s in pipeline.sources if s.table == name] if in_raw else [keys.marts(name)]
        for key in found:
            if key in known.assets:
                return known.assets[key]
    return None


def _rejected(known: TenantTables, name: str) -> dict[str, Rejected]:
    """All records that were ever rejected of the sources that the table is made from."""
    raw = {name, *raw_tables_of(known.live.builds, name)}
    names = [source.name for pipeline in known.pipelines for source in pipeline.sources if source.table in raw]
    return {source: known.live.rejected[source] for source in names if source in known.live.rejected}


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
