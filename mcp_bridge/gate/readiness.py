"""Can the bridge serve calls now? `/readyz` checks the database and Dagster, and never waits long for either.

`/healthz` only says that the process is alive, because a restart of the bridge does not repair the database or Dagster.
"""

import time
from dataclasses import dataclass
from typing import Any

from anyio import CapacityLimiter

from explorer.core.errors import ExplorerError
from mcp_bridge.clients.dagster.client import DagsterClient
from mcp_bridge.clients.platform_database import PlatformDatabase
from mcp_bridge.clients.timeouts import in_thread, or_none

_DATABASE_S = 2.0
_DAGSTER_S = 1.0
# Anybody may request `/readyz`, so the checks run at most once in this time.
_CACHED_S = 1.0


@dataclass
class Readiness:
    """`ready`: everything answers; `degraded`: tables can be read, but runs are unknown; `not_ready`: no call works."""

    platform: PlatformDatabase
    dagster: DagsterClient
    _report: tuple[float, dict[str, Any]] | None = None
    _alone: CapacityLimiter | None = None

    async def report(self) -> dict[str, Any]:
        """`{status, database, dagster}`. `database` is `ok` or `unavailable`; `dagster` also `code not loaded` or `unknown`."""
        if self._report is None or self._report[0] + _CACHED_S < time.monotonic():
            report = await self._ask()
            self._report = (time.monotonic(), report)
        return self._report[1]

    async def _ask(self) -> dict[str, Any]:
        database = await self._database()
        dagster = await self._dagster() if database == "ok" else "unknown"
        status = "not_ready" if database != "ok" else "ready" if dagster == "ok" else "degraded"
        return {"status": status, "database": database, "dagster": dagster}

    async def _database(self) -> str:
        # One thread at a time, so that requests do not pile up threads that wait for a frozen server.
        self._alone = self._alone or CapacityLimiter(1)
        try:
            await in_thread(lambda: self.platform.catalog.check(), within_s=_DATABASE_S, limiter=self._alone)
        except ExplorerError:
            return "unavailable"
        return "ok"

    async def _dagster(self) -> str:
        try:
            health = await or_none(self.dagster.health(), _DAGSTER_S)
        except ExplorerError:
            return "unavailable"
        if health is None:
            return "unavailable"
        return "ok" if health.code_loaded else "code not loaded"
