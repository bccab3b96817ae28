"""A plan in words: how many rows a statement gives and reads, what that costs, and what makes it expensive.

Names in it are those of the statement and of the tables that it reads. What else a plan tells (conditions, indexes, tables behind
views) is left out.
"""

from collections.abc import Collection, Iterator, Sequence
from typing import Any

from mcp_bridge.sql.execution.plan import Plan, Step
from mcp_bridge.sql.joins import Entry, Unjoined
from mcp_bridge.sql.validation import ValidatedQuery

# What is done in a second, in the planner's unit of cost: measured, decisions/0097.
COST_OF_A_SECOND = 250_000
# From so many pairs or rows on something is worth a word.
_MANY = 1_000_000
_MANY_ROWS = 10_000
_MAX_STEPS, _MAX_READS, _MAX_LABELS = 8, 12, 3
_HOW = {"Seq Scan": "all rows", "Sample Scan": "a sample", "Tid Scan": "some rows"}
_JOINS = {"Hash Join": "by hash", "Merge Join": "in order", "Nested Loop": "row by row"}


def explained(plan: Plan, query: ValidatedQuery, gaps: Sequence[Unjoined], timeout_s: float) -> dict[str, Any]:
    """The plan for an answer. `gaps`: what no condition connects; `timeout_s`: how long the statement may run."""
    names = _Names(query)
    return {
        "estimated_rows": plan.root.rows,
        "estimated_cost": round(plan.cost),
        "in_words": f"Gives about {_number(plan.root.rows)} rows; {_duration(plan.cost, timeout_s)}.",
        "reads": list(_reads(plan.root, names))[:_MAX_READS],
        "steps": list(_steps(plan.root, names))[:_MAX_STEPS],
        "hints": hints(query, gaps, plan),
    }


def hints(query: ValidatedQuery, gaps: Sequence[Unjoined], plan: Plan | None = None) -> list[str]:
    """What makes a statement expensive: by its text, and with a plan also by that."""
    if plan is None:
        return [_gap(each, {}) for each in gaps]
    rows = {str(step.facts["Alias"]): step.rows for step in plan.root.all() if "Alias" in step.facts}
    found = [*(_gap(each, rows) for each in gaps), *_slow_joins(plan.root, _Names(query))]
    many = ["So many rows are many pages: aggregate, filter, or export them."] if plan.root.rows >= _MANY_ROWS else []
    return found + many


def _gap(gap: Unjoined, rows: dict[str, int]) -> str:
    named = f"{_listed(gap.left)} and {_listed(gap.right)}"
    sizes = [rows.get(side[0].label) for side in (gap.left, gap.right) if len(side) == 1]
    pairs = ""
    if len(sizes) == 2 and sizes[0] is not None and sizes[1] is not None:
        pairs = f" (about {_number(sizes[0])} x {_number(sizes[1])} = {_number(sizes[0] * sizes[1])})"
    return (
        f"There is no condition between {named}: each row of one is joined with each row of the other{pairs}. "
        "Say in ON or WHERE how they belong together; get_metadata names the joins."
    )


def _listed(entries: Sequence[Entry]) -> str:
    shown = " with ".join(str(entry) for entry in entries[:_MAX_LABELS])
    return f"{shown} and others" if len(entries) > _MAX_LABELS else shown


class _Names:
    """What the caller knows by name: the tables that the statement reads."""

    def __init__(self, query: ValidatedQuery) -> None:
        self._tables: Collection[str] = query.tables

    def of(self, step: Step) -> str | None:
        """The step's table, or what else gives its rows; None for steps that only work on the rows of others."""
        if "Relation Name" in step.facts:
            name = str(step.facts["Relation Name"])
            return name if name in self._tables else "a table behind a view"
        return {"CTE Scan": "a WITH query", "Function Scan": "a function", "Values Scan": "a list of values"}.get(
            step.kind
        )

    def below(self, step: Step) -> str:
        """The tables below a step."""
        found = list(dict.fromkeys(name for each in step.all() if (name := self.of(each)) is not None))
        more = " and others" if len(found) > _MAX_LABELS else ""
        return (" with ".join(found[:_MAX_LABELS]) or "rows of no table") + more


def _reads(root: Step, names: _Names) -> Iterator[dict[str, Any]]:
    for step in root.all():
        if "Relation Name" in step.facts:
            yield {"table": names.of(step), "rows": step.rows, "how": _HOW.get(step.kind, "by an index")}


def _steps(root: Step, names: _Names) -> Iterator[str]:
    """Joins, sorts and groups in the order in which they are done, as far as trees have one."""
    for step in reversed(list(root.all())):
        if step.kind in _JOINS and len(step.parts) > 1:
            sides = " and ".join(names.below(part) for part in step.parts[:2])
            yield f"joins {sides} {_JOINS[step.kind]}: about {_number(step.rows)} rows"
        elif step.kind in ("Sort", "Incremental Sort") and step.rows >= _MANY_ROWS:
            yield f"sorts about {_number(step.rows)} rows"
        elif step.kind in ("Aggregate", "Group", "Unique", "WindowAgg") and step.parts:
            yield f"takes about {_number(step.parts[0].rows)} rows together: about {_number(step.rows)}"


def _slow_joins(root: Step, names: _Names) -> Iterator[str]:
    for step in root.all():
        if step.kind == "Nested Loop" and "Join Filter" in step.facts and len(step.parts) > 1:
            first, second = step.parts[:2]
            if first.rows * second.rows >= _MANY:
                yield (
                    f"Each of about {_number(first.rows)} rows of {names.below(first)} is compared with each of about "
                    f"{_number(second.rows)} of {names.below(second)}: join by plain equality (a.x = b.x), without OR, LIKE or <."
                )


def _duration(cost: float, timeout_s: float) -> str:
    """The order of magnitude of the time that a cost means."""
    seconds = cost / COST_OF_A_SECOND
    if seconds > 4 * timeout_s:
        return f"if the planner's estimate is right, far more than the {timeout_s:g} s after which it is stopped"
    if seconds > timeout_s / 4:
        return f"by the planner's estimate it may need the {timeout_s:g} s after which it is stopped, or more"
    if seconds > 1:
        return "by the planner's estimate a matter of seconds"
    return "by the planner's estimate a matter of " + ("tenths of a second" if seconds > 0.1 else "milliseconds")


def _number(count: int) -> str:
    """A count with two digits that mean something: it is an estimate."""
    digits = max(0, len(str(count)) - 2)
    return f"{round(count, -digits):,}" if count >= 100 else str(count)
