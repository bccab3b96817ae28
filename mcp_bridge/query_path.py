"""How do the tools reach the SQL path? A tenant's live names for the validator, its own login for the executor.

`check` needs no database; `QueryRunner.execute` runs what was checked. Whether a statement may run and how it is run is decided
in `mcp_bridge.sql`.
"""

import logging
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from typing import Protocol

from explorer.catalog import Tenant
from explorer.core.settings import Settings
from explorer.postgres.connections import Login
from explorer.postgres.embedded import EmbeddedPostgres
from mcp_bridge.clients.timeouts import CATALOG_S, in_thread
from mcp_bridge.sql import (
    Executor,
    OverrunThrottle,
    QueryLimits,
    QueryResult,
    Termination,
    ValidatedQuery,
    validate,
)

_log = logging.getLogger(__name__)


class ReadableTables(Protocol):
    """What the SQL path needs to know of a tenant's tables."""

    @property
    def schemas(self) -> tuple[str, ...]:
        """Schemas that the tenant's reader may read, in the order in which unqualified names are looked up."""

    def columns_by_schema(self) -> Mapping[str, Mapping[str, Sequence[str]]]:
        """Columns by relation by schema."""


@dataclass(frozen=True, slots=True)
class QueryLogins:
    """`reader` runs the tenant's statements; `service` ends a session of the reader that does not stop."""

    reader: Login
    service: Login


def check(live: ReadableTables, statement: str) -> ValidatedQuery:
    """Raises: QueryRejected."""
    return validate(statement, schemas=frozenset(live.schemas), relations=live.columns_by_schema())


class QueryRunner:
    """Runs the validated statements of all tenants of one process.

    `logins` blocks; it raises `SchemaAbsent` for a tenant that has no schemas at present, and what the catalog raises.
    """

    def __init__(self, settings: Settings, logins: Callable[[Tenant], QueryLogins]) -> None:
        self._settings = settings
        self._logins = logins
        self._throttle = OverrunThrottle()
        # By tenant key: what the executor was made for, and the executor.
        self._executors: dict[str, tuple[tuple[Login, tuple[str, ...]], Executor]] = {}

    async def execute(
        self,
        tenant: Tenant,
        live: ReadableTables,
        query: ValidatedQuery,
        limits: QueryLimits,
        *,
        principal: str,
        offset: int = 0,
    ) -> QueryResult:
        """Run a validated statement as the tenant's reader, for `principal`.

        Raises:
            QueryFailed: the database refused or stopped it.
            SchemaAbsent: the tenant has no schemas at present.
        """
        logins = await in_thread(self._logins, tenant, within_s=CATALOG_S)
        executor = self._executor(tenant, logins, live.schemas)
        return await executor.run(query, offset=offset, limits=limits, principal=principal)

    def _executor(self, tenant: Tenant, logins: QueryLogins, schemas: tuple[str, ...]) -> Executor:
        """The tenant's executor, a new one when its login or the database's address has changed.

        Made in the event loop without an await: two of them would hold twice the tenant's slots.
        """
        made_for = (logins.reader, schemas)
        known = self._executors.get(tenant.key)
        if known is None or known[0] != made_for:
            executor = Executor(logins.reader, schemas, throttle=self._throttle, termination=self._termination(logins))
            known = self._executors[tenant.key] = (made_for, executor)
        return known[1]

    def _termination(self, logins: QueryLogins) -> Termination:
        settings = self._settings
        return Termination(
            partial(_terminate, logins),
            partial(_restart_sessions, settings),
            settings.query_last_resort_s if settings.database_url is None else 0,
        )


def _terminate(logins: QueryLogins, pid: int) -> None:
    with closing(logins.service.connect(autocommit=True)) as connection:
        connection.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid = %s AND usename = %s",
            [pid, logins.reader.user],
        )


def _restart_sessions(settings: Settings, pid: int) -> None:
    _log.error("The database restarts its sessions, because backend %s cannot be interrupted", pid)
    EmbeddedPostgres(settings.home).end_session(pid)
