"""How much may this caller still ask of this tenant? Read when a call comes, counted with its audit entry when it ends.

Calls in flight are counted here, so that within one bridge a budget of calls is exact. For most callers the standing comes with
the token, a moment before the call: those that ended since are counted here, too. What a call returns is known when it has
ended, so rows, bytes and seconds may be passed by the calls that are in flight.
"""

import math
import time
from collections import Counter, OrderedDict, deque
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from itertools import takewhile
from typing import Any
from uuid import UUID

from explorer.catalog import Amounts, Limits, PersonalDataPolicy, Spent, Standing, Tenant, Used, budget_key
from explorer.core.errors import ExplorerError
from explorer.core.settings import Settings
from mcp_bridge.answers.envelope import Answer, compact_json, iso
from mcp_bridge.clients.platform_database import PlatformDatabase
from mcp_bridge.gate.access import Caller

# A standing that came with the token longer ago is read again: a long body was waited for, or a session is older than its call.
_GOOD_S = 1.0
MEASURES = ("calls", "rows", "bytes", "seconds")


class BudgetExhausted(ExplorerError):
    """The caller has used up a budget for this window."""

    code = "budget_exhausted"


@dataclass
class Budget:
    """What holds for one call. `key`: of the windows that it counts for; None for the operator, who has no budget. `used`: rows
    and milliseconds that the tool reports, and bytes beside its answer; `before`: what the window had used when the call came."""

    limits: Limits
    key: str | None = None
    used: Amounts = field(default_factory=Amounts)
    before: Amounts = field(default_factory=Amounts)

    def ran(self, ms: int) -> None:
        """A statement of the call ran for so many milliseconds."""
        self.used += Amounts(ms=ms)

    def returned(self, rows: int) -> None:
        """The answer has so many rows."""
        self.used += Amounts(rows=rows)

    def sent(self, size_bytes: int) -> None:
        """The call sent so many bytes beside its answer."""
        self.used += Amounts(bytes=size_bytes)

    def left(self, window: Used) -> dict[str, int]:
        """What is left of each budget, and the seconds until all begin anew."""
        left = {
            name: max(0, limit - spent)
            for name, limit, spent in _pairs(self.limits, window.amounts)
            if limit is not None
        }
        return left | {"resets_in_s": math.ceil(window.left_s)} if left else {}


# The stricter, the later.
_POLICIES: tuple[PersonalDataPolicy, ...] = ("mark", "mask", "refuse")


def strictest(limits: Sequence[Limits]) -> Limits:
    """What holds for a query that reads several tenants. Tables are not in it: each tenant's are judged by its own limits."""
    rows = [each.max_rows_per_query for each in limits if each.max_rows_per_query is not None]
    seconds = [each.max_query_timeout_seconds for each in limits if each.max_query_timeout_seconds is not None]
    policies = [each.personal_data for each in limits if each.personal_data is not None]
    return Limits(
        max_rows_per_query=min(rows, default=None),
        max_query_timeout_seconds=min(seconds, default=None),
        personal_data=max(policies, key=_POLICIES.index, default=None),
    )


class TableRules:
    """Which tables of each tenant may be read, as the gate last read it: at the latest for the call that asks."""

    def __init__(self) -> None:
        self._limits: dict[UUID, tuple[float, Limits]] = {}

    def put(self, tenant: Tenant, limits: Limits, asked_s: float) -> None:
        """What held at that moment of the monotonic clock, for all principals alike. What was read later stays."""
        rules = Limits(allowed_tables=limits.allowed_tables, excluded_tables=limits.excluded_tables)
        if tenant.id not in self._limits or asked_s >= self._limits[tenant.id][0]:
            self._limits[tenant.id] = asked_s, rules

    def of(self, tenant: Tenant) -> Limits:
        """What held when the gate last asked for a call for this tenant."""
        return self._limits[tenant.id][1] if tenant.id in self._limits else Limits()


