"""How are a tenant's rows made, changed and removed together? The catalog's half of adding and removing tenants.

`explorer.tenants` makes roles and schemas, and orders both halves. A tenant being added has status `provisioning`: nobody sees
it. If the next holder of `exclusive` finds one, the process that was adding it has died.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from uuid import uuid4

from sqlalchemy import delete, func, insert, or_, select, text, update
from sqlalchemy.exc import IntegrityError

from explorer.catalog.audit.log import change, record
from explorer.catalog.errors import ExternalIdTaken, TenantExists, TenantKeyRetired
from explorer.catalog.lifecycle.schemas import Passwords, SchemaStore, State
from explorer.catalog.secrets.credentials import Credential, CredentialStore
from explorer.catalog.storage.database import Database, constraint_name
from explorer.catalog.storage.tables import credentials, grants, schemas, syncs, tenants, workspace_members
from explorer.catalog.tenants.tenant import Tenant, TenantStatus
from explorer.core.jsonb import storable

_WAIT_S = 120


@dataclass(frozen=True)
class Place:
    """What the operator registers, canonical by the provider's rules. Two places with the same provider, server and
    `external_id_key` are one tenant; `noun`: the provider's word for a tenant."""

    key: str
    provider: str
    server: str
    external_id: str
    external_id_key: str
    noun: str


