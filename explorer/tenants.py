"""How are tenants added and removed, and their schemas made and dropped? Keeps catalog and database consistent.

A failed step is undone, and the next call clears away what a killed process left: catalog rows record a step before the database
is touched. The callers manage Dagster's partitions.
"""

import logging
import secrets
import shutil
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import replace
from datetime import UTC, datetime

import psycopg

from explorer.catalog.audit.log import AuditEntry
from explorer.catalog.catalog import Catalog
from explorer.catalog.errors import CredentialInvalid, CredentialMissing, KeyringMismatch, SchemaStateConflict
from explorer.catalog.lifecycle.registration import Place
from explorer.catalog.lifecycle.schemas import LIVE, Passwords, State, TenantSchema
from explorer.catalog.secrets.credentials import Credential, OAuthCredential, check_credential
from explorer.catalog.tenants.names import check_key
from explorer.catalog.tenants.tenant import Tenant
from explorer.core.errors import ExplorerError
from explorer.core.settings import Settings
from explorer.personal_data import policy_of
from explorer.postgres.connections import Connections
from explorer.postgres.provisioning import deprovision, new_prefix, provision, provision_saved
from explorer.postgres.run_lock import TenantBusy, run_lock
from explorer.providers.base import Access, Provider
from explorer.workspaces import align_with

# Temporary files of loader and dbt, one folder per prefix under HOME.
WORK_DIRS = ("dlt", "dbt")
_PASSWORD_BYTES = 24
# Who drops schemas that nobody asks, in the audit trail and for whoever finds the lock taken.
EXPIRY = "expiry"

log = logging.getLogger(__name__)


def add_tenant(
    settings: Settings,
    catalog: Catalog,
    connections: Connections,
    provider: Provider,
    *,
    key: str,
    server: str,
    external_id: str,
    credential: Credential,
) -> Tenant:
    """Register a provider's tenant under `key`, with its own logins and schemas. A removed tenant comes back with its data.

    The provider first checks that the credential works. When a later step fails, everything is undone.

    Raises:
        TenantKeyInvalid, ServerInvalid, ExternalIdInvalid, CredentialInvalid, TenantExists, ExternalIdTaken, TenantKeyRetired,
        and what the provider's check of access and the database raise.
    """
    place = _place(provider, key, server, external_id)
    _check_kind(provider, credential)
    check_credential(place.server, credential)
    catalog.registration.check_free(place)
    access, credential = _verified(settings, provider, place, credential)
    with catalog.registration.exclusive():
        _clear_unfinished(settings, catalog, connections)
        removed = catalog.registration.check_free(place)
        tenant = removed or catalog.registration.begin(place, new_prefix())
        with _undone_on_failure(settings, catalog, connections, tenant):
            passwords = _make_schemas(settings, catalog, connections, tenant)
            added = catalog.registration.complete(place, tenant, credential, passwords, access.title)
        align_with(catalog, connections, added)
        return added


def remove_tenant(settings: Settings, catalog: Catalog, connections: Connections, key: str, *, purge: bool) -> Tenant:
    """Hide a tenant from everybody; with `purge` also drop its logins, schemas, data, credential and all grants on it.

    Discovered versions and the audit log stay in both cases. A tenant removed earlier can still be purged.

    Raises:
        UnknownTenant: there is no such tenant, or it was removed already and `purge` is not set.
        SchemaStateConflict: a run is using it, and `purge` is set; nothing was changed.
    """
    with catalog.registration.exclusive():
        tenant = catalog.tenants.get(key, include_removed=purge)
        if purge:
            _refuse_while_materializing(catalog, tenant)
        catalog.registration.mark_removed(tenant)
        if purge:
            _drop_schemas(settings, catalog, connections, tenant)
            catalog.registration.forget(tenant)
        else:
            align_with(catalog, connections, tenant)
    return catalog.tenants.get(key, include_removed=True)


def provision_schema(settings: Settings, catalog: Catalog, connections: Connections, tenant: Tenant) -> TenantSchema:
    """Give the tenant new, empty schemas if it has none; existing schemas are not changed.

    Raises:
        UnknownTenant: the tenant was removed.
    """
    with catalog.registration.exclusive():
        catalog.tenants.get(tenant.key)
        schema = catalog.schemas.get(tenant)
        if schema.state in LIVE:
            return schema
        with _undone_on_failure(settings, catalog, connections, tenant):
            _make_schemas(settings, catalog, connections, tenant)
            schema = catalog.schemas.transition(tenant, {State.PROVISIONING}, State.ACTIVE)
        align_with(catalog, connections, tenant)
        return schema


