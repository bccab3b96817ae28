"""How the tools reach the SQL path: the tenant's own login, its live names, and limits that keep an answer small.

Whether a statement may run and how it is run is decided in `mcp_bridge.sql`.
"""

import logging
from contextlib import closing
from functools import partial

from explorer.catalog import Tenant
from explorer.core.settings import Settings
from explorer.postgres.connections import Login
from explorer.postgres.embedded import EmbeddedPostgres
from mcp_bridge.clients.platform_database import PlatformDatabase
from mcp_bridge.clients.timeouts import CATALOG_S, in_thread
from mcp_bridge.facts.relations import LiveTables
from mcp_bridge.sql import Executor, OverrunThrottle, QueryLimits, QueryResult, Termination, ValidatedQuery, validate

_log = logging.getLogger(__name__)

# More rows than a concise answer has room for need not be read; how many it has is counted in tokens.
CONCISE_BYTES = 18_000


def check(live: LiveTables, statement: str) -> ValidatedQuery:
    """Raises: QueryRejected."""
    return validate(statement, schemas=frozenset(live.schemas), relations=live.columns_by_schema())


class QueryPath:
    """Runs validated statements as the tenants' readers. For use inside one event loop."""

    def __init__(self, platform: PlatformDatabase, settings: Settings) -> None:
        self._platform, self._settings = platform, settings
        # Of one tenant each, by tenant key; replaced when the tenant's login changes.
        self._executors: dict[str, tuple[tuple[Login, tuple[str, ...]], Executor]] = {}
        self._throttle = OverrunThrottle()

    async def execute(
        self,
        tenant: Tenant,
        live: LiveTables,
        query: ValidatedQuery,
        limits: QueryLimits,
        principal: str,
        offset: int = 0,
    ) -> QueryResult:
        """Run a validated statement as the tenant's reader, for `principal`.

        Raises:
            QueryFailed: the database refused or stopped it.
            SchemaAbsent: the tenant has no schemas at present.
        """
        executor = await self._executor(tenant, live)
        return await executor.run(query, offset=offset, limits=limits, principal=principal)

    async def _executor(self, tenant: Tenant, live: LiveTables) -> Executor:
        """The tenant's executor, a new one when its login or the database's address has changed.

        Made in the event loop, where nobody comes between: two of them would hold twice the tenant's places.
        """
        ro, service = await in_thread(self._logins, tenant, within_s=CATALOG_S)
        kept = self._executors.get(tenant.key)
        if kept is None or kept[0] != (ro, live.schemas):
            termination = Termination(
                partial(_terminate, service, ro.user),
                partial(_last_resort, self._settings),
                self._settings.query_last_resort_s if self._settings.database_url is None else 0,
            )
            executor = Executor(ro, live.schemas, throttle=self._throttle, termination=termination)
            kept = self._executors[tenant.key] = ((ro, live.schemas), executor)
        return kept[1]

    def _logins(self, tenant: Tenant) -> tuple[Login, Login]:
        ro = self._platform.catalog.schemas.ro_login(tenant)
        return self._platform.connections.tenant(ro.user, ro.password), self._platform.connections.service


def _terminate(service: Login, reader: str, pid: int) -> None:
    with closing(service.connect(autocommit=True)) as connection:
        connection.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid = %s AND usename = %s", [pid, reader]
        )


def _last_resort(settings: Settings, pid: int) -> None:
    _log.error("The database restarts its sessions, because backend %s cannot be interrupted", pid)
    EmbeddedPostgres(settings.home).end_session(pid)
