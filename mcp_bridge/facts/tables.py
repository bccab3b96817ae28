"""What does the platform know of each table: what it is, how many rows, which run filled it, how long ago, which checks fail?

Joins the live relations with Dagster's materializations. Without Dagster the tables are still known, their provenance is not.
"""

import re
from collections import defaultdict
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any, Literal

from explorer.catalog import State, Tenant
from explorer.contract.bookkeeping.rejected import Rejected
from explorer.contract.materializations import ListedTable
from explorer.contract.names import AssetKeys, is_raw
from explorer.registry import Pipeline
from mcp_bridge.answers.envelope import age_s, iso, without_nulls
from mcp_bridge.clients.dagster.records import AssetState
from mcp_bridge.facts.freshness import NO_SCHEDULE, FreshnessRule
from mcp_bridge.facts.partition_state import Failing, PartitionState
from mcp_bridge.facts.relations import LiveTables

Freshness = Literal["fresh", "stale", "unknown"]
_MAX_CHECKS = 10
_MAX_ERROR_CHARS = 300
# The form's identifier in the description of a table cut from it: long, and told as its source.
_XMLNS = re.compile(r", xmlns [^)]*\)")


@dataclass(frozen=True)
class Provenance:
    """What Dagster knows of a table. `failing_checks`: of the table itself; those of what it is made from are told there.

    `failing_together`: checks of the asset that stands for this table and others, which do not say for which they fail.
    `left_behind`: the latest run was to rebuild this table and did not, `error` says why if that is known. `rejected`: of the
    sources that the table is made from, the records that could not be loaded, and why.
    """

    asset_key: tuple[str, ...]
    run_id: str | None
    materialized_at: datetime | None
    failing_checks: tuple[str, ...] = ()
    failing_together: tuple[str, ...] = ()
    rejected: dict[str, Rejected] = field(default_factory=dict)
    left_behind: bool = False
    error: str | None = None


@dataclass(frozen=True)
class Retirement:
    """The source of a generated table is gone: nothing is added to it `since`, and it goes after `dropped_after` (ISO dates)."""

    since: str
    dropped_after: str


@dataclass(frozen=True)
class TableFacts:
    """One table as agents see it. `row_count` is exact when a run reported it, else PostgreSQL's estimate or None.

    `unfit`: values that did not fit their column, by column; `type_changes`: what the last run changed, as `age: bigint to text`.
    """

    name: str
    schema: str
    kind: str
    description: str
    source: str | None
    row_count: int | None
    row_count_exact: bool
    provenance: Provenance | None
    rule: FreshnessRule = NO_SCHEDULE
    unfit: dict[str, int] = field(default_factory=dict)
    type_changes: tuple[str, ...] = ()
    retirement: Retirement | None = None

    @property
    def freshness(self) -> Freshness:
        at = self.provenance.materialized_at if self.provenance else None
        age = age_s(at)
        if age is None:
            return "unknown"
        return "fresh" if age <= self.rule.stale_after_s else "stale"

    def row(self, *, detailed: bool) -> dict[str, Any]:
        """The table in a list. Which run filled it is told in the detailed form; ids cost tokens."""
        provenance = self.provenance
        row: dict[str, Any] = {
            "name": self.name,
            "kind": self.kind,
            "description": self.description if detailed else _short(self.description),
            "row_count": self.row_count,
            "materialized_at": iso(provenance.materialized_at) if provenance else None,
            "age_s": age_s(provenance.materialized_at) if provenance else None,
            "freshness": self.freshness,
            "failing_checks": list(provenance.failing_checks) if provenance else None,
        }
        if not self.row_count_exact and self.row_count is not None:
            row["row_count_estimated"] = True
        row |= self._amiss()
        if detailed:
            row |= {"source": self.source, "run_id": provenance.run_id if provenance else None}
        return row

    def source_row(self) -> dict[str, Any]:
        """The table as a source of an answer."""
        provenance = self.provenance
        return {
            "table": self.name,
            "materialized_at": iso(provenance.materialized_at) if provenance else None,
            "age_s": age_s(provenance.materialized_at) if provenance else None,
            "run_id": provenance.run_id if provenance else None,
            "failing_checks": list(provenance.failing_checks) if provenance else None,
            **self._amiss(),
        }

    def _amiss(self) -> dict[str, Any]:
        """What is not as it should be; nothing for most tables."""
        provenance, retired = self.provenance, self.retirement
        return without_nulls(
            {
                "unfit_values": sum(self.unfit.values()) or None,
                "records_set_aside": self._set_aside(),
                "last_build_failed": (provenance.error or "not rebuilt")
                if provenance and provenance.left_behind
                else None,
                "type_changes": list(self.type_changes),
                "retired": {"since": retired.since, "dropped_after": retired.dropped_after} if retired else None,
            }
        )

    def _set_aside(self) -> int | None:
        """Records of the source that the table is named after: what is made of it in turn does not lack them once more."""
        own = self.provenance.asset_key[-1] if self.provenance else ""
        count, _ = self.provenance.rejected.get(own, (0, "")) if self.provenance else (0, "")
        return count or None


