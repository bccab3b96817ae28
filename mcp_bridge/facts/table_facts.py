"""The facts about one table and their wording: its rows, their age and run, and its problems."""

import re
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Literal

from explorer.contract.bookkeeping.rejected import Rejected
from mcp_bridge.answers.envelope import age_s, iso, without_nulls
from mcp_bridge.facts.freshness import NO_SCHEDULE, FreshnessRule

Freshness = Literal["fresh", "stale", "unknown"]
# The form's identifier in the description of a table that is made from it. It is long, and `source` shows it anyway.
_XMLNS = re.compile(r", xmlns [^)]*\)")


@dataclass(frozen=True)
class Provenance:
    """Dagster's facts about a table. `failing_checks`: of the table itself; upstream checks are shown with the upstream tables.

    `failing_together`: checks of an asset that stands for several tables, which do not say which table fails.
    `left_behind`: the latest run should have rebuilt this table and did not; `error` is the reason, if known. `rejected`: by
    source of the table, the number of records that could not be loaded, and why.
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
    """The source of a generated table is gone. The table gets no rows `since` then; it is dropped after `dropped_after` (ISO
    dates)."""

    since: str
    dropped_after: str


@dataclass(frozen=True)
class TableFacts:
    """One table as agents see it. `row_count` is exact when a run reported it, else PostgreSQL's estimate or None.

    `unfit`: number of values that did not fit, by column; `type_changes`: changes by the last run, as `age: bigint to text`.
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
        """The table in a list. Only the detailed form names the run that filled it, because ids cost tokens."""
        provenance = self.provenance
        row: dict[str, Any] = {
            "name": self.name,
            "kind": self.kind,
            "description": self.description if detailed else short(self.description),
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
        """The table's problems; empty for most tables."""
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
        """The number of rejected records, only for the table that has the source's name: tables made from it do not count them
        again."""
        own = self.provenance.asset_key[-1] if self.provenance else ""
        count, _ = self.provenance.rejected.get(own, (0, "")) if self.provenance else (0, "")
        return count or None


def table_warnings(facts: list[TableFacts]) -> list[str]:
    """The warnings that an agent needs before it trusts these tables."""
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
        counted = [f"{count} of {source} ({reason})" for source, (count, reason) in sorted(rejected.items())]
        warnings.append(f"Source records that could not be loaded are in no table: {_names(counted)}.")
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


def short(text: str) -> str:
    """The first line of a description, cut to the width of a list."""
    line = _XMLNS.sub(")", text.strip().split("\n", 1)[0])
    return line if len(line) <= 120 else f"{line[:117]}..."


def _names(names: list[str]) -> str:
    shown = ", ".join(names[:5])
    return f"{shown} and {len(names) - 5} more" if len(names) > 5 else shown
