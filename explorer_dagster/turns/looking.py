"""Which tenants have news? Their servers are asked, many at a time, before anything is launched.

A tenant costs two requests at most, and never more in a day than a tenth of what its server is known to allow. Where another try
is useless until somebody acts, the tenant is held back, with the reason. What a single impatient try cannot tell, a run decides.
"""

import logging
import threading
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import closing, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Literal
from uuid import UUID

from explorer.catalog import Amounts, QuotaExhausted, Spent, State, Sync, Tenant, TenantSchema
from explorer.catalog.coordination.request_slots import RequestSlots
from explorer.catalog.coordination.syncs import DAY_S
from explorer.catalog.lifecycle.schemas import LIVE
from explorer.core.errors import ExplorerError, TransientError
from explorer.core.settings import Settings
from explorer.http.client import ApiClient
from explorer.http.errors import ApiError, CredentialsInvalid, CutOff, TenantUnknown, Throttled
from explorer.http.limiter import RateLimiter
from explorer.load import LoadTarget
from explorer.load.errors import LoadFailed
from explorer.load.look import MOST_REQUESTS, look
from explorer.providers.base import Provider
from explorer.registry import Pipeline
from explorer_dagster.resources import Platform

AT_A_TIME = 8
# Dagster waits a minute for an evaluation. After so long no look begins, and one that has begun is ended some seconds later,
# whatever it waits for; who was not asked by then is asked at the next tick.
TIME_S = 35.0
_MORE_S = 10.0
_END_S = 1.0
_PATIENCE_S = 8.0
# Of what a server allows in a day, looks take one part in so many.
_SHARE = 10

_log = logging.getLogger(__name__)

# `late`: it could not be told now; the turn is not lost. `spent`: the day's looks are. `failed`: the tenant is held back now.
Outcome = Literal["news", "nothing", "late", "spent", "failed", "absent"]


@dataclass(frozen=True)
class Found:
    """What became of one tenant's look. `words`: for the log of the tick."""

    outcome: Outcome
    words: str


_LATE = Found("late", "asked at the next tick")


def is_final(code: object) -> bool:
    """Whether another try is useless until somebody acts, by the error's code."""
    return any(kind.is_code(code) for kind in (CredentialsInvalid, CutOff, TenantUnknown))