@dataclass(eq=False)
class TenantTables:
    """All tables of a tenant. `not_built`: generated tables whose last build failed and that do not exist; name to cause. `late`:
    Dagster has not said yet what it knows of them. `unfinished`: the run that wrote them has not ended, and may say more.
    `asked_at_s`: when Dagster was asked, by the monotonic clock."""

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
        """Whether a run was at work on the tenant's schemas when this was read."""
        return self.live.schema.state is State.MATERIALIZING

    def judge_by(self, rule: FreshnessRule) -> None:
        """Take `rule` for all tables: what is kept of them is older than what is known of schedules."""
        if rule != self.rule:
            self.rule = rule
            self.tables = {name: replace(facts, rule=rule) for name, facts in self.tables.items()}


def join(tenant: Tenant, pipelines: list[Pipeline], live: LiveTables, known: PartitionState) -> TenantTables:
    """Live relations and what Dagster knows, as one."""
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
    """The loader's tables by name, where they are not among those that may be read: what each holds, how much, how old it is."""
    found = {}
    for pipeline in known.pipelines:
        for source in pipeline.sources:
            asset = known.assets.get(AssetKeys(pipeline.asset_prefix).raw(source.name))
            if asset is not None and asset.materialized_at is not None and source.table not in known.tables:
                found[source.table] = {
                    "description": _short(asset.description or ""),
                    "row_count": asset.metadata.row_count,
                    "materialized_at": iso(asset.materialized_at),
                    "age_s": age_s(asset.materialized_at),
                }
    return found


def table_warnings(facts: list[TableFacts]) -> list[str]:
    """What an agent must know before it trusts these tables."""
    warnings = []
    stale = [f.name for f in facts if f.freshness == "stale"]
    failing = [f.name for f in facts if f.provenance and f.provenance.failing_checks]
    rejected = {source: found for f in facts if f.provenance for source, found in f.provenance.rejected.items()}
    left_behind = [f.name for f in facts if f.provenance and f.provenance.left_behind]
    causes = [f.provenance.error for f in facts if f.provenance and f.provenance.error]
    unfit = [f"{f.name} ({sum(f.unfit.values())} in {_names(list(f.unfit))})" for f in facts if f.unfit]
    changed = [f"{f.name}.{change}" for f in facts for change in f.type_changes]
    retired = [f"{f.name} ({f.retirement.since})" for f in facts if f.retirement]
    if stale:
        hours = next(f for f in facts if f.freshness == "stale").rule.stale_after_s / 3600
        warnings.append(f"Older than {hours:g} h: {_names(stale)}. run_materialization refreshes them.")
    if left_behind:
        why = f" The cause: {causes[0]}" if causes else ""
        warnings.append(f"Not rebuilt by the latest run, the rows are from an earlier one: {_names(left_behind)}.{why}")
    together = sorted({check for f in facts if f.provenance for check in f.provenance.failing_together})
    if together:
        warnings.append(f"Checks fail that do not say on which of the generated tables: {_names(together)}.")
    if failing:
        warnings.append(f"Checks fail on: {_names(failing)}; see failing_checks.")
    if rejected:
        told = [f"{count} of {source} ({reason})" for source, (count, reason) in sorted(rejected.items())]
        warnings.append(f"Source records that could not be loaded are in no table: {_names(told)}.")
    if unfit:
        warnings.append(
            f"Values that are no such number, date or choice (NULL where the type forbids them): {_names(unfit)}; "
            "the column unfit_columns names them per row."
        )
    if changed:
        warnings.append(f"Changed type in the last sync: {_names(changed)}.")
    if retired:
        warnings.append(f"No longer filled, their source is gone: {_names(retired)}.")
    return warnings


def _generated(assets: dict[tuple[str, ...], AssetState]) -> dict[str, tuple[AssetState, ListedTable]]:
    """Tables that an asset lists in its metadata, by name: the assets that stand for many tables."""
    return {entry.name: (asset, entry) for asset in assets.values() for entry in asset.metadata.tables or ()}


@dataclass
class _Notes:
    """What an asset that stands for many tables says of one of them beside its entry in the list."""

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
    own = [told for check in failed if not (stands_for_many and check.tables is None) if (told := check.told(table))]
    together = [f"{asset.key[-1]}: {check.name}" for check in failed if stands_for_many and check.tables is None]
    # All that were ever set aside: the metadata of a run counts its own only.
    rejected = {
        origin.key[-1]: known.live.rejected[origin.key[-1]]
        for origin in [asset, *upstream(known.assets, asset)]
        if is_raw(origin.key) and origin.key[-1] in known.live.rejected
    }
    own_checks, shared_checks = tuple(own[:_MAX_CHECKS]), tuple(together[:_MAX_CHECKS])
    return Provenance(asset.key, asset.run_id, asset.materialized_at, own_checks, shared_checks, rejected)


def upstream(assets: dict[tuple[str, ...], AssetState], asset: AssetState) -> list[AssetState]:
    """Everything that the asset is made from, nearest first, without itself."""
    seen: dict[tuple[str, ...], AssetState] = {}
    ahead = list(asset.upstream)
    while ahead:
        key = ahead.pop(0)
        if key in assets and key not in seen and key != asset.key:
            seen[key] = assets[key]
            ahead += assets[key].upstream
    return list(seen.values())


def _short(text: str) -> str:
    line = _XMLNS.sub(")", text.strip().split("\n", 1)[0])
    return line if len(line) <= 120 else f"{line[:117]}..."


def _names(names: list[str]) -> str:
    shown = ", ".join(names[:5])
    return f"{shown} and {len(names) - 5} more" if len(names) > 5 else shown