class Registration:
    """Makes, completes, undoes and removes the rows of tenants."""

    def __init__(self, database: Database, credential_store: CredentialStore, schema_store: SchemaStore) -> None:
        self._database = database
        self._credentials = credential_store
        self._schemas = schema_store

    @contextmanager
    def exclusive(self) -> Iterator[None]:
        """One process at a time adds, removes, provisions or tears down. A dead process loses its turn.

        Raises:
            CatalogUnavailable: another process has held it for two minutes.
        """
        with self._database.begin(lock_timeout_s=_WAIT_S) as connection:
            connection.execute(
                text("SELECT pg_advisory_xact_lock(hashtextextended('explorer.catalog.lifecycle.registration', 0))")
            )
            yield

    def check_free(self, place: Place) -> Tenant | None:
        """The removed tenant that would be revived by adding `place`, if there is one.

        Raises:
            TenantExists, ExternalIdTaken, TenantKeyRetired.
        """
        same_key = func.lower(tenants.c.key) == place.key.lower()
        same_place = (
            (tenants.c.provider == place.provider)
            & (tenants.c.server == place.server)
            & (tenants.c.external_id_key == place.external_id_key)
        )
        with self._database.begin() as connection:
            rows = connection.execute(
                select(tenants, same_key.label("same_key"), same_place.label("same_place")).where(
                    or_(same_key, same_place & (tenants.c.status != TenantStatus.REMOVED)),
                    tenants.c.status != TenantStatus.PROVISIONING,
                )
            ).all()
        for row in rows:
            if row.same_key and row.status == TenantStatus.ACTIVE:
                raise _exists(row.key)
            if not row.same_key:
                raise _taken(place.noun, row.key)
        removed = next(iter(rows), None)
        if removed is not None and (not removed.same_place or removed.key != place.key):
            raise TenantKeyRetired(
                f"The key {removed.key} belonged to {removed.external_id} on {removed.server}; its history still carries it.",
                next_step="Choose another key.",
            )
        return Tenant.from_row(removed) if removed is not None else None

    def begin(self, place: Place, prefix: str) -> Tenant:
        """Make a new tenant's rows: status `provisioning`, schemas `absent`.

        Raises:
            TenantExists, ExternalIdTaken: another process was faster.
        """
        try:
            with self._database.begin() as connection:
                row = connection.execute(
                    insert(tenants)
                    .values(
                        id=uuid4(),
                        key=place.key,
                        provider=place.provider,
                        server=place.server,
                        external_id=place.external_id,
                        external_id_key=place.external_id_key,
                        display_name=place.external_id,
                        status=TenantStatus.PROVISIONING,
                    )
                    .returning(tenants)
                ).one()
                connection.execute(insert(schemas).values(tenant_id=row.id, prefix=prefix, state=State.ABSENT))
        except IntegrityError as error:
            if constraint_name(error) == "tenants_key":
                raise _exists(place.key) from None
            if constraint_name(error) == "tenants_external_id":
                raise _taken(place.noun, "another one") from None
            raise
        return Tenant.from_row(row)

    def complete(
        self, place: Place, tenant: Tenant, credential: Credential, passwords: Passwords, display_name: str
    ) -> Tenant:
        """Activate the tenant of `place` with this credential; its schemas exist and have these passwords.

        Raises:
            ExternalIdTaken: the same place was registered under another key meanwhile.
        """
        try:
            with self._database.begin() as connection:
                row = connection.execute(
                    update(tenants)
                    .where(tenants.c.id == tenant.id)
                    .values(
                        status=TenantStatus.ACTIVE,
                        removed_at=None,
                        display_name=storable(display_name) or tenant.external_id,
                    )
                    .returning(tenants)
                ).one()
                self._credentials.put(connection, tenant.id, credential)
                # Of a tenant that was removed and comes back: turns and failures of then mean nothing now.
                connection.execute(delete(syncs).where(syncs.c.tenant_id == tenant.id))
                self._schemas.set_passwords(connection, tenant, passwords)
                connection.execute(
                    update(schemas)
                    .where(schemas.c.tenant_id == tenant.id, schemas.c.state == State.PROVISIONING)
                    .values(state=State.ACTIVE, state_changed_at=func.clock_timestamp())
                )
                facts = {"provider": place.provider, "server": place.server, "external_id": place.external_id}
                record(connection, change("add_tenant", tenant.key, credential=credential.kind, **facts))
        except IntegrityError as error:
            if constraint_name(error) != "tenants_external_id":
                raise
            raise _taken(place.noun, "another one") from None
        return Tenant.from_row(row)

    def unfinished(self) -> list[Tenant]:
        """Tenants in status `provisioning`. Call it inside `exclusive`."""
        with self._database.begin() as connection:
            rows = connection.execute(select(tenants).where(tenants.c.status == TenantStatus.PROVISIONING)).all()
        return [Tenant.from_row(row) for row in rows]

    def abandon(self, tenant: Tenant) -> None:
        """Delete the rows of a tenant that never became active."""
        with self._database.begin() as connection:
            connection.execute(
                delete(tenants).where(tenants.c.id == tenant.id, tenants.c.status == TenantStatus.PROVISIONING)
            )

    def mark_removed(self, tenant: Tenant) -> None:
        """Hide the tenant; all its data and records stay."""
        with self._database.begin() as connection:
            changed = connection.execute(
                update(tenants)
                .where(tenants.c.id == tenant.id, tenants.c.status == TenantStatus.ACTIVE)
                .values(status=TenantStatus.REMOVED, removed_at=func.now())
            )
            if changed.rowcount:
                record(connection, change("remove_tenant", tenant.key))

    def forget(self, tenant: Tenant) -> None:
        """Delete the tenant's credential, all grants on it and its place in workspaces."""
        with self._database.begin() as connection:
            connection.execute(delete(credentials).where(credentials.c.tenant_id == tenant.id))
            connection.execute(delete(grants).where(grants.c.tenant_id == tenant.id))
            connection.execute(delete(workspace_members).where(workspace_members.c.tenant_id == tenant.id))
            record(connection, change("purge_tenant", tenant.key))


def _exists(key: str) -> TenantExists:
    return TenantExists(
        f"There is a tenant {key} already.", next_step="Choose another key, or remove that tenant first."
    )


def _taken(noun: str, key: str) -> ExternalIdTaken:
    return ExternalIdTaken(
        f"This {noun} is registered already, under the key {key}.",
        next_step="Use that tenant, or remove it first.",
        details={"key": key},
    )