def provision_saved_models(
    settings: Settings, catalog: Catalog, connections: Connections, tenant: Tenant
) -> TenantSchema:
    """Give the tenant the login and the schema of saved models, unless it has them.

    Raises:
        SchemaAbsent: it has no schemas at all.
        UnknownTenant: the tenant was removed.
    """
    with catalog.registration.exclusive():
        catalog.tenants.get(tenant.key)
        schema, passwords = catalog.schemas.get(tenant), catalog.schemas.passwords(tenant)
        if not passwords.saved:
            passwords = replace(passwords, saved=secrets.token_urlsafe(_PASSWORD_BYTES))
            with _admin(connections) as admin:
                provision_saved(admin, schema.prefix, passwords.saved)
            catalog.schemas.store(tenant, passwords)
        return schema


def teardown_schema(settings: Settings, catalog: Catalog, connections: Connections, tenant: Tenant) -> TenantSchema:
    """Drop the tenant's schemas and logins with all data in them; tenant, credential and discovered versions stay.

    A failed drop leaves the state `teardown` with the error; calling again finishes it.

    Raises:
        SchemaStateConflict: a run is using them; nothing was changed.
    """
    with catalog.registration.exclusive():
        _refuse_while_materializing(catalog, tenant)
        return _drop_schemas(settings, catalog, connections, tenant)


def expire_schema(
    settings: Settings,
    catalog: Catalog,
    connections: Connections,
    tenant: Tenant,
    seen: TenantSchema,
    is_idle: Callable[[], bool],
) -> bool:
    """Drop the schemas of a tenant that nobody asked for long; the next run makes them again. Audited.

    `seen`: as the schemas were when the tenant was chosen; `is_idle`: asked once more when nobody can change its tables. What a
    run brought since then is never dropped: who loads holds the tenant's lock and leaves its id, and here both are looked at
    before the state changes, after which no run can begin to write. Returns whether the schemas are gone.
    """
    with catalog.registration.exclusive():
        schema = catalog.schemas.get(tenant)
        if not schema.is_gone_for_now:
            if schema != seen or not _expired_alone(catalog, connections, tenant, seen, is_idle):
                return False
        elif schema.state is State.ABSENT:
            return False
        _drop_schemas(settings, catalog, connections, tenant)
    catalog.audit.append(AuditEntry(EXPIRY, "expire_schema", tenant.key, "ok"))
    return True


def _expired_alone(
    catalog: Catalog, connections: Connections, tenant: Tenant, seen: TenantSchema, is_idle: Callable[[], bool]
) -> bool:
    """Whether the state was changed, with the tenant's lock held. In that order, as everybody takes them."""
    login = catalog.schemas.rw_login(tenant)
    try:
        with run_lock(connections.tenant(login.user, login.password), tenant.key, seen.prefix, holder=EXPIRY):
            if catalog.schemas.get(tenant) != seen or not is_idle():
                return False
            catalog.schemas.expire(tenant)
    except (TenantBusy, SchemaStateConflict):
        return False
    return True


def _place(provider: Provider, key: str, server: str, external_id: str) -> Place:
    checked_key, address = check_key(key), provider.normalize_server(server)
    name = provider.check_external_id(external_id)
    return Place(checked_key, provider.name, address, name, provider.external_id_key(name), provider.tenant_noun)


def _check_kind(provider: Provider, credential: Credential) -> None:
    kinds = [kind.name for kind in provider.credential_kinds]
    if credential.kind not in kinds:
        raise CredentialInvalid(
            f"{provider.title} knows no credential of kind {credential.kind}.",
            next_step=f"Give one of: {', '.join(kinds)}.",
            details={"kinds": kinds},
        )


