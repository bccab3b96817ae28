"""Has a tenant of a workspace gone from its owner? Then its login loses the right too, and nobody waits for that."""

import asyncio
import logging
from uuid import UUID

from explorer.core.errors import ExplorerError
from mcp_bridge.gate.tool import Call
from mcp_bridge.runs.provisioning import ProvisioningJob

_log = logging.getLogger(__name__)


class LostMembers:
    """Asks the provisioning job once for each set of tenants that a workspace has lost. For use inside one event loop."""

    def __init__(self, job: ProvisioningJob) -> None:
        self._job = job
        self._seen: dict[UUID, frozenset[str]] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    def notice(self, call: Call) -> None:
        """A call that does not see all tenants of its workspace. Does not wait."""
        workspace = call.over
        lost = frozenset(workspace.keys) - {member.admitted.tenant.key for member in call.members}
        if self._seen.get(workspace.id) == lost:
            return
        self._seen[workspace.id] = lost
        task = asyncio.create_task(self._align(workspace.id, call.caller.actor))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def close(self) -> None:
        """Wait for nothing any more; what was asked is done all the same."""
        for task in self._tasks:
            task.cancel()

    async def _align(self, workspace: UUID, actor: str) -> None:
        async def quiet(value: float, total: float | None, message: str) -> None:
            return None

        try:
            await self._job.aligned(workspace, actor, quiet)
        except ExplorerError as error:
            # The next call that notices asks again.
            self._seen.pop(workspace, None)
            _log.warning("The rights of workspace %s could not be taken back: %s", workspace, error.message)
