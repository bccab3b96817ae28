"""The catalog as a whole: opens the database and holds the stores."""

from typing import Self

from sqlalchemy import func, select, update

from explorer.catalog.access.exports import ExportStore
from explorer.catalog.access.identities import IdentityStore, upstream_purpose
from explorer.catalog.access.limits import LimitStore
from explorer.catalog.access.oauth_clients import OAuthClientStore
from explorer.catalog.access.oauth_grants import OAuthGrantStore
from explorer.catalog.access.oauth_requests import OAuthRequestStore, request_purpose
from explorer.catalog.access.principals import PrincipalStore
from explorer.catalog.access.rates import RateStore
from explorer.catalog.audit.log import AuditLog, change, record
from explorer.catalog.coordination.alerts import AlertStore
from explorer.catalog.coordination.budgets import UsageStore
from explorer.catalog.coordination.launches import LaunchStore
from explorer.catalog.coordination.quotas import Quota, QuotaStore
from explorer.catalog.coordination.syncs import SyncStore
from explorer.catalog.lifecycle.overviews import OverviewStore
from explorer.catalog.lifecycle.provisioning import ProvisioningStore, provisioning_purpose
from explorer.catalog.lifecycle.registration import Registration
from explorer.catalog.lifecycle.schemas import SchemaStore, password_purpose
from explorer.catalog.lifecycle.tenant_requests import TenantRequestStore
from explorer.catalog.lifecycle.workspaces import WorkspaceStore, workspace_purpose
from explorer.catalog.secrets.credentials import CredentialStore, credential_purpose
from explorer.catalog.secrets.keyring import Keyring
from explorer.catalog.storage.database import Database
from explorer.catalog.storage.tables import credentials, identities, oauth_requests, provisioning, schemas, workspaces
from explorer.catalog.tenants.discovered import DiscoveredStore
from explorer.catalog.tenants.saved_models import SavedModelStore
from explorer.catalog.tenants.semantics import SemanticsStore
from explorer.catalog.tenants.tenant import TenantStore
from explorer.core.settings import Settings
from explorer.postgres.connections import Login, load_connections


class Catalog:
    """All records about tenants, without their data. Thread-safe; synchronous; survives `fork`."""

    def __init__(self, service: Login, keyring: Keyring, general: Quota | None = None) -> None:
        """`general`: the quota of tenants without one of their own; None: they have none."""
        self._database = Database(service)
        self.keyring = keyring
        self.tenants = TenantStore(self._database)
        self.credentials = CredentialStore(self._database, lambda: self.keyring)
        self.schemas = SchemaStore(self._database, lambda: self.keyring)
        self.discovered = DiscoveredStore(self._database)
        self.semantics = SemanticsStore(self._database)
        self.saved_models = SavedModelStore(self._database)
        self.principals = PrincipalStore(self._database)
        self.identities = IdentityStore(self._database, lambda: self.keyring)
        self.oauth_clients = OAuthClientStore(self._database)
        self.oauth_requests = OAuthRequestStore(self._database, lambda: self.keyring)
        self.oauth_grants = OAuthGrantStore(self._database)
        self.rates = RateStore(self._database)
        self.exports = ExportStore(self._database)
        self.launches = LaunchStore(self._database)
        self.alerts = AlertStore(self._database)
        self.audit = AuditLog(self._database)
        self.limits = LimitStore(self._database)
        self.usage = UsageStore(self._database)
        self.quotas = QuotaStore(self._database, general or Quota())
        self.syncs = SyncStore(self._database)
        self.overviews = OverviewStore(self._database)
        self.provisioning = ProvisioningStore(self._database, lambda: self.keyring)
        self.tenant_requests = TenantRequestStore(self._database)
        self.workspaces = WorkspaceStore(self._database, lambda: self.keyring)
        self.registration = Registration(self._database, self.credentials, self.schemas)

    @classmethod
    def open(cls, settings: Settings) -> Self:
        """Open the catalog of `settings` as the service login.

        Raises:
            DatabaseNotReady: nothing was set up under HOME.
            CatalogNotReady: the tables are missing or of another version.
            CatalogUnavailable, KeyringInvalid.
        """
        catalog = cls(load_connections(settings).service, Keyring.load(settings), Quota.of_settings(settings))
        try:
            catalog.check()
        except BaseException:
            catalog.close()
            raise
        return catalog

    def check(self) -> None:
        """Check that the database answers and has the tables of this version.

        Raises:
            CatalogNotReady, CatalogUnavailable.
        """
        self._database.check_version()

    def rotate_keys(self) -> int:
        """Encrypt every stored secret (credentials, passwords of logins, tokens of people) with a new key, in one transaction.
        Returns the number of values.

        The new key comes first in a key file; the old ones stay for processes that are about to write, and may be deleted
        afterwards. With EXPLORER_SECRET_KEYS, put the new key first there (new,old), restart every process, then call this.

        Raises:
            KeyringMismatch: a value cannot be decrypted; nothing was changed.
        """
        count = 0
        with self._database.begin() as connection:
            connection.execute(select(func.pg_advisory_xact_lock(func.hashtextextended("explorer.catalog.rotate", 0))))
            # Inside the lock: an earlier keyring would lack the key of a rotation that has just ended.
            keyring = self.keyring.renewed()
            for id_, column, purpose in (
                (credentials.c.tenant_id, credentials.c.ciphertext, credential_purpose),
                (schemas.c.tenant_id, schemas.c.passwords, password_purpose),
                (identities.c.principal_id, identities.c.tokens, upstream_purpose),
                (oauth_requests.c.id, oauth_requests.c.secret, request_purpose),
                (provisioning.c.id, provisioning.c.secret, provisioning_purpose),
                (workspaces.c.id, workspaces.c.password, workspace_purpose),
            ):
                rows = connection.execute(
                    select(id_.label("id"), column.label("ciphertext")).where(column.is_not(None)).with_for_update()
                ).all()
                for row in rows:
                    bound = purpose(row.id)
                    sealed = keyring.encrypt(bound, self.keyring.decrypt(bound, row.ciphertext))
                    connection.execute(update(column.table).where(id_ == row.id).values({column.name: sealed}))
                count += len(rows)
            # Before the commit: an unused new key does no harm, a used one that was not stored would lose everything.
            keyring.store()
            record(connection, change("rotate_keys", values=count))
        self.keyring = keyring
        return count

    def close(self) -> None:
        """Close the connections."""
        self._database.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
