"""The facts about a tenant's tables, cached until the catalog reports that a run has written them.

Only runs change a tenant's schemas. Dagster's answer is included when it comes in time; otherwise the request continues for
the next call.
"""

import asyncio
import logging
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from uuid import UUID

from explorer.catalog import Limits, State, Tenant, TenantSchema
from mcp_bridge.clients.platform_database import PlatformDatabase
from mcp_bridge.clients.tenant_databases import TenantDatabases
from mcp_bridge.clients.timeouts import CATALOG_S, LIST_S, QUERY_S, in_thread
from mcp_bridge.facts.builds import TableBuild
from mcp_bridge.facts.cache import Cache
from mcp_bridge.facts.current_builds import CurrentBuilds
from mcp_bridge.facts.freshness import FreshnessRules, strictest
from mcp_bridge.facts.partition_state import LATE, PartitionState, PartitionStates
from mcp_bridge.facts.pipelines import PipelineFiles
from mcp_bridge.facts.relations import Column, LiveTables, columns_of, live_tables
from mcp_bridge.facts.tables import TenantTables, join

# About 0.2 MB each for a tenant of 100 tables.
_CACHED_TENANTS = 1000
# About 5 MB each: all columns with the applications' descriptions.
_CACHED_COLUMNS = 20
_KEEP_UP_EVERY_S = 5.0
_IN_USE_S = 3600.0
# How long a round of `keep_up` waits for Dagster.
_KEEP_UP_WAITS_S = 8.0
# Longer than any call waits for Dagster.
_ANSWER_GOOD_S = 10.0
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class _Question:
    """A request to Dagster about a tenant's schemas, and its time by the monotonic clock."""

    schema: TenantSchema
    task: "asyncio.Task[PartitionState]"
    asked_at_s: float

    def is_outdated(self) -> bool:
        """Whether the request has ended and its answer may be out of date. A failed request is always outdated."""
        if not self.task.done():
            return False
        if self.task.cancelled() or self.task.exception() is not None:
            return True
        return not self.task.result().settled and time.monotonic() - self.asked_at_s > _ANSWER_GOOD_S