class Looker:
    """Looks at the tenants of one pipeline. For one evaluation. `version`: of the definitions that a run would use."""

    def __init__(self, platform: Platform, pipeline: Pipeline, provider: Provider, version: str) -> None:
        self._platform, self._pipeline, self._provider, self._version = platform, pipeline, provider, version
        self._settings = _impatient(platform.settings)
        self._ends_at = time.monotonic() + TIME_S
        self._is_over = threading.Event()
        self._lock = threading.Lock()
        self._open: set[ApiClient] = set()

    def at(self, tenants: Sequence[Tenant], syncs: Mapping[UUID, Sync]) -> dict[str, Found]:
        """Look at all of them; by their keys. Looks without news are recorded, in the catalog too."""
        pool = ThreadPoolExecutor(AT_A_TIME, "look")
        try:
            looks = {tenant.key: pool.submit(self._one, tenant, syncs.get(tenant.id)) for tenant in tenants}
            if wait(looks.values(), TIME_S + _MORE_S).not_done:
                self._end_open()
                wait(looks.values(), _END_S)
            found = {key: each.result() if each.done() else _LATE for key, each in looks.items()}
        finally:
            # One that hangs in the database ends there some time; its result is not used.
            pool.shutdown(wait=False, cancel_futures=True)
        unchanged = [tenant.id for tenant in tenants if found[tenant.key].outcome == "nothing"]
        self._platform.catalog.syncs.looked(self._pipeline.name, unchanged)
        return found

    def _one(self, tenant: Tenant, sync: Sync | None) -> Found:
        if time.monotonic() > self._ends_at:
            return _LATE
        try:
            return self._told(tenant, sync or Sync(self._pipeline.name))
        except Exception:
            # What nobody foresaw at one tenant must not keep the others from their turns.
            _log.exception("The look at %s failed.", tenant.key)
            return Found("late", "its look failed; see the log of the code server")

    def _told(self, tenant: Tenant, sync: Sync) -> Found:
        """What the look found, or what its failure means."""
        began_at = datetime.now(UTC)
        try:
            return self._asked(tenant, sync)
        except Throttled as error:
            return Found("late", error.message)
        except ApiError as error:
            if is_final(error.code):
                self._platform.catalog.syncs.failed(
                    tenant, self._pipeline.name, error.code, error.message,
                    is_final=True, began_at=began_at, ended_at=datetime.now(UTC),
                )  # fmt: skip
                return Found("failed", f"{error.message} [{error.code}]")
            # A run has all its tries, and waits longer for an answer.
            return _LATE if self._is_over.is_set() else Found("news", f"a run decides: {error.message}")
        except (TransientError, LoadFailed, QuotaExhausted) as error:
            # Our own database, or the quota of the day: nothing is said about the tenant.
            return Found("late", error.message)
        except ExplorerError as error:
            return Found("news", f"a run decides: {error.message}")

    def _asked(self, tenant: Tenant, sync: Sync) -> Found:
        catalog = self._platform.catalog
        schema = catalog.schemas.get(tenant)
        if schema.state not in LIVE:
            return Found("absent", f"its schemas are {schema.state.value}")
        login = self._platform.connections.service
        allowance = catalog.quotas.allowance(tenant)
        with closing(RequestSlots(login, tenant.server, tenant.external_id, allowance)) as slots:
            if (paused_s := slots.paused_s()) > 0:
                return Found("late", f"its server asked for no requests for {paused_s:.0f} s more")
            if (why := self._needs_a_run(schema.state, sync)) is not None:
                return Found("news", why)
            return self._seen(tenant, schema, sync, slots)

    def _needs_a_run(self, state: State, sync: Sync) -> str | None:
        """Why nothing needs to be asked."""
        if sync.failures:
            return "its last run failed"
        if state != State.ACTIVE:
            # No run of the pipeline is at work: a worker was lost, or the tenant was long unused.
            return f"its schemas are {state.value}"
        if sync.ran_with is not None and sync.ran_with != self._version:
            return "its pipeline or its models were changed since its last run"
        return None

    def _seen(self, tenant: Tenant, schema: TenantSchema, sync: Sync, slots: RequestSlots) -> Found:
        login = self._platform.catalog.schemas.rw_login(tenant)
        target = LoadTarget(schema, self._platform.connections.tenant(login.user, login.password))
        with self._client(tenant, slots) as client:
            seen = look(
                target, client, self._pipeline, self._provider.styles,
                trusted_s=self._settings.look_trusted_hours * 3600,
                tried_s=(datetime.now(UTC) - sync.ran_at).total_seconds() if sync.ran_at else None,
                may_ask=lambda: self._may_ask(tenant, sync),
            )  # fmt: skip
        return Found("spent" if seen.answer == "unaffordable" else seen.answer, seen.why)

    @contextmanager
    def _client(self, tenant: Tenant, slots: RequestSlots) -> Iterator[ApiClient]:
        """A client that paces itself and pauses as all of the tenant's do, and that ends with the evaluation."""
        credentials = self._platform.catalog.credentials
        with self._provider.open_client(
            tenant.server,
            tenant.external_id,
            credentials.load(tenant),
            settings=self._settings,
            refresh=lambda stale, renew: credentials.refresh(tenant, stale, renew),
            limiter=RateLimiter(
                self._settings.requests_per_second, slots, lifted_by=f"explorer tenants unblock {tenant.key}"
            ),
        ) as client:
            with self._lock:
                self._open.add(client)
            try:
                if self._is_over.is_set():
                    client.stop()
                yield client
            finally:
                with self._lock:
                    self._open.discard(client)

    def _end_open(self) -> None:
        self._is_over.set()
        with self._lock:
            clients = list(self._open)
        for client in clients:
            client.stop()

    def _may_ask(self, tenant: Tenant, sync: Sync) -> bool:
        """Count the look, where it is known how many requests the server allows in a day."""
        allowed = sync.requests_per_day
        if allowed is None:
            return True
        usage, key = self._platform.catalog.usage, f"look:{tenant.id}"
        if usage.used(key, DAY_S).amounts.calls + MOST_REQUESTS > allowed // _SHARE:
            return False
        usage.spend([Spent(key, DAY_S, Amounts(calls=MOST_REQUESTS))])
        return True


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
