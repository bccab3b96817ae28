"""Asks the provisioning job to make or drop a tenant's schemas, and waits for it.

The bridge has no login that could do it. The request is a row in the catalog, so that another call, by whichever bridge, goes on
waiting where this one stopped.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Self
from uuid import UUID

from explorer.catalog import ProvisioningKind, ProvisioningRequest, Tenant
from explorer.catalog.lifecycle.provisioning import ProvisioningState
from explorer.contract.names import PROVISIONING, PROVISIONING_OP
from explorer.contract.tags import RunTags
from explorer.core.errors import ExplorerError
from mcp_bridge.clients.dagster.client import DagsterClient
from mcp_bridge.clients.dagster.errors import UnknownRun
from mcp_bridge.clients.platform_database import PlatformDatabase
from mcp_bridge.clients.timeouts import CATALOG_S, in_thread

WAIT_S = 45.0
_LOOKS_EVERY_S = 0.3
_LOOKS_AT_RUN_EVERY_S = 3.0
_TELLS_EVERY_S = 10.0
Progress = Callable[[float, float | None, str], Awaitable[None]]


class ProvisioningFailed(ExplorerError):
    """The provisioning job could not do it. Where the job told why, the code is that of the cause."""

    code = "provisioning_failed"

    @classmethod
    def because(cls, failure: Mapping[str, Any]) -> Self:
        """From what the job has left in the request."""
        made = cls(str(failure["message"]), next_step=str(failure["next_step"]))
        made.code = str(failure["code"])
        return made


class ProvisioningJob:
    """Requests of all callers. For use inside one event loop."""

    def __init__(self, platform: PlatformDatabase, dagster: DagsterClient) -> None:
        self._platform, self._dagster = platform, dagster

    async def is_asked(self, kind: ProvisioningKind, tenant: Tenant) -> bool:
        """Whether a run is doing it already, which somebody asked for.

        Raises:
            DagsterUnavailable, CatalogUnavailable.
        """
        found = await in_thread(self._platform.catalog.provisioning.open, tenant, within_s=CATALOG_S)
        return found is not None and found.kind is kind and await self._is_at_work(found.run_id)

    async def done(self, kind: ProvisioningKind, tenant: Tenant, actor: str, progress: Progress) -> ProvisioningRequest:
        """Ask for it and wait; the request has not ended if that takes longer than `WAIT_S`. What was asked before ends first.

        Raises:
            ProvisioningFailed, DagsterUnavailable, LaunchRefused, CatalogUnavailable.
        """
        store, deadline = self._platform.catalog.provisioning, time.monotonic() + WAIT_S
        told = _Told(progress)
        while True:
            request = await in_thread(store.ask, kind, tenant, actor, within_s=CATALOG_S)
            ended = await self._followed(request, deadline, told)
            if request.kind is not kind and ended.has_ended:
                continue
            if request.kind is kind and ended.failure is not None:
                raise ProvisioningFailed.because(ended.failure)
            return ended

    async def aligned(self, workspace: UUID, actor: str, progress: Progress) -> ProvisioningRequest:
        """Ask that the rights of a workspace's login follow what the catalog says now, and wait, as `done`."""
        store, deadline, told = self._platform.catalog.provisioning, time.monotonic() + WAIT_S, _Told(progress)
        while True:
            request = await in_thread(store.ask_for_workspace, workspace, actor, within_s=CATALOG_S)
            # One that is at work may have read what the catalog said before.
            is_old = request.state is ProvisioningState.WORKING
            ended = await self._followed(request, deadline, told)
            if is_old and ended.has_ended:
                continue
            if ended.failure is not None:
                raise ProvisioningFailed.because(ended.failure)
            return ended

    async def carried_out(self, request: ProvisioningRequest) -> ProvisioningRequest:
        """The request when it has ended, or after `WAIT_S`. Raises as `done`, but for what the request itself says."""

        async def quiet(value: float, total: float | None, message: str) -> None:
            return None

        return await self._followed(request, time.monotonic() + WAIT_S, _Told(quiet))

    async def _followed(self, request: ProvisioningRequest, deadline: float, told: "_Told") -> ProvisioningRequest:
        """The request when it has ended, or as it is at the deadline. A run that died without an end is replaced once."""
        tried, look_at = 0, 0.0
        while not request.has_ended and (now := time.monotonic()) < deadline:
            if now >= look_at:
                if not await self._is_at_work(request.run_id):
                    # It may have ended meanwhile.
                    request = await self._read(request)
                    if request.has_ended:
                        break
                    if tried == 2:
                        failed = ProvisioningFailed(
                            "The provisioning job ended twice without doing what it was asked.",
                            next_step="Tell the operator: the logs of the runs of job `provisioning` have the cause.",
                        )
                        await self._give_up(request, failed)
                        raise failed
                    tried += 1
                    request = await self._launch(request)
                look_at = time.monotonic() + _LOOKS_AT_RUN_EVERY_S
            await told.say(request)
            await asyncio.sleep(_LOOKS_EVERY_S)
            request = await self._read(request)
        return request

    async def _is_at_work(self, run_id: str | None) -> bool:
        if run_id is None:
            return False
        try:
            return not (await self._dagster.run(run_id)).finished
        except UnknownRun:
            return False

    async def _launch(self, request: ProvisioningRequest) -> ProvisioningRequest:
        """Start a run for the request. If another bridge does so too, one of the runs finds nothing left to do."""
        config = {"ops": {PROVISIONING_OP: {"config": {"request": str(request.id)}}}}
        try:
            run = await self._dagster.launch(
                PROVISIONING, None, tags=RunTags(requested_by=request.actor), config=config
            )
        except ExplorerError as error:
            await self._give_up(request, error)
            raise
        await in_thread(self._platform.catalog.provisioning.launched, request.id, run.run_id, within_s=CATALOG_S)
        return await self._read(request)

    async def _give_up(self, request: ProvisioningRequest, error: ExplorerError) -> None:
        """End a request that no run works on: its asker reads of the error, and what was asked today must not be done to what is
        there another day. A run that was started all the same finds nothing left to do. A tenant that is being registered stays
        asked for: that drops nothing, and is tried again while its person waits."""
        if request.kind is ProvisioningKind.REGISTER:
            return
        failure = {"code": error.code, "message": error.message, "next_step": error.next_step}
        await in_thread(self._platform.catalog.provisioning.end, request.id, failure, within_s=CATALOG_S)

    async def _read(self, request: ProvisioningRequest) -> ProvisioningRequest:
        found = await in_thread(self._platform.catalog.provisioning.get, request.id, within_s=CATALOG_S)
        return found or request


class _Told:
    """Tells the caller how far a request is, when that changes and at intervals."""

    def __init__(self, progress: Progress) -> None:
        self._progress, self._count = progress, 0
        self._last, self._at = "", 0.0

    async def say(self, request: ProvisioningRequest) -> None:
        said = f"{request.kind.value} of {request.tenant_key}: {request.state.value}"
        if said != self._last or time.monotonic() >= self._at:
            self._last, self._at = said, time.monotonic() + _TELLS_EVERY_S
            self._count += 1
            await self._progress(float(self._count), None, said)