class TenantFacts:
    """The tables of each tenant with their facts. For use inside one event loop."""

    def __init__(
        self,
        platform: PlatformDatabase,
        databases: TenantDatabases,
        files: PipelineFiles,
        states: PartitionStates,
        freshness: FreshnessRules,
        limits_of: Callable[[Tenant], Limits],
        *,
        with_raw: bool,
    ) -> None:
        """`limits_of`: which tables of a tenant may be read; `with_raw`: whether agents may also read the raw schema."""
        self._limits_of = limits_of
        self._platform, self._databases, self._files = platform, databases, files
        self._states, self._freshness, self._with_raw = states, freshness, with_raw
        self._tables: Cache[TenantTables] = Cache(_CACHED_TENANTS)
        self._columns: Cache[dict[str, list[Column]]] = Cache(_CACHED_COLUMNS)
        self._builds = CurrentBuilds(databases)
        # By tenant id.
        self._questions: dict[UUID, _Question] = {}

    def close(self) -> None:
        """Stop the requests and the refreshing in the background."""
        for question in self._questions.values():
            question.task.cancel()
        self._tables.close()
        self._columns.close()

    async def tables(
        self, tenant: Tenant, within_s: float = LIST_S, schema: TenantSchema | None = None
    ) -> TenantTables:
        """All tables, with Dagster's facts if they come within `within_s`. A later answer is used by the next call. `schema`: the
        tenant's schemas, where the caller has just read them.

        Raises:
            SchemaAbsent, DatabaseUnreachable, DatabaseTimeout, CatalogUnavailable. Nothing when Dagster is unavailable.
        """
        called_at_s = time.monotonic()
        if schema is None:
            schema = await in_thread(lambda: self._platform.catalog.schemas.get(tenant), within_s=CATALOG_S)
        read = partial(self._read, tenant, schema)
        known = await self._tables.get(tenant.id, schema, read)
        question = self._questions.get(tenant.id)
        outdated = False
        if known.late and question is not None:
            await asyncio.wait({question.task}, timeout=max(within_s - QUERY_S, 0.0))
            outdated = question.task.done()
        elif known.unfinished:
            # The run may have ended since, with more results.
            outdated = known.asked_at_s < called_at_s
        if outdated:
            await self._tables.renew(tenant.id, schema, read)
            known = await self._tables.get(tenant.id, schema, read)
        known.judge_by(strictest([self._freshness.latest(pipeline, tenant) for pipeline in known.pipelines]))
        return known.readable(self._limits_of(tenant))

    async def tables_and_schedules(self, tenant: Tenant) -> TenantTables:
        """The same with the current schedules, for answers that show them. Waits for both at once, two seconds at most."""
        rules = (self._freshness.of(pipeline, tenant) for pipeline in self._files.of(tenant))
        known, found = await asyncio.gather(self.tables(tenant), asyncio.gather(*rules))
        known.judge_by(strictest(found))
        return known

    async def columns(self, tenant: Tenant, known: TenantTables) -> dict[str, list[Column]]:
        """The columns of all tables, by table. Raises as `TenantDatabases.connection`."""

        def read() -> dict[str, list[Column]]:
            with self._databases.connection(tenant, known.live.schema) as connection:
                return columns_of(connection, known.live, list(known.tables))

        async def make() -> tuple[dict[str, list[Column]], bool]:
            return await in_thread(read), True

        return await self._columns.get(tenant.id, (known.live.schema, tuple(known.tables)), make)

    async def builds(self, tenant: Tenant, known: TenantTables) -> dict[str, TableBuild]:
        """How the tables came to their rows, at this moment. Raises as `TenantDatabases.connection`."""

        return await self._builds.of(tenant, known.live.schema)

    async def keep_up(self) -> None:
        """Refresh the recently used tenants whose runs have ended, so that the next call does not wait. Never returns."""
        try:
            await self._prepare()
        except Exception as error:
            _log.info("What Dagster defines could not be read ahead: %s", error)
        while True:
            await asyncio.sleep(_KEEP_UP_EVERY_S)
            try:
                await self.catch_up()
            except Exception as error:
                # The next call reports the error to its caller.
                _log.info("What runs have written could not be read ahead: %s", error)

    async def catch_up(self) -> None:
        """One round of `keep_up`."""
        used = [
            (known, settled)
            for known, settled in self._tables.in_use(_IN_USE_S)
            if settled or known.is_rebuilt_now or not known.warnings
        ]
        if not used:
            return
        ids = [known.tenant.id for known, _ in used]
        schemas = await in_thread(lambda: self._platform.catalog.schemas.of(ids))
        for known, settled in used:
            tenant, schema = known.tenant, schemas.get(known.tenant.id)
            if schema and schema.state is State.ACTIVE and (schema != known.live.schema or not settled):
                # No caller waits here, so there is time for Dagster: facts in the cache must not be replaced by missing ones.
                await asyncio.wait({self._ask(tenant, schema).task}, timeout=_KEEP_UP_WAITS_S)
                await self._tables.renew(tenant.id, schema, partial(self._read, tenant, schema))

    async def _prepare(self) -> None:
        """Read what all tenants share. It is the slower half of the first call."""
        await self._states.prepare()
        for pipeline in self._files.pipelines.values():
            await self._freshness.of(pipeline)

    async def _read(self, tenant: Tenant, schema: TenantSchema) -> tuple[TenantTables, bool]:
        """The facts now, and whether they stay valid until the catalog reports another run."""
        question = self._ask(tenant, schema)
        live = await in_thread(lambda: live_tables(self._databases, tenant, schema, with_raw=self._with_raw))
        # One caller reads for all concurrent ones, so it waits for Dagster no longer than an answer to a query may.
        await asyncio.wait({question.task}, timeout=QUERY_S)
        state = PartitionState(problem=LATE, late=True)
        if question.task.done():
            self._questions.pop(tenant.id, None)
            state = question.task.result()
        known = self._joined(tenant, live, state)
        known.asked_at_s = question.asked_at_s
        return known, state.settled

    def _joined(self, tenant: Tenant, live: LiveTables, state: PartitionState) -> TenantTables:
        return join(tenant, self._files.of(tenant), live, state)

    def _ask(self, tenant: Tenant, schema: TenantSchema) -> _Question:
        """The current request to Dagster about the tenant. It continues when no caller waits, for the next call."""
        question = self._questions.get(tenant.id)
        if question is None or question.schema != schema or question.is_outdated():
            task = asyncio.create_task(self._states.of(tenant, schema))
            question = self._questions[tenant.id] = _Question(schema, task, time.monotonic())
        return question
