"""What is asked of the provisioning job, and what became of it? One open request per tenant, or workspace.

Making and dropping schemas and logins needs the administrator's login, which only the job's worker has. Whoever wants it done
writes a row and starts the job; the row tells the worker what to do, and the caller how it ended.
"""

from collections.abc import Callable, Mapping, Set
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any
from uuid import UUID, uuid4

from sqlalchemy import Connection, Row, delete, func, select, text, update
from sqlalchemy.dialects.postgresql import insert

from explorer.catalog.audit.log import done_for
from explorer.catalog.errors import CredentialMissing
from explorer.catalog.secrets.credentials import Credential, dump_credential, parse_credential
from explorer.catalog.secrets.keyring import Keyring
from explorer.catalog.storage.database import Database
from explorer.catalog.storage.tables import provisioning
from explorer.catalog.tenants.tenant import Tenant
from explorer.core.jsonb import storable

# How long an ended request is kept; the audit trail keeps it longer.
RETENTION_DAYS = 30
# The entry in the audit trail for a tenant that a person has registered; quotas count it.
TENANT_REGISTERED = "tenant_registered"
# How a tenant that a person registers follows the schedules of its pipelines, by what they choose: fields of `Sync`.
FOLLOWS: Mapping[str, Mapping[str, Any]] = {"usual": {}, "daily": {"cron": "0 2 * * *"}, "none": {"is_stopped": True}}


class ProvisioningKind(StrEnum):
    """What can be asked for: schemas for a tenant, none any more, a tenant that is not there yet, or what saved models need; or
    that the rights of a workspace's login follow its members."""

    PROVISION = "provision"
    TEARDOWN = "teardown"
    REGISTER = "register"
    SAVED_MODELS = "saved_models"
    WORKSPACE = "workspace"


class ProvisioningState(StrEnum):
    """How far a request is."""

    ASKED = "asked"
    WORKING = "working"
    DONE = "done"
    FAILED = "failed"


@dataclass(frozen=True)
class ProvisioningRequest:
    """One request. `tenant_key`: for a workspace its id; `place`: of a tenant to be registered, `{provider, server, external_id,
    follows}`, the last a key of `FOLLOWS`, `usual` where it is missing; `actor`: who asked, as in the audit trail; `run_id`:
    of the Dagster run that does it, once there is one; `failure`: `{code, message, next_step}` of one that failed."""

    id: UUID
    kind: ProvisioningKind
    tenant_key: str
    place: Mapping[str, str] | None
    actor: str
    state: ProvisioningState
    run_id: str | None
    failure: Mapping[str, Any] | None
    asked_at: datetime

    @property
    def has_ended(self) -> bool:
        return self.state in (ProvisioningState.DONE, ProvisioningState.FAILED)


