"""Who may launch a tenant's next run, and which run belongs to an idempotency key? Rows in the catalog, shared by all bridges.

A tenant has one launch in progress at a time. Its row is held for some seconds; then any process may take it over and finish
what a dead holder began. Dagster knows which runs exist. A run carries its launch's id as a tag, so that a process that takes
over finds the run.
"""

from dataclasses import dataclass
from datetime import timedelta
from uuid import UUID, uuid4

from sqlalchemy import ColumnElement, Connection, delete, func, or_, select, text, update
from sqlalchemy.dialects.postgresql import insert as insert_or_leave

from explorer.catalog.storage.database import Database
from explorer.catalog.storage.tables import launches
from explorer.catalog.tenants.tenant import Tenant
from explorer.core.jsonb import storable

# How long a key is remembered; afterwards the row of a launch is useless.
RETENTION_DAYS = 30
# Nobody holds a launch for so long: one that seems to was held under a clock that has been set back since.
_LONGEST_HOLD = timedelta(minutes=5)
_LAUNCHING, _LAUNCHED = "launching", "launched"


@dataclass(frozen=True)
class Claim:
    """The right to launch for one tenant. `id`: of the launch, a tag of its run; `taken_over`: another process began the launch
    and its time ran out, so that a run with this id may exist."""

    id: UUID
    tenant_id: UUID
    holder: UUID
    taken_over: bool


class LaunchStore:
    """The launches of all tenants."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def claim(self, tenant: Tenant, actor: str, pipeline: str | None, key: str | None, hold_s: float) -> Claim | None:
        """Claim the tenant's next launch for `hold_s` seconds; None while another process holds it.

        `pipeline` None: nothing will be launched, and no other process may launch meanwhile.
        """
        holder = uuid4()
        until = func.clock_timestamp() + text("make_interval(secs => :hold_s)").bindparams(hold_s=hold_s)
        mine = {"pipeline": pipeline, "idempotency_key": _key(key), "actor": storable(actor), "holder": holder}
        with self._database.begin() as connection:
            self._forget_old(connection, tenant)
            made = connection.execute(
                insert_or_leave(launches)
                .values(id=uuid4(), tenant_id=tenant.id, state=_LAUNCHING, held_until=until, **mine)
                .on_conflict_do_nothing()
                .returning(launches.c.id)
            ).first()
            if made is not None:
                return Claim(made.id, tenant.id, holder, taken_over=False)
            taken = connection.execute(
                update(launches)
                .where(
                    launches.c.tenant_id == tenant.id,
                    launches.c.state == _LAUNCHING,
                    or_(
                        launches.c.held_until < func.clock_timestamp(),
                        launches.c.held_until > func.clock_timestamp() + _LONGEST_HOLD,
                    ),
                )
                .values(holder=holder, held_until=until)
                .returning(launches.c.id)
            ).first()
            return Claim(taken.id, tenant.id, holder, taken_over=True) if taken is not None else None

    def use(self, claim: Claim, actor: str, pipeline: str | None, key: str | None, hold_s: float) -> bool:
        """Hold the launch for `hold_s` more seconds, with this pipeline and key; False when another process took it over."""
        until = func.clock_timestamp() + text("make_interval(secs => :hold_s)").bindparams(hold_s=hold_s)
        with self._database.single() as connection:
            changed = connection.execute(
                update(launches)
                .where(*_held(claim))
                .values(pipeline=pipeline, idempotency_key=_key(key), actor=storable(actor), held_until=until)
            )
            return changed.rowcount == 1

    def launched(self, claim: Claim, run_id: str, key: str | None) -> None:
        """Record that the launch's run is `run_id`, which belongs to `key` from now on. If another process took the launch over,
        the new holder records that instead."""
        with self._database.begin() as connection:
            if connection.execute(select(launches.c.id).where(*_held(claim)).with_for_update()).first() is None:
                return
            # The key's earlier run failed or was cancelled: the key belongs to this run now.
            connection.execute(
                delete(launches).where(
                    launches.c.tenant_id == claim.tenant_id,
                    launches.c.state == _LAUNCHED,
                    launches.c.idempotency_key == _key(key),
                )
            )
            connection.execute(
                update(launches).where(*_held(claim)).values(state=_LAUNCHED, run_id=run_id, idempotency_key=_key(key))
            )

    def release(self, claim: Claim) -> None:
        """End the launch: nothing was launched, or its run is recorded."""
        with self._database.single() as connection:
            connection.execute(delete(launches).where(*_held(claim)))

    def leave(self, claim: Claim) -> None:
        """Give up the hold without knowing whether a run was launched: the next process finds out at once."""
        with self._database.single() as connection:
            connection.execute(update(launches).where(*_held(claim)).values(held_until=func.clock_timestamp()))

    def run_of(self, tenant: Tenant, key: str) -> str | None:
        """The run that belongs to `key`."""
        with self._database.single() as connection:
            found = connection.execute(
                select(launches.c.run_id).where(
                    launches.c.tenant_id == tenant.id,
                    launches.c.state == _LAUNCHED,
                    launches.c.idempotency_key == _key(key),
                )
            ).scalar_one_or_none()
        return str(found) if found is not None else None

    def forget(self, tenant: Tenant) -> None:
        """Delete the tenant's keys: the data of their runs is gone."""
        with self._database.single() as connection:
            connection.execute(delete(launches).where(launches.c.tenant_id == tenant.id, launches.c.state == _LAUNCHED))

    def _forget_old(self, connection: Connection, tenant: Tenant) -> None:
        age = text("make_interval(days => :retention_days)").bindparams(retention_days=RETENTION_DAYS)
        connection.execute(
            delete(launches).where(
                launches.c.tenant_id == tenant.id,
                launches.c.state == _LAUNCHED,
                launches.c.created_at < func.clock_timestamp() - age,
            )
        )


def _held(claim: Claim) -> tuple[ColumnElement[bool], ...]:
    """Condition: the claim's row, while no other process holds it."""
    return launches.c.id == claim.id, launches.c.holder == claim.holder, launches.c.state == _LAUNCHING


def _key(key: str | None) -> str | None:
    return storable(key) if key is not None else None
