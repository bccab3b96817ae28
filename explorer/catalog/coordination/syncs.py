"""How does each tenant follow the schedules of its pipelines? What the operator chose for it, how far its turns were taken, when
its server was last looked at, and why it is held back. One row per tenant and pipeline; no row: all as the pipeline says.

Dagster's schedules take the turns (`explorer_dagster.turns.schedules`).
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, fields
from datetime import datetime
from typing import Any
from uuid import UUID
from zoneinfo import available_timezones

from sqlalchemy import RowMapping, func, select, update
from sqlalchemy.dialects.postgresql import insert

from explorer.catalog.audit.log import change, record
from explorer.catalog.storage.database import Database
from explorer.catalog.storage.tables import syncs
from explorer.catalog.tenants.tenant import Tenant
from explorer.core.errors import ExplorerError
from explorer.core.jsonb import storable
from explorer.registry import Pipeline, Schedule
from explorer.registry.models import is_cron
from explorer.registry.moments import next_turn

DAY_S = 86_400
# The first wait after a failure, and by what each further one grows, up to a day.
_FIRST_HOLD_S = 3600
_HOLD_GROWS = 4
# What the column holds.
_MOST_REQUESTS_PER_DAY = 2**31 - 1
_MOST_MINUTES = 525_600


# What can be chosen for a tenant, by the names that people use.
CHOICES = ("cron", "full_refresh_cron", "timezone", "stopped", "requests_per_day", "fresh_within_minutes")
# Those of which the pipeline's own holds again after a reset; what a server allows stays.
RESET = ("cron", "full_refresh_cron", "timezone", "fresh_within_minutes")


class ScheduleInvalid(ExplorerError):
    """What was chosen for a tenant's schedule cannot be followed."""

    code = "schedule_invalid"


def chosen_of(pipeline: Pipeline, given: Mapping[str, Any]) -> dict[str, Any]:
    """What `SyncStore.configure` takes, of values by the names in `CHOICES`.

    Raises:
        ScheduleInvalid
    """
    chosen = {"is_stopped" if name == "stopped" else name: value for name, value in given.items()}
    for name, has_one in (("cron", pipeline.schedule), ("full_refresh_cron", pipeline.full_refresh)):
        cron = chosen.get(name)
        if cron is not None and not has_one:
            raise ScheduleInvalid(
                f"Pipeline {pipeline.name} has no such schedule, so a tenant has none of its own.",
                next_step=f"Leave {name} out, or add the schedule to the pipeline's file.",
            )
        if cron is not None and not is_cron(cron):
            raise ScheduleInvalid(
                f"{cron[:80]!r} is no cron of five fields that ever comes.",
                next_step="Write minute, hour, day, month and weekday, for instance 0 */2 * * * for every two hours.",
            )
    if (zone := chosen.get("timezone")) is not None and zone not in available_timezones():
        raise ScheduleInvalid(
            f"There is no time zone {zone[:80]!r}.", next_step="Use a name such as UTC or Asia/Kolkata."
        )
    allowed = chosen.get("requests_per_day")
    if allowed is not None and not 1 <= allowed <= _MOST_REQUESTS_PER_DAY:
        raise ScheduleInvalid(
            f"No server allows {allowed} requests a day.",
            next_step=f"Give a number from 1 to {_MOST_REQUESTS_PER_DAY}.",
        )
    target = chosen.get("fresh_within_minutes")
    if target is not None and not 1 <= target <= _MOST_MINUTES:
        raise ScheduleInvalid(
            f"No tenant can be fresh within {target} minutes.", next_step=f"Give a number from 1 to {_MOST_MINUTES}."
        )
    return chosen