class ProvisioningStore:
    """The requests of all tenants."""

    def __init__(self, database: Database, keyring: Callable[[], Keyring]) -> None:
        self._database, self._keyring = database, keyring

    def ask(self, kind: ProvisioningKind, tenant: Tenant, actor: str) -> ProvisioningRequest:
        """Ask for something; while the tenant has an open request, that one is returned, whatever its kind."""
        return self._ask(tenant.key, {"id": uuid4(), "kind": kind, "actor": storable(actor)})

    def ask_for_workspace(self, workspace: UUID, actor: str) -> ProvisioningRequest:
        """Ask that the login of a workspace gets the rights that it may have now; or the open request that does."""
        kind = ProvisioningKind.WORKSPACE
        return self._ask(str(workspace), {"id": uuid4(), "kind": kind, "actor": storable(actor)})

    def ask_to_register(
        self,
        key: str,
        place: Mapping[str, str],
        credential: Credential,
        actor: str,
        allow: Callable[[Set[str]], object] = lambda keys: None,
    ) -> ProvisioningRequest | None:
        """Ask for a tenant `key` of `place`. The credential is kept encrypted until the request has ended; while there is an open
        request for the key, that one is returned, whoever asked for what.

        `allow` refuses by an error. It is called with what `registered_by` returns, which will not grow before it has answered:
        None when the actor asks for another one at this moment.
        """
        id_ = uuid4()
        secret = self._keyring().encrypt(provisioning_purpose(id_), dump_credential(credential))
        kind = ProvisioningKind.REGISTER
        values = {"id": id_, "kind": kind, "actor": storable(actor), "place": storable(dict(place)), "secret": secret}
        with self._database.begin() as connection:
            # Nobody waits for it, holding a connection that who has it may need.
            lock = func.pg_try_advisory_xact_lock(func.hashtextextended(f"registering:{actor}", 0))
            if not connection.scalar(select(lock)):
                return None
            allow(_registered_by(connection, actor, key))
            return self._asked(connection, key, values)

    def credential(self, request: ProvisioningRequest) -> Credential:
        """The credential of an open request to register. Raises: CredentialMissing, KeyringMismatch."""
        with self._database.single() as connection:
            secret = connection.scalar(select(provisioning.c.secret).where(provisioning.c.id == request.id))
        if secret is None:
            raise CredentialMissing("The request has no credential any more.", next_step="Ask again.")
        return parse_credential(self._keyring().decrypt(provisioning_purpose(request.id), secret))

    def registered_by(self, actor: str, key: str) -> set[str]:
        """The keys of the tenants that this actor has registered, also of those that were removed, and of the others than `key`
        that they have asked for in requests that are open."""
        with self._database.single() as connection:
            return _registered_by(connection, actor, key)

    def _ask(self, key: str, values: Mapping[str, Any]) -> ProvisioningRequest:
        with self._database.begin() as connection:
            return self._asked(connection, key, values)

    def _asked(self, connection: Connection, key: str, values: Mapping[str, Any]) -> ProvisioningRequest:
        table = provisioning
        age = text("make_interval(days => :retention_days)").bindparams(retention_days=RETENTION_DAYS)
        connection.execute(delete(table).where(table.c.ended_at < func.clock_timestamp() - age))
        row = connection.execute(
            insert(table)
            .values(tenant_key=storable(key), **values)
            # Changes nothing: so the open one is returned.
            .on_conflict_do_update(
                index_elements=[table.c.tenant_key],
                index_where=table.c.ended_at.is_(None),
                set_={"run_id": table.c.run_id},
            )
            .returning(table)
        ).one()
        return _request(row)

    def open(self, tenant: Tenant) -> ProvisioningRequest | None:
        """The tenant's open request."""
        table = provisioning
        with self._database.single() as connection:
            row = connection.execute(
                select(table).where(table.c.tenant_key == tenant.key, table.c.ended_at.is_(None))
            ).first()
        return _request(row) if row is not None else None

    def get(self, id_: UUID) -> ProvisioningRequest | None:
        """The request with this id; None when it is unknown or was long ago."""
        with self._database.single() as connection:
            row = connection.execute(select(provisioning).where(provisioning.c.id == id_)).first()
        return _request(row) if row is not None else None

    def launched(self, id_: UUID, run_id: str) -> None:
        """Record the run that was launched for an open request."""
        with self._database.single() as connection:
            connection.execute(
                update(provisioning)
                .where(provisioning.c.id == id_, provisioning.c.ended_at.is_(None))
                .values(run_id=run_id)
            )

    def begin(self, id_: UUID, run_id: str) -> ProvisioningRequest | None:
        """Take the request up, in this run, also from a worker that died; None when it has ended or is unknown."""
        with self._database.single() as connection:
            row = connection.execute(
                update(provisioning)
                .where(provisioning.c.id == id_, provisioning.c.ended_at.is_(None))
                .values(state=ProvisioningState.WORKING, run_id=run_id)
                .returning(provisioning)
            ).first()
        return _request(row) if row is not None else None

    def end(self, id_: UUID, failure: Mapping[str, Any] | None) -> None:
        """The request has ended; `failure` says why it failed."""
        state = ProvisioningState.DONE if failure is None else ProvisioningState.FAILED
        with self._database.single() as connection:
            connection.execute(
                update(provisioning)
                .where(provisioning.c.id == id_, provisioning.c.ended_at.is_(None))
                .values(state=state, failure=storable(failure), secret=None, ended_at=func.clock_timestamp())
            )


def provisioning_purpose(id_: UUID) -> str:
    """The keyring's purpose for the credential in a request."""
    return f"provisioning:{id_}"


def _registered_by(connection: Connection, actor: str, key: str) -> set[str]:
    table = provisioning
    mine = (table.c.actor == storable(actor), table.c.kind == ProvisioningKind.REGISTER, table.c.ended_at.is_(None))
    asked: set[str] = set(
        connection.scalars(select(table.c.tenant_key).where(*mine, table.c.tenant_key != storable(key)))
    )
    # Read last: the entry is written before the request ends, so a tenant may be in both, but not in neither.
    return done_for(connection, actor, TENANT_REGISTERED) | asked


def _request(row: Row[Any]) -> ProvisioningRequest:
    return ProvisioningRequest(
        row.id, ProvisioningKind(row.kind), row.tenant_key, row.place, row.actor, ProvisioningState(row.state), row.run_id,
        row.failure, row.asked_at,
    )  # fmt: skip
