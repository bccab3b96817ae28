"""How much may a tenant load in a day? Runs, requests to its server, rows and bytes of the answers, by whatever door they came.

Two windows of `coordination.budgets` for each tenant, of a day from their first use on: one of runs, which the run queue counts,
one of what they load, which the loaders count while they work.
"""

import math
from collections.abc import Collection, Mapping
from dataclasses import asdict, dataclass, fields
from datetime import UTC, datetime, timedelta
from typing import Self
from uuid import UUID

from sqlalchemy import RowMapping, func, select
from sqlalchemy.dialects.postgresql import insert

from explorer.catalog.audit.log import change, record
from explorer.catalog.coordination.budgets import Amounts, Spent, UsageStore, Used
from explorer.catalog.errors import LimitInvalid
from explorer.catalog.storage.database import Database
from explorer.catalog.storage.tables import quotas, usage
from explorer.catalog.tenants.tenant import Tenant
from explorer.core.errors import ExplorerError
from explorer.core.settings import Settings

DAY_S = 86_400


class QuotaExhausted(ExplorerError):
    """A tenant has used up what it may load in a day."""

    code = "quota_exhausted"


@dataclass(frozen=True)
class Quota:
    """What a tenant may use in a day; 0: any number, None: as the settings say."""

    runs: int | None = None
    requests: int | None = None
    rows: int | None = None
    bytes: int | None = None

    @classmethod
    def of_settings(cls, settings: Settings) -> Self:
        """What holds for tenants without one of their own."""
        return cls(settings.quota_runs, settings.quota_requests, settings.quota_rows, settings.quota_bytes)

    def over(self, general: "Quota") -> "Quota":
        """These values, and where there is none the general one."""
        return Quota(**{name: value if value is not None else getattr(general, name) for name, value in self._all()})

    def given(self) -> dict[str, int]:
        """The values that are set, by name."""
        return {name: value for name, value in self._all() if value is not None}

    def _all(self) -> list[tuple[str, int | None]]:
        return list(asdict(self).items())


MEASURES = tuple(field.name for field in fields(Quota))


@dataclass(frozen=True)
class QuotaUse:
    """What a tenant may use in a day, and what it has used: by measure, each with the seconds until its window ends."""

    quota: Quota
    used: Mapping[str, int]
    left_s: Mapping[str, float]

    @property
    def exhausted(self) -> str | None:
        """The measure of which nothing is left; of several, the one that begins anew last."""
        limits = self.quota.given()
        empty = [name for name, limit in limits.items() if limit and self.used[name] >= limit]
        return max(empty, key=lambda name: self.left_s[name], default=None)

    @property
    def again_at(self) -> datetime | None:
        """When the tenant may load again, if it may not now."""
        name = self.exhausted
        return datetime.now(UTC) + timedelta(seconds=math.ceil(self.left_s[name])) if name is not None else None

    def refuse(self, key: str) -> QuotaExhausted | None:
        """The error of a tenant of this key that has nothing left."""
        name = self.exhausted
        return refusal(key, name, self.quota.given()[name], self.left_s[name]) if name is not None else None


@dataclass(frozen=True)
class LoadAllowance:
    """What the requests of a tenant are counted by. `key`: of the usage; `requests`, `bytes`: 0 or None for any number."""

    tenant: str
    key: str
    requests: int | None
    bytes: int | None

    def refuse(self, used: Used) -> QuotaExhausted | None:
        """The error of a request that was counted, if it is one too many."""
        if self.requests and used.amounts.calls > self.requests:
            return refusal(self.tenant, "requests", self.requests, used.left_s)
        if self.bytes and used.amounts.bytes >= self.bytes:
            return refusal(self.tenant, "bytes", self.bytes, used.left_s)
        return None


