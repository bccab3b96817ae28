"""How would the database run a statement? Its planner's answer, read under the login and limits that the statement has."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import msgspec

from explorer.postgres.pipelined import pipelined
from mcp_bridge.sql.errors import QueryFailed
from mcp_bridge.sql.execution.reading import Reading


@dataclass(frozen=True)
class Step:
    """One step of a plan, as PostgreSQL's EXPLAIN describes it. `parts`: the steps that give it its rows."""

    facts: Mapping[str, Any]
    parts: tuple["Step", ...]

    @property
    def kind(self) -> str:
        return str(self.facts["Node Type"])

    @property
    def rows(self) -> int:
        """Estimated rows that it gives each time."""
        return int(self.facts["Plan Rows"])

    def all(self) -> Iterator["Step"]:
        """This step and all below it, this one first."""
        waiting = [self]
        while waiting:
            step = waiting.pop()
            yield step
            waiting += reversed(step.parts)


@dataclass(frozen=True)
class Plan:
    """`cost`: PostgreSQL's estimate of the whole, in its own unit (reading a page of 8 kB in a row is 1)."""

    root: Step

    @property
    def cost(self) -> float:
        return float(self.root.facts["Total Cost"])


class PlanReader(Reading[Plan]):
    """Reads the plan of a statement. Nothing of the statement is run but what the planner computes, such as constants."""

    async def _read(self) -> Plan:
        # The text is parsed alone first: so it is one statement, whole by itself, and positions in errors are the caller's.
        explain = b"EXPLAIN (FORMAT JSON) " + self._text.encode()
        *_, found = await pipelined(self._connection, [*self._declaring(), explain])
        try:
            [told] = msgspec.json.decode(found.get_value(0, 0) or b"", type=list[dict[str, Any]])
        except RecursionError:
            raise QueryFailed(
                "too_expensive", "The plan of the statement is nested too deeply.", next_step="Nest fewer queries."
            ) from None
        return Plan(_step(told["Plan"]))


def _step(facts: dict[str, Any]) -> Step:
    parts = tuple(_step(part) for part in facts.pop("Plans", ()))
    return Step(facts, parts)
