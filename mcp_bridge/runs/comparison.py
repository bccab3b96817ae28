"""What changed between two runs of a tenant? Read from what runs wrote beside the tables, without Dagster.

One trip to the catalog, two to the tenant's database, however old the runs are and whatever ran between them.
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from explorer.catalog import Limits, Tenant, TenantSchema
from explorer.contract.bookkeeping import run_changes, steps
from explorer.contract.bookkeeping.run_changes import Change
from explorer.contract.bookkeeping.steps import STEPS_IN_ORDER, RunSpan, Step, StepRecord
from explorer.core.errors import ExplorerError
from mcp_bridge.answers.envelope import age_s, clipped, fit, iso, weight, without_nulls
from mcp_bridge.clients.platform_database import PlatformDatabase
from mcp_bridge.clients.tenant_databases import TenantDatabases
from mcp_bridge.clients.timeouts import CATALOG_S, LIST_S, in_thread

Steps = Mapping[Step, StepRecord]
_MAX_NAMES = 12
_MAX_REASON_TOKENS = 60
_MAX_RECENT = 5
# However long the rest is, one table with its numbers has room.
_LEAST_TABLE_TOKENS = 120
NOT_COUNTED = "Of tables without new, changed and gone, as those of dbt, only the number of rows is known."
SEVERAL = "A row that changed in several of the runs is counted in each of them."


class RunNotRecorded(ExplorerError):
    """A run left no record of what it changed in the tenant's tables."""

    code = "run_not_recorded"


@dataclass(frozen=True)
class Comparison:
    """Two runs of a tenant and what changed after the first, up to the second one. `before` None: nothing is recorded before
    `after`; `ids`: the runs after the first one, up to the second; `steps`: of all these."""

    before: RunSpan | None
    after: RunSpan
    ids: Sequence[str]
    steps: Mapping[str, Steps]
    changes: Sequence[Change]

    def to_dict(self, room: int) -> dict[str, Any]:
        """For an answer of about `room` tokens: without nulls; `tables` are those that changed, the most changed rows first, and
        `more_tables` the number of those that had no room."""
        told = without_nulls(
            {
                "before": _moment(self.before),
                "after": _moment(self.after),
                "runs_between": len(self.ids) - 1 or None,
                "first_difference": self.first_difference,
                "steps": dict(self._steps()),
                "sources": self._sources() or None,
            }
        )
        rows = [_row(change) for change in sorted(self.changes, key=_weight)]
        fitting = fit(rows, max(_LEAST_TABLE_TOKENS, room - weight(told)))
        more = {"more_tables": len(rows) - len(fitting)} if len(rows) > len(fitting) else {}
        return told | {"tables": fitting} | more

    @property
    def notes(self) -> list[str]:
        """What is to be known of the numbers."""
        found = []
        if any(change.counts is None and change.times for change in self.changes):
            found.append(NOT_COUNTED)
        if any(change.times > 1 for change in self.changes):
            found.append(SEVERAL)
        if self.before is None:
            found.append("Nothing is recorded of a run before this one, so it is compared with what it found.")
        return found

    @property
    def first_difference(self) -> str:
        """The first step that went otherwise, or brought something, in words."""
        for step in STEPS_IN_ORDER:
            before, after = self._of(self.before, step), self._of(self.after, step)
            outcomes = tuple(each.outcome if each else None for each in (before, after))
            if outcomes[0] != outcomes[1] and {"failed", "stopped"} & {*outcomes}:
                return f"{step}: {_said(before)} before, {_said(after)} now"
            if news := self._brought(step):
                return f"{step}: {news}"
        return "nothing: the tables are as they were"

    def _brought(self, step: Step) -> str | None:
        done = [self.steps[run][step].facts for run in self.ids if step in self.steps[run]]
        if step == "discovery":
            return "; ".join(clipped(each.news, _MAX_REASON_TOKENS) for each in done if each.news) or None
        if step == "loading":
            return "; ".join(_counted(name, of) for name, of in list(self._sources().items())[:_MAX_NAMES]) or None
        built, applied = sum(each.built for each in done), sum(each.applied for each in done)
        if not (built or applied):
            return None
        why = " as everything was asked for" if any(each.full for each in done) else ", from the same records"
        return f"{built} built as a whole, {applied} took up changes{why}"

    def _of(self, run: RunSpan | None, step: Step) -> StepRecord | None:
        return self.steps[run.run_id].get(step) if run else None

    def _steps(self) -> Iterator[tuple[Step, dict[str, Any]]]:
        for step in STEPS_IN_ORDER:
            before, after = self._of(self.before, step), self._of(self.after, step)
            if before or after:
                told = {
                    "before_s": before and round(before.seconds, 1),
                    "after_s": after and round(after.seconds, 1),
                    "outcome": _said(after) if not after or after.outcome != "done" else None,
                }
                yield step, without_nulls(told)

    def _sources(self) -> dict[str, dict[str, int]]:
        """Records that differed, by source, over all runs."""
        found: dict[str, Counter[str]] = {}
        for run in self.ids:
            if record := self.steps[run].get("loading"):
                for name, counts in record.facts.sources.items():
                    found.setdefault(name, Counter()).update(new=counts.new, changed=counts.changed, gone=counts.gone)
        return {name: {kind: number for kind, number in of.items() if number} for name, of in found.items()}


