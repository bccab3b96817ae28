"""Brings the data of a new tenant in: the provisioning job makes it, then its pipelines run for the first time.

The work goes on while nobody looks. If its bridge ends, the next look, at whichever bridge, takes it up again: the request and
the keys of the launches are in the catalog, so nothing is done twice.
"""

import asyncio
import logging
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal
from uuid import UUID

from explorer.catalog import CatalogUnavailable, ProvisioningRequest, Tenant
from explorer.core.errors import ExplorerError, UnknownTenant
from explorer.registry import Pipeline
from mcp_bridge.clients.dagster.client import DagsterClient
from mcp_bridge.clients.dagster.errors import DagsterUnavailable, UnknownRun
from mcp_bridge.clients.platform_database import PlatformDatabase
from mcp_bridge.clients.timeouts import CATALOG_S, LIST_S, in_thread
from mcp_bridge.runs.launches import Launches, Wish
from mcp_bridge.runs.provisioning import ProvisioningFailed, ProvisioningJob

StepState = Literal["waiting", "running", "done", "failed"]
_TRIED_FOR_S = 600.0
_AGAIN_S = 5.0
_RUN_STATES: dict[str, StepState] = {"SUCCESS": "done", "FAILURE": "failed", "CANCELED": "failed", "QUEUED": "waiting"}
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class FirstSync:
    """How far it is. `made`: the tenant; `loaded`: its data; `failure`: why the tenant could not be made, if the job told."""

    made: StepState
    loaded: StepState
    failure: ExplorerError | None = None

    @property
    def is_finished(self) -> bool:
        return self.made == "failed" or self.loaded in ("done", "failed")


class FirstSyncs:
    """The new tenants of all people. For use inside one event loop."""

    def __init__(
        self,
        platform: PlatformDatabase,
        dagster: DagsterClient,
        job: ProvisioningJob,
        launches: Launches,
        pipelines_of: Callable[[Tenant], list[Pipeline]],
    ) -> None:
        """`pipelines_of`: returns the pipelines that fill a tenant's tables."""
        self._platform, self._dagster, self._job = platform, dagster, job
        self._launches, self._pipelines_of = launches, pipelines_of
        self._works: dict[UUID, asyncio.Task[None]] = {}
        # Told once; who asks again has it tried again.
        self._stuck: set[UUID] = set()

    async def look(self, id_: UUID) -> FirstSync | None:
        """How far the request is; None when it is unknown. Work that nobody does is taken up. Raises: CatalogUnavailable."""
        request = await in_thread(self._platform.catalog.provisioning.get, id_, within_s=CATALOG_S)
        if request is None:
            return None
        if request.failure is not None:
            return FirstSync("failed", "waiting", ProvisioningFailed.because(request.failure))
        loaded = await self._loaded(request) if request.has_ended else "waiting"
        if id_ in self._stuck:
            self._stuck.discard(id_)
            return FirstSync("done", "failed") if request.has_ended else FirstSync("failed", "waiting")
        if loaded == "waiting":
            self._take_up(request)
        return FirstSync("done" if request.has_ended else "running", loaded)

    def close(self) -> None:
        """End the work; what was launched goes on."""
        for work in self._works.values():
            work.cancel()

    async def _loaded(self, request: ProvisioningRequest) -> StepState:
        """The state of the first sync: of the first pipeline that is not done."""
        try:
            tenant = await in_thread(self._platform.catalog.tenants.get, request.tenant_key, within_s=CATALOG_S)
        except UnknownTenant:
            return "failed"
        for wish in self._wishes(tenant, request):
            run_id = await in_thread(self._platform.catalog.launches.run_of, tenant, wish.key or "", within_s=CATALOG_S)
            if run_id is None:
                return "waiting"
            try:
                async with asyncio.timeout(LIST_S):
                    run = await self._dagster.run(run_id)
            except UnknownRun:
                return "failed"
            except (TimeoutError, DagsterUnavailable):
                return "running"
            state = _RUN_STATES.get(run.status, "running")
            if state != "done":
                return "running" if state == "waiting" else state
        return "done"

    def _wishes(self, tenant: Tenant, request: ProvisioningRequest) -> list[Wish]:
        names = [pipeline.name for pipeline in self._pipelines_of(tenant)]
        return [Wish(name, request.actor, f"first:{request.id}:{name}") for name in names]

    def _take_up(self, request: ProvisioningRequest) -> None:
        if request.id not in self._works:
            self._works[request.id] = work = asyncio.create_task(self._bring_in(request))
            work.add_done_callback(lambda _: self._works.pop(request.id, None))

    async def _bring_in(self, request: ProvisioningRequest) -> None:
        """Until the runs are launched. What fails is tried again: Dagster may only be starting."""
        deadline = time.monotonic() + _TRIED_FOR_S
        while time.monotonic() < deadline:
            try:
                request = await self._job.carried_out(request)
                if request.failure is not None:
                    return
                if request.has_ended:
                    tenant = await in_thread(self._platform.catalog.tenants.get, request.tenant_key, within_s=CATALOG_S)
                    for wish in self._wishes(tenant, request):
                        await self._launches.launch(tenant, wish)
                    return
            except (DagsterUnavailable, CatalogUnavailable) as error:
                _log.warning("%s cannot be brought in yet: %s", request.tenant_key, error.message)
                await asyncio.sleep(_AGAIN_S)
            except ExplorerError as error:
                _log.warning("%s cannot be brought in: %s [%s]", request.tenant_key, error.message, error.code)
                break
        self._stuck.add(request.id)
