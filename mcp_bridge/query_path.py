"""Connects the tools to the SQL path: gives the validator a tenant's live names, and the executor its login.

`check` needs no database; `QueryPath.execute` runs a checked statement. `mcp_bridge.sql` decides whether a statement may run,
and how.
"""

import logging
from collections.abc import Callable
from contextlib import closing
from functools import partial

from explorer.catalog import Tenant
from explorer.postgres.connections import Login
from mcp_bridge.clients.platform_database import PlatformDatabase
from mcp_bridge.clients.timeouts import CATALOG_S, in_thread
from mcp_bridge.facts.relations import LiveTables
from mcp_bridge.sql import Executor, OverrunThrottle, QueryLimits, QueryResult, Termination, ValidatedQuery, validate

_log = logging.getLogger(__name__)


def check(live: LiveTables, statement: str) -> ValidatedQuery:
    """Raises: QueryRejected."""
    return validate(statement, schemas=frozenset(live.schemas), relations=live.columns_by_schema())


class QueryPath:
    """Runs validated statements, each as its tenant's reader. For use inside one event loop."""

    def __init__(
        self, platform: PlatformDatabase, end_session: Callable[[int], None], *, last_resort_s: float = 0.0
    ) -> None:
        """`end_session` ends the backend of a pid, and with it all other sessions of the server. It is called only for a backend
        that still runs `last_resort_s` after it was told to stop (0: never)."""
        self._platform, self._end_session, self._last_resort_s = platform, end_session, last_resort_s
        # One executor per tenant, by tenant key; replaced when the tenant's login changes.
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
            SchemaAbsent: the tenant has no schemas now.
        """
        reader, service = await in_thread(self._logins, tenant, within_s=CATALOG_S)
        executor = self._executor(tenant, live.schemas, reader, service)
        return await executor.run(query, offset=offset, limits=limits, principal=principal)

    def _executor(self, tenant: Tenant, schemas: tuple[str, ...], reader: Login, service: Login) -> Executor:
        """The tenant's executor; a new one when its login, its schemas or the database's address have changed.

        There is no await between looking and making, because two executors would double the tenant's slots.
        """
        made_for = (reader, schemas)
        known = self._executors.get(tenant.key)
        if known is None or known[0] != made_for:
            termination = Termination(
                partial(_terminate, service, reader.user),
                partial(_restart_sessions, self._end_session),
                self._last_resort_s,
            )
            executor = Executor(reader, schemas, throttle=self._throttle, termination=termination)
            known = self._executors[tenant.key] = (made_for, executor)
        return known[1]

    def _logins(self, tenant: Tenant) -> tuple[Login, Login]:
        """The login of the tenant's reader, and the service login, which may end the reader's sessions. Blocks."""
        ro = self._platform.catalog.schemas.ro_login(tenant)
        return self._platform.connections.tenant(ro.user, ro.password), self._platform.connections.service


def _terminate(service: Login, reader: str, pid: int) -> None:
    with closing(service.connect(autocommit=True)) as connection:
        connection.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid = %s AND usename = %s", [pid, reader]
        )


def _restart_sessions(end_session: Callable[[int], None], pid: int) -> None:
    _log.error("The database restarts its sessions, because backend %s cannot be interrupted", pid)
    end_session(pid)