class Budgets:
    """The budgets of all callers. For use inside one event loop."""

    def __init__(self, platform: PlatformDatabase, settings: Settings, rules: TableRules) -> None:
        self._platform, self._rules = platform, rules
        self._window_s = settings.budget_window_s
        self._defaults = Limits(
            settings.budget_calls,
            settings.budget_rows,
            settings.budget_bytes,
            settings.budget_seconds,
            personal_data=settings.personal_data,
        )
        self._in_flight: Counter[str] = Counter()
        # When calls ended, by the monotonic clock and the key of their budget, while a standing is good.
        self._ended: OrderedDict[str, deque[float]] = OrderedDict()

    async def admit(self, caller: Caller, tenant: Tenant) -> Budget:
        """Let a call in; `leave` must follow.

        Raises:
            BudgetExhausted: says when to come again.
            CatalogUnavailable
        """
        principal = None if caller.grants is None else UUID(caller.identity)
        key = budget_key(principal, tenant.id) if principal else None
        # The standing is of one call: what the next one of the same token finds is newer.
        standing = caller.standings.pop(tenant.key, None)
        if standing is not None and standing.asked_s >= time.monotonic() - _GOOD_S:
            # A call that ended meanwhile may be counted twice: nobody is refused for that.
            with suppress(BudgetExhausted):
                return self._admitted(tenant, key, standing)
        standing = await (await self._platform.calls()).standing(tenant.id, principal, key or "")
        return self._admitted(tenant, key, standing)

    def _admitted(self, tenant: Tenant, key: str | None, standing: Standing) -> Budget:
        limits, used = standing.limits, standing.used
        self._rules.put(tenant, limits, standing.asked_s)
        budget = Budget(limits.over(self._defaults), key, before=used.amounts)
        if key is not None:
            amounts = used.amounts + Amounts(calls=self._in_flight[key] + self._ended_since(standing.asked_s, key))
            self._refuse_exhausted(tenant, budget.limits, amounts, used.left_s or float(self._window_s))
            self._in_flight[key] += 1
        return budget

    def _ended_since(self, asked_s: float, key: str) -> int:
        """How many calls have ended since. From the latest back: there are few, but hundreds in a second."""
        return sum(1 for _ in takewhile(lambda ended_s: ended_s >= asked_s, reversed(self._ended.get(key, ()))))

    def leave(self, budget: Budget) -> None:
        """The call has ended."""
        if budget.key is not None:
            now_s = time.monotonic()
            ended = self._ended.setdefault(budget.key, deque())
            ended.append(now_s)
            while ended[0] < now_s - _GOOD_S:
                ended.popleft()
            self._ended.move_to_end(budget.key)
            while next(iter(self._ended.values()))[-1] < now_s - _GOOD_S:
                self._ended.popitem(last=False)
            self._in_flight[budget.key] -= 1
            if self._in_flight[budget.key] <= 0:
                del self._in_flight[budget.key]

    def spent(self, budget: Budget, answer: Answer | None, used: Amounts | None = None) -> Spent | None:
        """What the call and its answer have used, to be written with its audit entry. `used`: where the call was counted
        elsewhere than in `budget`."""
        if budget.key is None:
            return None
        size = len(compact_json(answer.data).encode("utf-8", "surrogatepass")) if answer is not None else 0
        return Spent(budget.key, self._window_s, (used or budget.used) + Amounts(calls=1, bytes=size))

    def _refuse_exhausted(self, tenant: Tenant, limits: Limits, used: Amounts, left_s: float) -> None:
        for name, limit, spent in _pairs(limits, used):
            if limit is not None and spent >= limit:
                wait_s = math.ceil(left_s)
                again = datetime.now(UTC) + timedelta(seconds=wait_s)
                raise BudgetExhausted(
                    f"The budget for {tenant.key} is used up: {limit} {name} in {self._window_s} s.",
                    next_step=f"Call again in {wait_s} s, at {iso(again)}; an operator can raise it (`explorer limits set`).",
                    details={"exhausted": name, "limit": limit, "retry_after_s": wait_s, "resets_at": iso(again)},
                )


def _pairs(limits: Limits, used: Amounts) -> list[tuple[str, int | None, int]]:
    """Each measure with its limit (None: any number) and what is used."""
    spent = {"calls": used.calls, "rows": used.rows, "bytes": used.bytes, "seconds": used.ms // 1000}
    found: dict[str, Any] = {name: getattr(limits, name) for name in MEASURES}
    return [(name, found[name] or None, spent[name]) for name in MEASURES]