@dataclass(frozen=True)
class Sync:
    """A tenant and one of its pipelines.

    Chosen for it (None: as the pipeline's file says): `cron`, `full_refresh_cron`, `timezone`, `is_stopped`; and
    `requests_per_day`, what its server allows, where it is known; `fresh_within_minutes`, its target.
    `followed_at`, `full_refresh_followed_at`: up to when its turns
    were taken. `looked_at`: its server was last asked for news, by a look or a run. `failures`: in a row; `failure`: code and
    message of the last; `held_until`: no turn is taken before. `judged_at`: what began before says nothing against the tenant any
    more, since it was counted, or the hold was lifted. `ran_at`: when the last good run of everything began; `ran_with`: the
    version of the definitions that it used, empty if that is not known.
    """

    pipeline: str
    cron: str | None = None
    full_refresh_cron: str | None = None
    timezone: str | None = None
    is_stopped: bool = False
    requests_per_day: int | None = None
    fresh_within_minutes: int | None = None
    followed_at: datetime | None = None
    full_refresh_followed_at: datetime | None = None
    looked_at: datetime | None = None
    failures: int = 0
    failure: Mapping[str, str] | None = None
    held_until: datetime | None = None
    judged_at: datetime | None = None
    ran_at: datetime | None = None
    ran_with: str | None = None

    def schedule(self, of: Schedule | None, *, full_refresh: bool = False) -> Schedule | None:
        """What the tenant follows in the place of the pipeline's schedule `of`; None when it follows none."""
        if of is None or self.is_stopped:
            return None
        cron = self.full_refresh_cron if full_refresh else self.cron
        return of.model_copy(update={"cron": cron or of.cron, "timezone": self.timezone or of.timezone})

    def target_s(self, of: Schedule | None) -> int | None:
        """How many seconds ago the tenant's server may have been asked: its own target, or that of the pipeline's schedule."""
        minutes = self.fresh_within_minutes or (of.fresh_within_minutes if of is not None else None)
        return minutes * 60 if minutes is not None else None

    def next_turn(
        self, tenant: Tenant, of: Schedule | None, now: datetime, *, full_refresh: bool = False
    ) -> datetime | None:
        """When the tenant's turn comes next, as far as Dagster's schedule runs; None when it follows none. One that is held back
        has it at the end of that."""
        own = self.schedule(of, full_refresh=full_refresh)
        if own is not None and self.held_until is not None and self.held_until > now:
            return self.held_until if not full_refresh else next_turn(own, tenant.key, self.held_until)
        return next_turn(own, tenant.key, now) if own else None


def is_late(sync: Sync, of: Schedule | None, now: datetime) -> bool | None:
    """Whether the tenant's server was asked longer ago than its target says; None where it has none, or follows no schedule."""
    target_s = sync.target_s(of)
    if target_s is None or sync.is_stopped:
        return None
    return sync.looked_at is None or (now - sync.looked_at).total_seconds() > target_s


@dataclass(frozen=True)
class GoodRun:
    """A tenant's run of everything that ended well. `version`: of the definitions that it used, empty if that is not known."""

    tenant_id: UUID
    began_at: datetime
    ended_at: datetime
    version: str


