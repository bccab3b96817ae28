"""What is a member's role in a tenant? As the last sync left it, or from the tenant's server with the tenant's own credential."""

import logging
import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from uuid import UUID

from psycopg import sql

from explorer.catalog import Catalog, Identity, Tenant
from explorer.catalog.lifecycle.schemas import LIVE
from explorer.contract.bookkeeping import loads
from explorer.core.errors import ExplorerError, TransientError
from explorer.core.settings import Settings
from explorer.providers.base import PeopleSignIn, Provider, Role
from mcp_bridge.clients.tenant_databases import TenantDatabases
from mcp_bridge.sign_in.identity import ProviderUnavailable

# A role that was loaded longer ago is asked of the server.
_LOADED_MAX_AGE = timedelta(hours=24)
# How long an answer of the server counts: each costs the tenant a request of its allowance.
_ASKED_S = 3600.0
_MAX_ASKED = 10_000
_log = logging.getLogger(__name__)


class Roles:
    """The roles of one provider's people. Thread-safe; blocks."""

    def __init__(
        self,
        catalog: Callable[[], Catalog],
        databases: TenantDatabases,
        provider: Provider,
        people: PeopleSignIn,
        settings: Settings,
    ) -> None:
        self._catalog, self._databases = catalog, databases
        self._provider, self._people, self._settings = provider, people, settings
        self._asked: dict[tuple[UUID, str], tuple[float, Role | None]] = {}
        self._lock = threading.Lock()

    def role(self, tenant: Tenant, identity: Identity) -> Role | None:
        """The person's role in the tenant; None when nobody tells.

        Raises:
            ProviderUnavailable: the server could tell, and does not answer now.
        """
        return self._loaded(tenant, identity.subject) or self._remembered(tenant, identity)

    def _loaded(self, tenant: Tenant, subject: str) -> Role | None:
        """The role as of the last sync; None when there is none, or it is too old."""
        schema, source = self._catalog().schemas.get(tenant), self._people.loaded_roles
        if schema.state not in LIVE:
            return None
        with self._databases.connection(tenant, schema) as connection:
            last = loads.loaded(connection, schema.raw).get(source.table)
            if last is None or datetime.now(UTC) - last.loaded_at > _LOADED_MAX_AGE:
                return None
            query = sql.SQL("select record from {} where {} = %s and _deleted_at is null").format(
                sql.Identifier(schema.raw, source.table), sql.Identifier(source.subject_column)
            )
            row = connection.execute(query, [subject]).fetchone()
        return self._people.role_of(row[0]) if row is not None and isinstance(row[0], dict) else None

    def _remembered(self, tenant: Tenant, identity: Identity) -> Role | None:
        place = (tenant.id, identity.subject)
        with self._lock:
            asked_at, role = self._asked.get(place, (-_ASKED_S, None))
        if time.monotonic() - asked_at < _ASKED_S:
            return role
        role = self._ask(tenant, identity)
        with self._lock:
            if len(self._asked) >= _MAX_ASKED:
                self._asked.clear()
            self._asked[place] = (time.monotonic(), role)
        return role

    def _ask(self, tenant: Tenant, identity: Identity) -> Role | None:
        catalog = self._catalog()
        try:
            with self._provider.open_client(
                tenant.server,
                tenant.external_id,
                catalog.credentials.load(tenant),
                settings=self._settings.model_copy(update={"http_max_attempts": 1, "http_max_retry_after_s": 0.0}),
                refresh=lambda stale, renew: catalog.credentials.refresh(tenant, stale, renew),
            ) as client:
                return self._people.ask_role(client, identity.subject, identity.username)
        except ExplorerError as error:
            if not isinstance(error, TransientError):
                # The tenant's own credential is of no use: that is no reason to hold up the person's other tenants.
                _log.warning("Nobody tells the roles of tenant %s: %s [%s]", tenant.key, error.message, error.code)
                return None
            raise ProviderUnavailable(
                f"The role in {tenant.display_name} cannot be read: {error.message}",
                next_step="Try again; the next sync brings the roles too.",
            ) from None
