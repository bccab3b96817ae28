"""Limits the work of checking one statement, and the estimated cost of one row of it. Counters of one validation."""

from mcp_bridge.sql.validation import costs
from mcp_bridge.sql.validation.names import Value
from mcp_bridge.sql.validation.rules import Rules

_MAX_STEPS = 60_000


class Budget:
    """`spend` counts the work of one row of the statement; `step` and `columns` count the work of the check itself."""

    def __init__(self, rules: Rules) -> None:
        self._rules = rules
        self._work = 0.0
        self._steps = 0

    def spend(self, work: float) -> None:
        """Add units of `costs`. Raises `QueryRejected` (`too_costly`)."""
        self._work += work
        if self._work > costs.MAX_WORK:
            self._rules.too_costly()

    def step(self, count: int = 1) -> None:
        """Count steps of the check. Raises `QueryRejected` (`too_complex`)."""
        self._steps += count
        if self._steps > _MAX_STEPS:
            self._rules.too_complex()

    def columns(self, columns: list[tuple[str, Value]], most: int) -> list[tuple[str, Value]]:
        """The columns. Raises `QueryRejected` if there are more than `most`: nested stars multiply columns."""
        self.step(len(columns) // 4)
        if len(columns) > most:
            self._rules.too_complex()
        return columns