class SyncStore:
    """The rows of all tenants."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def all(self, pipeline: str) -> dict[UUID, Sync]:
        """Of all tenants that have a row for this pipeline."""
        with self._database.single() as connection:
            rows = connection.execute(select(syncs).where(syncs.c.pipeline == pipeline)).mappings().all()
        return {row["tenant_id"]: sync_of(row) for row in rows}

    def looked_at(self) -> dict[UUID, datetime]:
        """When each tenant's server was last looked at, for the pipeline for which that is longest ago."""
        query = select(syncs.c.tenant_id, func.min(syncs.c.looked_at)).group_by(syncs.c.tenant_id)
        with self._database.single() as connection:
            rows: Sequence[Any] = connection.execute(query).all()
        return {id_: at for id_, at in rows if at is not None}

    def of(self, tenant: Tenant, pipeline: str) -> Sync:
        """One row; the default without one."""
        with self._database.single() as connection:
            row = connection.execute(_where(select(syncs), tenant, pipeline)).mappings().one_or_none()
        return sync_of(row) if row is not None else Sync(pipeline)

    def configure(self, tenant: Tenant, pipeline: str, chosen: Mapping[str, Any], *, actor: str) -> Sync:
        """Change what is chosen: fields of `Sync` up to `fresh_within_minutes`, by name. Audited. Turns that passed before the
        change are not caught up."""
        values = {name: storable(value) for name, value in chosen.items()}
        now = {"followed_at": func.now(), "full_refresh_followed_at": func.now()}
        with self._database.begin() as connection:
            row = (
                connection.execute(
                    insert(syncs)
                    .values(tenant_id=tenant.id, pipeline=pipeline, **values, **now)
                    .on_conflict_do_update(index_elements=[syncs.c.tenant_id, syncs.c.pipeline], set_={**values, **now})
                    .returning(syncs)
                )
                .mappings()
                .one()
            )
            record(connection, change("configure_pipeline", tenant.key, actor=actor, pipeline=pipeline, **values))
        return sync_of(row)

    def follow(self, pipeline: str, tenants: Collection[UUID], at: datetime, *, full_refresh: bool = False) -> None:
        """The turns of these tenants up to `at` are taken."""
        name = "full_refresh_followed_at" if full_refresh else "followed_at"
        self._set(pipeline, tenants, {name: at})

    def looked(self, pipeline: str, tenants: Collection[UUID]) -> None:
        """These tenants' servers answered a look now."""
        self._set(pipeline, tenants, {"looked_at": func.now()})

    def ran(self, pipeline: str, runs: Collection[GoodRun]) -> None:
        """These runs of everything ended well, one of each tenant. What held the tenants back is over, unless it came later."""
        if not runs:
            return
        # Sorted, so that two writers of the same rows do not wait for one another.
        rows = [
            {
                "tenant_id": run.tenant_id,
                "pipeline": pipeline,
                "looked_at": run.ended_at,
                "judged_at": run.ended_at,
                "ran_at": run.began_at,
                "ran_with": run.version,
            }
            for run in sorted(runs, key=lambda run: run.tenant_id)
        ]
        statement = insert(syncs).values(rows)
        new = statement.excluded
        changed = {
            "looked_at": func.greatest(syncs.c.looked_at, new.looked_at),
            "judged_at": new.judged_at,
            "ran_at": new.ran_at,
            "ran_with": new.ran_with,
            "failures": 0,
            "failure": None,
            "held_until": None,
        }
        with self._database.single() as connection:
            connection.execute(
                statement.on_conflict_do_update(
                    index_elements=[syncs.c.tenant_id, syncs.c.pipeline],
                    set_=changed,
                    where=syncs.c.judged_at.is_(None) | (syncs.c.judged_at < new.judged_at),
                )
            )

    def failed(
        self,
        tenant: Tenant,
        pipeline: str,
        code: str,
        message: str,
        *,
        is_final: bool,
        began_at: datetime,
        ended_at: datetime,
        full_refresh: bool = False,
    ) -> bool:
        """Hold the tenant back: an hour at the first failure in a row, four times as long at each further one, a day at most, and
        at once where another try is useless until somebody acts (`is_final`). The turn is not taken, and comes again then.

        Returns whether it counts: not what was counted before, nor what began before a new credential or an unblock.
        """
        failure = {"code": storable(code), "message": storable(message)[:500]}
        seconds = func.least(DAY_S, _FIRST_HOLD_S * func.power(_HOLD_GROWS, func.least(syncs.c.failures, 4)))
        hold = func.make_interval(0, 0, 0, 0, 0, 0, DAY_S if is_final else seconds)
        first = func.make_interval(0, 0, 0, 0, 0, 0, DAY_S if is_final else _FIRST_HOLD_S)
        with self._database.single() as connection:
            row = connection.execute(
                insert(syncs)
                .values(
                    tenant_id=tenant.id,
                    pipeline=pipeline,
                    failures=1,
                    failure=failure,
                    held_until=func.now() + first,
                    judged_at=ended_at,
                )
                .on_conflict_do_update(
                    index_elements=[syncs.c.tenant_id, syncs.c.pipeline],
                    set_={
                        "failures": syncs.c.failures + 1,
                        "failure": failure,
                        "held_until": func.now() + hold,
                        "judged_at": ended_at,
                        "full_refresh_followed_at" if full_refresh else "followed_at": None,
                    },
                    where=syncs.c.judged_at.is_(None) | (syncs.c.judged_at < began_at),
                )
                .returning(syncs.c.tenant_id)
            ).one_or_none()
        return row is not None

    def lift(self, tenant: Tenant) -> int:
        """Hold the tenant back no longer. Returns the number of its pipelines that were."""
        own = syncs.c.tenant_id == tenant.id
        with self._database.begin() as connection:
            held = connection.execute(
                update(syncs).where(own & (syncs.c.failures > 0)).values(failures=0, failure=None, held_until=None)
            ).rowcount
            # A run that is at work began with what was wrong.
            connection.execute(update(syncs).where(own).values(judged_at=func.now()))
        return held

    def _set(self, pipeline: str, tenants: Collection[UUID], values: dict[str, Any]) -> None:
        if not tenants:
            return
        # Sorted, so that two writers of the same rows do not wait for one another.
        rows = [{"tenant_id": id_, "pipeline": pipeline} for id_ in sorted(tenants)]
        statement = insert(syncs).values([{**row, **values} for row in rows])
        with self._database.single() as connection:
            connection.execute(
                statement.on_conflict_do_update(index_elements=[syncs.c.tenant_id, syncs.c.pipeline], set_=values)
            )


def _where(query: Any, tenant: Tenant, pipeline: str) -> Any:
    return query.where(syncs.c.tenant_id == tenant.id, syncs.c.pipeline == pipeline)


def sync_of(row: RowMapping) -> Sync:
    """From a row that has the columns of `catalog.syncs`."""
    return Sync(**{each.name: row[each.name] for each in fields(Sync)})
