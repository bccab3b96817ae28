"""In which state are each tenant's schemas, what are they called, and how does one log in to them?

Every change of state is a compare-and-swap: it names the expected state and fails when another process was faster.
`explorer.tenants` makes and drops the schemas.

    absent -> provisioning -> active <-> materializing
                    |            \\-> expired -> materializing, active
                    v
    every settled state -> teardown -> absent
"""

import json
from collections.abc import Callable, Collection, Set
from dataclasses import asdict, dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Any
from uuid import UUID

from sqlalchemy import Connection, Row, func, select, update

from explorer.catalog.errors import SchemaAbsent, SchemaStateConflict
from explorer.catalog.secrets.keyring import Keyring
from explorer.catalog.storage.database import Database
from explorer.catalog.storage.tables import schemas
from explorer.catalog.tenants.tenant import Tenant
from explorer.contract.bookkeeping.holdings import Holdings
from explorer.contract.schemas import TenantSchemas
from explorer.core.errors import UnknownTenant
from explorer.core.jsonb import storable

_MAX_ERROR_LENGTH = 2000


class State(StrEnum):
    """State of a tenant's schemas. `expired`: long unused, data still there; `teardown`: being dropped."""

    PROVISIONING = "provisioning"
    ACTIVE = "active"
    MATERIALIZING = "materializing"
    EXPIRED = "expired"
    TEARDOWN = "teardown"
    ABSENT = "absent"


TRANSITIONS: dict[State, frozenset[State]] = {
    State.PROVISIONING: frozenset({State.ACTIVE, State.TEARDOWN}),
    State.ACTIVE: frozenset({State.MATERIALIZING, State.EXPIRED, State.TEARDOWN}),
    # To itself: a new run takes over from one whose worker died.
    State.MATERIALIZING: frozenset({State.MATERIALIZING, State.ACTIVE}),
    State.EXPIRED: frozenset({State.MATERIALIZING, State.ACTIVE, State.TEARDOWN}),
    # To itself: a failed drop is repeated.
    State.TEARDOWN: frozenset({State.TEARDOWN, State.ABSENT}),
    State.ABSENT: frozenset({State.PROVISIONING}),
}
LIVE = frozenset({State.ACTIVE, State.MATERIALIZING, State.EXPIRED})


@dataclass(frozen=True)
class TenantLogin:
    """Name and password of one tenant role in database `explorer`."""

    user: str
    password: str = field(repr=False)


@dataclass(frozen=True)
class TenantSchema(TenantSchemas):
    """State and names of a tenant's schemas. In state `absent` the names are those of the last schemas, if there were any.

    `run_id`: the Dagster run that materializes, or was the last one; `last_error`: of the last transition, if it reported one.
    `expired_at`: when the schemas were dropped because nobody had asked them for long; the next run makes them again.
    """

    state: State
    state_changed_at: datetime
    last_error: str | None
    run_id: str | None
    expired_at: datetime | None = None

    @property
    def is_gone_for_now(self) -> bool:
        """Whether the next run makes them again."""
        return self.expired_at is not None and self.state in (State.TEARDOWN, State.ABSENT)


@dataclass(frozen=True)
class Passwords:
    """Passwords of a tenant's logins. `saved`: of the one that builds saved models; empty where the tenant has none."""

    rw: str = field(repr=False)
    ro: str = field(repr=False)
    saved: str = field(default="", repr=False)


