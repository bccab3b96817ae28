"""The facts about one table and their wording: its rows, their age and run, and its problems."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from explorer.contract.bookkeeping.rejected import Rejected
from explorer.contract.retirement import Retirement
from mcp_bridge.answers.envelope import age_s, iso, without_nulls
from mcp_bridge.facts.builds import TableBuild
from mcp_bridge.facts.freshness import NO_SCHEDULE, Freshness, FreshnessRule

# The form's identifier in the description of a table that is made from it. It is long, and `source` shows it anyway.
_XMLNS = re.compile(r", xmlns [^)]*\)")


@dataclass(frozen=True)
class Provenance:
    """Where a table's rows come from. `build`: the table's own record, None where it has none; `asset_key`: None while Dagster's
    assets are not known.

    `load_checks`: failing checks of the load, for a raw table; upstream checks are shown with the upstream tables. `rejected`: by
    source of the table, the number of records that could not be loaded, and why. `failed`: the latest run could not rebuild the
    table; `error` is the reason. `left_behind`: the table has not all that its source has, though no run is at work.
    """

    build: TableBuild | None
    asset_key: tuple[str, ...] | None = None
    load_checks: tuple[str, ...] = ()
    rejected: dict[str, Rejected] = field(default_factory=dict)
    failed: bool = False
    error: str | None = None
    left_behind: bool = False

    @property
    def failing_checks(self) -> list[str]:
        """The checks that failed when they last ran."""
        return [*(self.build.failing_checks if self.build else ()), *self.load_checks]

    def row(self) -> dict[str, Any]:
        """The moments of the table, for an answer."""
        build = self.build
        return {
            "changed_at": iso(build.changed_at) if build else None,
            "as_of": iso(build.as_of) if build else None,
            "age_s": age_s(build.as_of) if build else None,
        }


@dataclass(frozen=True)
class TableFacts:
    """One table as agents see it. `estimate`: PostgreSQL's, of its rows.

    `type_changes`: changes by the last run, as `age: bigint to text`; `view_of`: the tables that a view reads.
    """

    name: str
    schema: str
    kind: str
    description: str
    source: str | None
    estimate: int | None
    provenance: Provenance
    rule: FreshnessRule = NO_SCHEDULE
    type_changes: tuple[str, ...] = ()
    retirement: Retirement | None = None
    view_of: tuple[str, ...] = ()

    @property
    def unfit(self) -> Mapping[str, int]:
        """Number of values that did not fit, by column."""
        return self.provenance.build.unfit if self.provenance.build else {}

    @property
    def row_count(self) -> int | None:
        """Exact when the table's record has it, else PostgreSQL's estimate or None."""
        return self.estimate if self._recorded_rows is None else self._recorded_rows

    @property
    def _recorded_rows(self) -> int | None:
        return self.provenance.build.rows if self.provenance.build else None

    @property
    def aside(self) -> Literal["empty", "retired"] | None:
        """Why a list leaves the table out unless it is asked for: nobody can learn from it today."""
        if self.retirement is not None:
            return "retired"
        return "empty" if self._recorded_rows == 0 else None

    @property
    def freshness(self) -> Freshness:
        build = self.provenance.build
        judged = self.rule.judge(build.as_of, build.asked_at) if build else "unknown"
        return "stale" if self.provenance.left_behind and judged == "fresh" else judged

    def row(self, *, detailed: bool) -> dict[str, Any]:
        """The table in a list. Only the detailed form names the run that filled it, because ids cost tokens."""
        row: dict[str, Any] = {
            "name": self.name,
            "kind": self.kind,
            "description": self.description if detailed else short(self.description),
            "row_count": self.row_count,
            **self.provenance.row(),
            "freshness": self.freshness,
            "failing_checks": self.provenance.failing_checks,
        }
        if self._recorded_rows is None and self.estimate is not None:
            row["row_count_estimated"] = True
        row |= self._amiss()
        if detailed:
            row |= {"source": self.source, "run_id": self._run_id}
        return row

    def source_row(self) -> dict[str, Any]:
        """The table as a source of an answer."""
        return {
            "table": self.name,
            **({"view_of": list(self.view_of)} if self.view_of else {}),
            "run_id": self._run_id,
            **self.provenance.row(),
            "failing_checks": self.provenance.failing_checks,
            **self._amiss(),
        }

    @property
    def _run_id(self) -> str | None:
        return self.provenance.build.run_id if self.provenance.build else None

    def _amiss(self) -> dict[str, Any]:
        """The table's problems; empty for most tables."""
        retired = self.retirement
        return without_nulls(
            {
                "unfit_values": sum(self.unfit.values()) or None,
                "records_set_aside": self._set_aside(),
                "last_build_failed": (self.provenance.error or "not rebuilt") if self.provenance.left_behind else None,
                "type_changes": list(self.type_changes),
                "retired": {"since": str(retired.since), "dropped_after": str(retired.dropped_after)}
                if retired
                else None,
            }
        )

    def _set_aside(self) -> int | None:
        """The number of rejected records, only for the table that has the source's name: tables made from it do not count them
        again."""
        found = self.provenance.rejected.items()
        return next((rejected.records for source, rejected in found if source == self.name or self.kind == "raw"), None)


def table_warnings(facts: list[TableFacts]) -> list[str]:
    """The warnings that an agent needs before it trusts these tables."""
    warnings = []
    stale = [f.name for f in facts if f.freshness == "stale" and not f.provenance.left_behind]
    failing = [f.name for f in facts if f.provenance.failing_checks]
    rejected = {source: found for f in facts for source, found in f.provenance.rejected.items()}
    left_behind = [f.name for f in facts if f.provenance.left_behind]
    causes = [f.provenance.error for f in facts if f.provenance.error]
    unfit = [f"{f.name} ({sum(f.unfit.values())} in {_names(list(f.unfit))})" for f in facts if f.unfit]
    changed = [f"{f.name}.{change}" for f in facts for change in f.type_changes]
    retired = [f"{f.name} ({f.retirement.since})" for f in facts if f.retirement]
    if stale:
        warnings.append(f"Stale: {_names(stale)}. {facts[0].rule.because} run_materialization refreshes them.")
    if left_behind:
        why = f" The cause: {causes[0]}" if causes else ""
        warnings.append(
            f"Not brought up to date by the latest run, the rows are of an earlier one: {_names(left_behind)}.{why}"
        )
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