def _verified(
    settings: Settings, provider: Provider, place: Place, credential: Credential
) -> tuple[Access, Credential]:
    """The provider's findings, and the credential to store: a refresh during the check replaces the given one."""
    if isinstance(credential, OAuthCredential) and not credential.access_token:
        credential = replace(credential, expires_at=datetime.fromtimestamp(0, UTC))
    kept = credential

    def refresh(stale_access_token: str, renew: Callable[[OAuthCredential], OAuthCredential]) -> OAuthCredential:
        nonlocal kept
        if not isinstance(kept, OAuthCredential):
            raise CredentialMissing("An API key is not refreshed.", next_step="Correct the API key.")
        if kept.access_token == stale_access_token:
            kept = renew(kept)
        return kept

    access = provider.verify_access(place.server, place.external_id, credential, settings=settings, refresh=refresh)
    return access, kept


def _make_schemas(settings: Settings, catalog: Catalog, connections: Connections, tenant: Tenant) -> Passwords:
    """Make the tenant's schemas and logins in state `provisioning`, unless it has live ones. Returns the logins' passwords."""
    schema = catalog.schemas.get(tenant)
    passwords = Passwords(rw=secrets.token_urlsafe(_PASSWORD_BYTES), ro=secrets.token_urlsafe(_PASSWORD_BYTES))
    if schema.state in LIVE:
        # A tenant may be added again because its old passwords can no longer be decrypted.
        with suppress(KeyringMismatch):
            passwords = catalog.schemas.passwords(tenant)
    else:
        _drop_schemas(settings, catalog, connections, tenant)
        if catalog.saved_models.current(tenant):
            passwords = replace(passwords, saved=secrets.token_urlsafe(_PASSWORD_BYTES))
        schema = catalog.schemas.start(tenant, new_prefix(), passwords)
    with _admin(connections) as admin:
        provision(
            admin,
            schema.prefix,
            rw_password=passwords.rw,
            ro_password=passwords.ro,
            expose_raw=settings.expose_raw,
            reader_sees_new=policy_of(settings, catalog, tenant) == "mark",
        )
        if passwords.saved:
            provision_saved(admin, schema.prefix, passwords.saved)
    return passwords


def _drop_schemas(settings: Settings, catalog: Catalog, connections: Connections, tenant: Tenant) -> TenantSchema:
    schema = catalog.schemas.get(tenant)
    if schema.state is State.ABSENT:
        return schema
    catalog.schemas.transition(tenant, set(State) - {State.ABSENT, State.MATERIALIZING}, State.TEARDOWN)
    try:
        with _admin(connections) as admin:
            deprovision(admin, schema.prefix)
    except Exception as error:
        reason = error.message if isinstance(error, ExplorerError) else type(error).__name__
        catalog.schemas.transition(tenant, {State.TEARDOWN}, State.TEARDOWN, error=reason)
        raise
    for name in WORK_DIRS:
        shutil.rmtree(settings.home / name / schema.prefix, ignore_errors=True)
    catalog.launches.forget(tenant)
    return catalog.schemas.transition(tenant, {State.TEARDOWN}, State.ABSENT)


@contextmanager
def _undone_on_failure(
    settings: Settings, catalog: Catalog, connections: Connections, tenant: Tenant
) -> Iterator[None]:
    try:
        yield
    except BaseException:
        _try_to_undo(settings, catalog, connections, tenant)
        raise


def _try_to_undo(settings: Settings, catalog: Catalog, connections: Connections, tenant: Tenant) -> None:
    try:
        if catalog.schemas.get(tenant).state not in LIVE:
            _drop_schemas(settings, catalog, connections, tenant)
        catalog.registration.abandon(tenant)
    except Exception:
        # The caller has a better error to raise, or another tenant to add; the next call tries again.
        log.exception("What was made for tenant %s could not be undone yet", tenant.key)


def _clear_unfinished(settings: Settings, catalog: Catalog, connections: Connections) -> None:
    for tenant in catalog.registration.unfinished():
        _try_to_undo(settings, catalog, connections, tenant)


def _refuse_while_materializing(catalog: Catalog, tenant: Tenant) -> None:
    schema = catalog.schemas.get(tenant)
    if schema.state is State.MATERIALIZING:
        raise SchemaStateConflict(
            f"Run {schema.run_id} is materializing tenant {tenant.key}.",
            next_step="Wait for the run to end, or cancel it; then try again.",
            details={"state": str(schema.state), "run_id": schema.run_id},
        )


@contextmanager
def _admin(connections: Connections) -> Iterator[psycopg.Connection]:
    with closing(connections.admin.connect(autocommit=True)) as connection:
        yield connection