@dataclass(frozen=True)
class RunComparisons:
    """`kept_days`: for how long records of runs are kept, 0 for ever."""

    platform: PlatformDatabase
    databases: TenantDatabases
    kept_days: int

    async def of(
        self, tenant: Tenant, after: str | None = None, before: str | None = None, *, within_s: float = LIST_S
    ) -> Comparison:
        """Compare two runs by their ids, the older one first, whichever is named so. Without `after` the newest run; without
        `before` the one before that. Gives up after `within_s`.

        Raises:
            RunNotRecorded. As `TenantDatabases.connection`.
        """
        return await in_thread(lambda: self._of(tenant, after, before), within_s=within_s)

    async def last_seconds(self, tenant: Tenant, *, full: bool = False) -> dict[Step, float]:
        """How long each step took when it was last done, `full`: in a run that did everything again, where there was one; empty
        where that is not recorded. Raises as `of`."""

        def read() -> dict[Step, float]:
            schema = self.platform.catalog.schemas.get(tenant)
            with self.databases.connection(tenant, schema) as connection:
                return steps.last_seconds(connection, schema, full=full)

        return await in_thread(read, within_s=CATALOG_S)

    def _of(self, tenant: Tenant, after: str | None, before: str | None) -> Comparison:
        schema = self.platform.catalog.schemas.get(tenant)
        limits = next((each.limits for each in self.platform.catalog.limits.of(tenant) if not each.principal), Limits())
        with self.databases.connection(tenant, schema) as connection:
            known = steps.runs(connection, schema)
            places = sorted(self._places(known, schema, after, before))
            last, first = places[0], places[-1]
            span = known[first] if first != last else None
            ids = [each.run_id for each in known[last : first if span else first + 1]]
            found = steps.read(connection, schema, [*ids, *([span.run_id] if span else [])])
            changed = run_changes.within(connection, schema, span.ended_at if span else None, known[last].ended_at)
        readable = [each for each in changed if limits.may_read(each.name)]
        return Comparison(span, known[last], ids, found, readable)

    def _places(
        self, known: Sequence[RunSpan], schema: TenantSchema, after: str | None, before: str | None
    ) -> Iterator[int]:
        """Places of the two runs in the list, newest first; one place twice where there is only one run."""
        ids = [each.run_id for each in known]
        for wanted in (after, before):
            if wanted is not None and wanted not in ids:
                raise self._not_recorded(f"Run {wanted[:64]} left no record of what it changed", known)
        if not known:
            raise self._not_recorded("No run has left a record of what it changed", known)
        newest = ids.index(after) if after is not None else 0
        yield newest
        yield ids.index(before) if before is not None else min(newest + 1, len(ids) - 1)

    def _not_recorded(self, what: str, known: Sequence[RunSpan]) -> RunNotRecorded:
        kept = f", or more than {self.kept_days} days ago" if self.kept_days else ""
        return RunNotRecorded(
            f"{what}: it ran with an earlier version of the platform{kept}, or ended before its first step.",
            next_step="Compare runs that are recorded (see `recorded`); get_materialization_status tells what Dagster knows.",
            details={"recorded": [each.run_id for each in known[:_MAX_RECENT]]},
        )


def delta(comparison: Comparison, most: int) -> dict[str, Any]:
    """The comparison with the run before, for the answer of a run: `most` tables, the most changed first."""
    rows = [_row(change) for change in sorted(comparison.changes, key=_weight)]
    return without_nulls(
        {
            "since_run": comparison.before.run_id if comparison.before else None,
            "first_difference": comparison.first_difference,
            "tables": rows[:most],
            "more_tables": len(rows) - most if len(rows) > most else None,
        }
    )


def _moment(run: RunSpan | None) -> dict[str, Any] | None:
    return {"run_id": run.run_id, "at": iso(run.began_at), "age_s": age_s(run.ended_at)} if run else None


def _weight(change: Change) -> tuple[int, str]:
    counts = change.counts
    rows = (
        counts.new + counts.changed + counts.gone
        if counts
        else abs((change.rows_after or 0) - (change.rows_before or 0))
    )
    return -rows, change.name


def _row(change: Change) -> dict[str, Any]:
    was, now, counts = change.columns_before, change.columns_after or {}, change.counts
    row: dict[str, Any] = {"table": change.name}
    if change.times:
        row |= {"rows_before": change.rows_before, "rows": change.rows_after}
    if counts and change.rows_before is not None:
        row |= {"new": counts.new, "changed": counts.changed, "gone": counts.gone}
    if was is not None:
        row["columns_added"] = _named(now.keys() - was.keys())
        row["columns_removed"] = _named(was.keys() - now.keys())
        row["types"] = {
            name: f"{was[name]} -> {now[name]}" for name in sorted(was.keys() & now.keys()) if was[name] != now[name]
        }
    row["checks"] = {
        name: f"{_check(of.before, of.rows_before)} -> {_check(of.after, of.rows_after)}"
        for name, of in change.checks.items()
    }
    return {key: value for key, value in without_nulls(row).items() if value != {}}


def _named(names: Iterable[str]) -> list[str]:
    ordered = sorted(names)
    more = [f"... {len(ordered) - _MAX_NAMES} more"] if len(ordered) > _MAX_NAMES else []
    return [*ordered[:_MAX_NAMES], *more]


def _check(status: str, rows: int | None) -> str:
    return status if rows is None else f"{status} ({rows})"


def _counted(name: str, of: Mapping[str, int]) -> str:
    return f"{name} {', '.join(f'{number} {kind}' for kind, number in of.items())}"


def _said(record: StepRecord | None) -> str:
    if record is None:
        return "not run"
    reasons = [f"{name}: {reason}" for name, reason in record.facts.failed.items()]
    why = f" ({clipped('; '.join(reasons), _MAX_REASON_TOKENS)})" if reasons else ""
    return f"{record.outcome}{why}"