class QuotaStore:
    """The quotas of all tenants. `general`: what holds for those without one of their own."""

    def __init__(self, database: Database, general: Quota) -> None:
        self._database, self._general = database, general
        self._usage = UsageStore(database)

    def set(self, tenant: Tenant, values: Mapping[str, int | None], *, actor: str) -> Quota:
        """Set these values, by the names of `Quota`'s fields; None: as the settings say; others stay. Audited. Returns what is
        the tenant's own now.

        Raises:
            LimitInvalid
        """
        for name, value in values.items():
            if name not in MEASURES or (value is not None and not 0 <= value < 2**62):
                raise LimitInvalid(f"{name} cannot be {value!r}.", next_step="Give a number from 0 on; 0: any number.")
        if not values:
            raise LimitInvalid("No quota is given.", next_step=f"Give one of: {', '.join(MEASURES)}.")
        statement = insert(quotas).values(tenant_id=tenant.id, **values)
        with self._database.begin() as connection:
            row = connection.execute(
                statement.on_conflict_do_update(index_elements=[quotas.c.tenant_id], set_=dict(values)).returning(
                    quotas
                )
            )
            own = _quota(row.mappings().one())
            record(connection, change("set_quota", tenant.key, actor=actor, values=dict(values)))
        return own

    def use(self, tenants: Collection[UUID]) -> dict[UUID, QuotaUse]:
        """What each of these tenants may use and has used."""
        with self._database.single() as connection:
            own = {
                row["tenant_id"]: _quota(row)
                for row in connection.execute(select(quotas).where(quotas.c.tenant_id.in_(tenants))).mappings()
            }
            keys = [key for id_ in tenants for key in (_runs_key(id_), _loads_key(id_))]
            left = func.extract("epoch", usage.c.ends_at - func.now())
            found = connection.execute(
                select(usage.c.key, usage.c.calls, usage.c.rows, usage.c.bytes, usage.c.ms, left.label("left_s")).where(
                    usage.c.key.in_(keys), usage.c.window_s == DAY_S, usage.c.ends_at > func.now()
                )
            ).mappings()
            windows = {row["key"]: Used.from_object(dict(row)) for row in found}
        return {
            id_: _use(
                own.get(id_, Quota()).over(self._general),
                windows.get(_runs_key(id_), Used()),
                windows.get(_loads_key(id_), Used()),
            )
            for id_ in tenants
        }

    def exhausted(self, tenants: Collection[UUID]) -> dict[UUID, QuotaUse]:
        """Those of these tenants that may not load now."""
        return {id_: use for id_, use in self.use(tenants).items() if use.exhausted is not None} if tenants else {}

    def require(self, tenant: Tenant) -> None:
        """Check that the tenant may load now. Nothing is counted.

        Raises:
            QuotaExhausted: says when it may again.
        """
        if (error := self.use([tenant.id])[tenant.id].refuse(tenant.key)) is not None:
            raise error

    def take_run(self, tenant: Tenant) -> None:
        """Count a run of the tenant. Of several at the same moment none passes the quota.

        Raises:
            QuotaExhausted: it was not counted.
        """
        use = self.use([tenant.id])[tenant.id]
        if (error := use.refuse(tenant.key)) is not None:
            raise error
        key, limit = _runs_key(tenant.id), use.quota.runs
        used = self._usage.spend([Spent(key, DAY_S, Amounts(calls=1))])[key, DAY_S]
        if limit and used.amounts.calls > limit:
            self._usage.spend([Spent(key, DAY_S, Amounts(calls=-1))])
            raise refusal(tenant.key, "runs", limit, used.left_s)

    def allowance(self, tenant: Tenant) -> LoadAllowance:
        """What the tenant's requests are counted by, and how many it may send."""
        quota = self.use([tenant.id])[tenant.id].quota
        return LoadAllowance(tenant.key, _loads_key(tenant.id), quota.requests, quota.bytes)

    def loaded(self, tenant: Tenant, rows: int) -> None:
        """Count rows that were loaded."""
        if rows:
            self._usage.spend([Spent(_loads_key(tenant.id), DAY_S, Amounts(rows=rows))])

    def forget(self, tenant: Tenant) -> None:
        """Open the tenant's windows anew."""
        for key in (_runs_key(tenant.id), _loads_key(tenant.id)):
            self._usage.forget(key)


def refusal(key: str, measure: str, limit: int, left_s: float) -> QuotaExhausted:
    """The error of a tenant that has used up this measure for `left_s` seconds more."""
    wait_s = math.ceil(left_s)
    again = (datetime.now(UTC) + timedelta(seconds=wait_s)).replace(microsecond=0)
    return QuotaExhausted(
        f"The quota of {key} is used up: {limit} {measure} in a day.",
        next_step=f"Come again in {wait_s} s, at {again:%Y-%m-%d %H:%M:%S} UTC; an operator can raise it "
        f"(`explorer tenants quota {key}`). What is loaded stays, and is served.",
        details={"exhausted": measure, "limit": limit, "retry_after_s": wait_s, "resets_at": again.isoformat()},
    )


def _use(quota: Quota, runs: Used, loads: Used) -> QuotaUse:
    amounts = loads.amounts
    used = {"runs": runs.amounts.calls, "requests": amounts.calls, "rows": amounts.rows, "bytes": amounts.bytes}
    return QuotaUse(quota, used, {name: runs.left_s if name == "runs" else loads.left_s for name in used})


def _quota(row: RowMapping) -> Quota:
    return Quota(**{name: row[name] for name in MEASURES})


def _runs_key(tenant_id: UUID) -> str:
    return f"runs:{tenant_id}"


def _loads_key(tenant_id: UUID) -> str:
    return f"loads:{tenant_id}"