class SchemaStore:
    """The schemas of every tenant."""

    def __init__(self, database: Database, keyring: Callable[[], Keyring]) -> None:
        self._database = database
        self._keyring = keyring

    def get(self, tenant: Tenant) -> TenantSchema:
        """State and names of the tenant's schemas."""
        with self._database.single() as connection:
            return _schema(_row(connection, tenant))

    def of(self, tenants: Collection[UUID]) -> dict[UUID, TenantSchema]:
        """State and names of the schemas of many tenants, by tenant id; unknown ids are left out."""
        with self._database.single() as connection:
            rows = connection.execute(select(schemas).where(schemas.c.tenant_id.in_(tenants))).all()
        return {row.tenant_id: _schema(row) for row in rows}

    def transition(
        self,
        tenant: Tenant,
        expected: Set[State],
        new: State,
        run_id: str | None = None,
        error: str | None = None,
        holdings: Holdings | None = None,
    ) -> TenantSchema:
        """Change the state to `new` if it is one of `expected`, in one step.

        With a `run_id`, leaving `materializing` succeeds only if that run still holds the state; without one it always does.
        `error` is stored as `last_error`, None clears it. `holdings`: what the schemas hold now; None: as they were known.

        Raises:
            SchemaStateConflict: another state, another run holds it, or a change that the state machine does not allow.
        """
        held: dict[str, Any] = {"holdings": holdings.as_object()} if holdings is not None else {}
        return self._swap(tenant, expected, new, run_id=run_id, error=error, **held)

    def start(self, tenant: Tenant, prefix: str, passwords: Passwords) -> TenantSchema:
        """absent -> provisioning, under a new `prefix`, so that nothing remembered about former schemas applies to the new
        ones."""
        sealed = self._seal(tenant.id, passwords)
        return self._swap(
            tenant,
            {State.ABSENT},
            State.PROVISIONING,
            prefix=prefix,
            passwords=sealed,
            keep_run_id=False,
            expired_at=None,
        )

    def expire(self, tenant: Tenant) -> TenantSchema:
        """active, expired -> teardown, for now. Raises: SchemaStateConflict."""
        idle = {State.ACTIVE, State.EXPIRED}
        return self._swap(tenant, idle, State.TEARDOWN, expired_at=func.clock_timestamp())

    def set_passwords(self, connection: Connection, tenant: Tenant, passwords: Passwords) -> None:
        """Store the new passwords of the tenant's logins."""
        connection.execute(
            update(schemas).where(schemas.c.tenant_id == tenant.id).values(passwords=self._seal(tenant.id, passwords))
        )

    def store(self, tenant: Tenant, passwords: Passwords) -> None:
        """`set_passwords` by itself."""
        with self._database.begin() as connection:
            self.set_passwords(connection, tenant, passwords)

    def passwords(self, tenant: Tenant) -> Passwords:
        """Passwords of the tenant's logins.

        Raises:
            SchemaAbsent, KeyringMismatch.
        """
        return self._prefix_and_passwords(tenant)[1]

    def rw_login(self, tenant: Tenant) -> TenantLogin:
        """The login for loads and dbt. Raises SchemaAbsent, KeyringMismatch."""
        prefix, passwords = self._prefix_and_passwords(tenant)
        return TenantLogin(TenantSchemas(prefix).rw, passwords.rw)

    def ro_login(self, tenant: Tenant) -> TenantLogin:
        """The login for agents' SQL. Raises SchemaAbsent, KeyringMismatch."""
        prefix, sealed = self._prefix_and_sealed(tenant)
        return reader_login(self._keyring(), tenant, prefix, sealed)

    def saved_login(self, tenant: Tenant) -> TenantLogin | None:
        """The login that builds saved models; None before the first one. Raises SchemaAbsent, KeyringMismatch."""
        prefix, passwords = self._prefix_and_passwords(tenant)
        return TenantLogin(TenantSchemas(prefix).saved, passwords.saved) if passwords.saved else None

    def _prefix_and_passwords(self, tenant: Tenant) -> tuple[str, Passwords]:
        prefix, sealed = self._prefix_and_sealed(tenant)
        return prefix, _opened(self._keyring(), tenant, sealed)

    def _prefix_and_sealed(self, tenant: Tenant) -> tuple[str, bytes | None]:
        with self._database.begin() as connection:
            row = _row(connection, tenant)
        return row.prefix, row.passwords

    def _swap(
        self,
        tenant: Tenant,
        expected: Set[State],
        new: State,
        *,
        run_id: str | None = None,
        error: str | None = None,
        keep_run_id: bool = True,
        **values: Any,
    ) -> TenantSchema:
        if new is State.MATERIALIZING and not run_id:
            raise SchemaStateConflict("A run must say which one it is.", next_step="Give the id of the Dagster run.")
        with self._database.begin() as connection:
            row = _row(connection, tenant, lock=True)
            _check_swap(tenant, row, expected, new, run_id)
            values |= {
                "state": new,
                "state_changed_at": func.clock_timestamp(),
                "last_error": storable(error)[:_MAX_ERROR_LENGTH] if error else None,
                "run_id": run_id or (row.run_id if keep_run_id else None),
            }
            if new is State.ABSENT:
                values |= {"passwords": None, "holdings": None}
            changed = connection.execute(
                update(schemas).where(schemas.c.tenant_id == tenant.id).values(values).returning(schemas)
            ).one()
        return _schema(changed)

    def _seal(self, tenant_id: UUID, passwords: Passwords) -> bytes:
        return self._keyring().encrypt(password_purpose(tenant_id), json.dumps(asdict(passwords)).encode())


def _check_swap(tenant: Tenant, row: Row[Any], expected: Set[State], new: State, run_id: str | None) -> None:
    state = State(row.state)
    if state in expected and new in TRANSITIONS[state]:
        mine = state is not State.MATERIALIZING or new is State.MATERIALIZING or run_id in (None, row.run_id)
        if mine:
            return
        reason = f"are being materialized by run {row.run_id}, not {run_id}"
    elif state in expected:
        reason = f"cannot go from {state} to {new}"
    else:
        reason = f"are in state {state}, not {' or '.join(sorted(expected))}"
    raise SchemaStateConflict(
        f"The schemas of {tenant.key} {reason}.",
        next_step="Look at the tenant's schema status; if a run is at work, wait for it or cancel it, then try again.",
        details={"state": str(state), "run_id": row.run_id},
    )


def _row(connection: Connection, tenant: Tenant, *, lock: bool = False) -> Row[Any]:
    query = select(schemas).where(schemas.c.tenant_id == tenant.id)
    row = connection.execute(query.with_for_update() if lock else query).one_or_none()
    if row is None:
        raise UnknownTenant("There is no such tenant.", next_step="List the tenants you can use.")
    return row


def _schema(row: Row[Any]) -> TenantSchema:
    return TenantSchema(row.prefix, State(row.state), row.state_changed_at, row.last_error, row.run_id, row.expired_at)


def reader_login(keyring: Keyring, tenant: Tenant, prefix: str, sealed: bytes | None) -> TenantLogin:
    """The login for agents' SQL, from the tenant's encrypted passwords. Raises SchemaAbsent, KeyringMismatch."""
    return TenantLogin(TenantSchemas(prefix).ro, _opened(keyring, tenant, sealed).ro)


def _opened(keyring: Keyring, tenant: Tenant, sealed: bytes | None) -> Passwords:
    if sealed is None:
        raise SchemaAbsent(
            f"Tenant {tenant.key} has no schemas at present.",
            next_step="Sync the tenant: where they were dropped because nobody asked them, that makes them again. Otherwise "
            "provision them first with the tool `provision_schema`.",
        )
    return Passwords(**json.loads(keyring.decrypt(password_purpose(tenant.id), sealed)))


def password_purpose(tenant_id: UUID) -> str:
    """The keyring's purpose for these passwords."""
    return f"password:{tenant_id}"
