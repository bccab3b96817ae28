"""Which tenants have news? Their servers are asked, many at a time, before anything is launched.

A tenant costs two requests at most, and never more in a day than a tenth of what its server is known to allow. A server that
refuses is not asked again at the next tick: the tenant is held back, with the reason.
"""

import time
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass
from typing import Literal
from uuid import UUID

from explorer.catalog import Amounts, Spent, State, Sync, Tenant
from explorer.catalog.coordination.request_slots import RequestSlots
from explorer.catalog.coordination.syncs import DAY_S
from explorer.core.errors import ExplorerError
from explorer.core.settings import Settings
from explorer.http.errors import CredentialsInvalid, CutOff, TenantUnknown, Throttled
from explorer.load import LoadTarget
from explorer.load.look import MOST_REQUESTS, look
from explorer.providers.base import Provider
from explorer.registry import Pipeline
from explorer_dagster.resources import Platform

AT_A_TIME = 8
# Dagster waits a minute for an evaluation. Who was not asked by then is asked at the next tick; a look that has begun may take
# twice the patience, a server's longest silence.
TIME_S = 35.0
_PATIENCE_S = 8.0
# Of what a server allows in a day, looks take one part in so many.
_SHARE = 10

# `late`: the time was up. `spent`: the day's looks are. `failed`: the tenant is held back from now on.
Outcome = Literal["news", "nothing", "late", "spent", "failed", "absent"]


@dataclass(frozen=True)
class Found:
    """What became of one tenant's look. `words`: for the log of the tick."""

    outcome: Outcome
    words: str


def is_final(code: object) -> bool:
    """Whether another try is useless until somebody acts, by the error's code."""
    return any(kind.is_code(code) for kind in (CredentialsInvalid, CutOff, TenantUnknown))


class Looker:
    """Looks at the tenants of one pipeline. For one evaluation."""

    def __init__(self, platform: Platform, pipeline: Pipeline, provider: Provider) -> None:
        self._platform, self._pipeline, self._provider = platform, pipeline, provider
        self._settings = _impatient(platform.settings)
        self._ends_at = time.monotonic() + TIME_S

    def at(self, tenants: Sequence[Tenant], syncs: Mapping[UUID, Sync]) -> dict[str, Found]:
        """Look at all of them; by their keys. Looks without news are recorded, in the catalog too."""
        with ThreadPoolExecutor(AT_A_TIME, "look") as pool:
            found = dict(
                zip(
                    (tenant.key for tenant in tenants),
                    pool.map(lambda tenant: self._one(tenant, syncs.get(tenant.id)), tenants),
                    strict=True,
                )
            )
        unchanged = [tenant.id for tenant in tenants if found[tenant.key].outcome == "nothing"]
        self._platform.catalog.syncs.looked(self._pipeline.name, unchanged)
        return found

    def _one(self, tenant: Tenant, sync: Sync | None) -> Found:
        if time.monotonic() > self._ends_at:
            return Found("late", "asked at the next tick")
        try:
            return self._asked(tenant, sync)
        except Throttled as error:
            self._pause(tenant, error)
            return Found("spent", error.message)
        except ExplorerError as error:
            # A run would fail too.
            return self._held(tenant, error)

    def _asked(self, tenant: Tenant, sync: Sync | None) -> Found:
        catalog = self._platform.catalog
        schema = catalog.schemas.get(tenant)
        if schema.state not in (State.ACTIVE, State.MATERIALIZING, State.EXPIRED):
            return Found("absent", f"its schemas are {schema.state.value}")
        if not self._may_ask(tenant, sync):
            return Found("spent", "a tenth of the requests that its server allows in a day was spent on looks")
        login = catalog.schemas.rw_login(tenant)
        target = LoadTarget(schema, self._platform.connections.tenant(login.user, login.password))
        with self._provider.open_client(
            tenant.server,
            tenant.external_id,
            catalog.credentials.load(tenant),
            settings=self._settings,
            refresh=lambda stale, renew: catalog.credentials.refresh(tenant, stale, renew),
        ) as client:
            seen = look(
                target, client, self._pipeline, self._provider.styles,
                trusted_s=self._settings.look_trusted_hours * 3600,
            )  # fmt: skip
        return Found("news" if seen.has_news else "nothing", seen.why)

    def _may_ask(self, tenant: Tenant, sync: Sync | None) -> bool:
        """Count the look, where it is known how many requests the server allows in a day."""
        allowed = sync.requests_per_day if sync else None
        if allowed is None:
            return True
        usage, key = self._platform.catalog.usage, f"look:{tenant.id}"
        if usage.used(key, DAY_S).amounts.calls + MOST_REQUESTS > allowed // _SHARE:
            return False
        usage.spend([Spent(key, DAY_S, Amounts(calls=MOST_REQUESTS))])
        return True

    def _pause(self, tenant: Tenant, error: Throttled) -> None:
        """All who ask this server wait, runs too."""
        login = self._platform.connections.service
        with closing(RequestSlots(login, tenant.server, tenant.external_id)) as slots:
            slots.pause(error.retry_after_s or 60.0)

    def _held(self, tenant: Tenant, error: ExplorerError) -> Found:
        self._platform.catalog.syncs.failed(
            tenant, self._pipeline.name, error.code, error.message, is_final=is_final(error.code)
        )
        return Found("failed", f"{error.message} [{error.code}]")


def summary(found: Iterable[Found]) -> str:
    """How many tenants had which outcome, for the tick."""
    words: dict[Outcome, str] = {
        "news": "have news", "nothing": "have none", "late": "are asked at the next tick", "failed": "failed",
        "spent": "may not be asked now", "absent": "have no schemas",
    }  # fmt: skip
    outcomes = [each.outcome for each in found]
    counts = [f"{outcomes.count(outcome)} {said}" for outcome, said in words.items() if outcome in outcomes]
    return f"Looked at {len(outcomes)} tenants: {', '.join(counts)}." if outcomes else "No tenant's turn has come."


def _impatient(settings: Settings) -> Settings:
    """One try, and no waiting: the next tick tries again."""
    return settings.model_copy(
        update={
            "http_max_attempts": 1,
            "http_max_retry_after_s": 0.0,
            "http_timeout_s": min(settings.http_timeout_s, _PATIENCE_S),
        }
    )
