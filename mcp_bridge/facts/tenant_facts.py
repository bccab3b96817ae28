"""What is known of a tenant's tables now? Found once, and remembered until the catalog says that a run has written them since.

Runs are all that changes a tenant's schemas. What Dagster says is joined when it comes in time; it goes on being asked meanwhile.
"""

import asyncio
import logging
import time
from dataclasses import dataclass
from functools import partial
from uuid import UUID

from explorer.catalog import State, Tenant, TenantSchema
from mcp_bridge.clients.platform_database import PlatformDatabase
from mcp_bridge.clients.tenant_databases import TenantDatabases
from mcp_bridge.clients.timeouts import CATALOG_S, LIST_S, QUERY_S, in_thread
from mcp_bridge.facts.cache import Cache
from mcp_bridge.facts.freshness import FreshnessRules, strictest
from mcp_bridge.facts.partition_state import LATE, PartitionState, PartitionStates
from mcp_bridge.facts.pipelines import PipelineFiles
from mcp_bridge.facts.relations import Column, LiveTables, columns_of, live_tables
from mcp_bridge.facts.tables import TenantTables, join

# About 0.2 MB each for a tenant of 100 tables.
_CACHED_TENANTS = 1000
# About 5 MB each: every column with all that the applications say of it.
_CACHED_COLUMNS = 20
_KEEP_UP_EVERY_S = 5.0
_IN_USE_S = 3600.0
# Of a round of `keep_up` for Dagster.
_KEEP_UP_WAITS_S = 8.0
# Longer than anybody waits for an answer of Dagster.
_ANSWER_GOOD_S = 10.0
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class _Question:
    """What was asked of Dagster about a tenant's schemas, and when, by the monotonic clock."""

    schema: TenantSchema
    task: "asyncio.Task[PartitionState]"
    asked_at_s: float

    def is_outdated(self) -> bool:
        """Whether the answer is there, waited for by nobody, and may have changed since; one that failed always is."""
        if not self.task.done():
            return False
        if self.task.cancelled() or self.task.exception() is not None:
            return True
        return not self.task.result().settled and time.monotonic() - self.asked_at_s > _ANSWER_GOOD_S


class TenantFacts:
    """The tables of each tenant with what is known of them. For use inside one event loop."""

    def __init__(
        self,
        platform: PlatformDatabase,
        databases: TenantDatabases,
        files: PipelineFiles,
        states: PartitionStates,
        freshness: FreshnessRules,
        *,
        with_raw: bool,
    ) -> None:
        """`with_raw`: whether agents may read the raw schema too."""
        self._platform, self._databases, self._files = platform, databases, files
        self._states, self._freshness, self._with_raw = states, freshness, with_raw
        self._tables: Cache[TenantTables] = Cache(_CACHED_TENANTS)
        self._columns: Cache[dict[str, list[Column]]] = Cache(_CACHED_COLUMNS)
        # By tenant id.
        self._questions: dict[UUID, _Question] = {}

    def close(self) -> None:
        """Stop asking, and make nothing anew."""
        for question in self._questions.values():
            question.task.cancel()
        self._tables.close()
        self._columns.close()

    async def tables(self, tenant: Tenant, within_s: float = LIST_S) -> TenantTables:
        """All tables, with what Dagster says of them within `within_s`; what it says later is there for who asks next.

        Raises:
            SchemaAbsent, DatabaseUnreachable, DatabaseTimeout, CatalogUnavailable; never for Dagster's absence.
        """
        called_at_s = time.monotonic()
        schema = await in_thread(lambda: self._platform.catalog.schemas.get(tenant), within_s=CATALOG_S)
        read = partial(self._read, tenant, schema)
        known = await self._tables.get(tenant.id, schema, read)
        question = self._questions.get(tenant.id)
        outdated = False
        if known.late and question is not None:
            await asyncio.wait({question.task}, timeout=max(within_s - QUERY_S, 0.0))
            outdated = question.task.done()
        elif known.unfinished:
            # It may have ended since, and said the rest.
            outdated = known.asked_at_s < called_at_s
        if outdated:
            await self._tables.renew(tenant.id, schema, read)
            known = await self._tables.get(tenant.id, schema, read)
        known.judge_by(strictest([self._freshness.latest(pipeline) for pipeline in known.pipelines]))
        return known

    async def tables_and_schedules(self, tenant: Tenant) -> TenantTables:
        """The same, with the schedules as they are now: for answers that tell them. Both are waited for at once, for two seconds
        at most."""
        rules = (self._freshness.of(pipeline) for pipeline in self._files.of(tenant))
        known, found = await asyncio.gather(self.tables(tenant), asyncio.gather(*rules))
        known.judge_by(strictest(found))
        return known

    async def columns(self, tenant: Tenant, known: TenantTables) -> dict[str, list[Column]]:
        """The columns of all tables, by table; raises as `TenantDatabases.connection`."""

        def read() -> dict[str, list[Column]]:
            with self._databases.connection(tenant, known.live.schema) as connection:
                return columns_of(connection, known.live, list(known.tables))

        async def make() -> tuple[dict[str, list[Column]], bool]:
            return await in_thread(read), True

        return await self._columns.get(tenant.id, (known.live.schema, tuple(known.tables)), make)

    async def keep_up(self) -> None:
        """Learn anew of the tenants asked about lately whose runs have ended, so that who asks next need not wait. Never
        returns."""
        try:
            await self._prepare()
        except Exception as error:
            _log.info("What Dagster defines could not be read ahead: %s", error)
        while True:
            await asyncio.sleep(_KEEP_UP_EVERY_S)
            try:
                await self.catch_up()
            except Exception as error:
                # A call that comes meanwhile says what is wrong.
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
                # Nobody waits here: what is cached is not replaced by what Dagster has not said yet.
                await asyncio.wait({self._ask(tenant, schema).task}, timeout=_KEEP_UP_WAITS_S)
                await self._tables.renew(tenant.id, schema, partial(self._read, tenant, schema))

    async def _prepare(self) -> None:
        """What is the same for all tenants, and the slower half of what the first question would have to wait for."""
        await self._states.prepare()
        for pipeline in self._files.pipelines.values():
            await self._freshness.of(pipeline)

    async def _read(self, tenant: Tenant, schema: TenantSchema) -> tuple[TenantTables, bool]:
        """All there is to know now, and whether it will hold until the catalog speaks of another run."""
        question = self._ask(tenant, schema)
        live = await in_thread(lambda: live_tables(self._databases, tenant, schema, with_raw=self._with_raw))
        # Nobody's answer waits for Dagster longer than a query's may: of those that ask at once one reads for all.
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
        """The question to Dagster about the tenant. It goes on when nobody waits any more: the answer is for the next call."""
        question = self._questions.get(tenant.id)
        if question is None or question.schema != schema or question.is_outdated():
            task = asyncio.create_task(self._states.of(tenant, schema))
            question = self._questions[tenant.id] = _Question(schema, task, time.monotonic())
        return question
