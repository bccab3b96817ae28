"""What does the audit trail record of each call, and which error texts are only for the operator?"""

import asyncio
import logging
import time
from collections.abc import Sequence

from explorer.catalog import AuditEntry, CatalogNotReady, KeyringInvalid, KeyringMismatch, KeyringMissing, Spent, Used
from explorer.core.errors import ExplorerError, SettingsInvalid
from explorer.postgres.errors import DatabaseNotReady, DatabaseUnreachable, LoginMissing, ProvisioningRefused
from mcp_bridge.clients.platform_database import PlatformDatabase
from mcp_bridge.gate.access import Caller
from mcp_bridge.gate.tool import Call, Tool

_log = logging.getLogger(__name__)
# Entries that are committed together at most.
_GROUP = 100


class AuditUnavailable(ExplorerError):
    """The audit trail cannot be written, so the call is refused."""

    code = "audit_unavailable"


# The messages of these errors name addresses, logins, folders and settings of the installation.
_OF_THE_INSTALLATION = (
    CatalogNotReady,
    DatabaseNotReady,
    DatabaseUnreachable,
    KeyringInvalid,
    KeyringMismatch,
    KeyringMissing,
    LoginMissing,
    ProvisioningRefused,
    SettingsInvalid,
)
_CODES_OF_THE_INSTALLATION = frozenset(kind.code for kind in _OF_THE_INSTALLATION)


def for_caller(error: ExplorerError, caller: Caller | None) -> ExplorerError:
    """The error as the caller may read it. Only the operator sees details of the installation; for others they are logged."""
    # By its code too: an error of the provisioning job's worker has only that.
    if not (isinstance(error, _OF_THE_INSTALLATION) or error.code in _CODES_OF_THE_INSTALLATION) or (
        caller is not None and caller.grants is None
    ):
        return error
    _log.warning("%s [%s] %s", error.message, error.code, error.next_step)
    hidden = type(error)(
        "The platform's database or settings cannot be used at present.",
        next_step="Try again in a moment; if it lasts, tell the operator: the bridge's log has the cause.",
    )
    hidden.code = error.code
    return hidden


class _Group:
    """Commits the entries of concurrent calls together: while one group is written, the next one gathers."""

    def __init__(self, platform: PlatformDatabase) -> None:
        self._platform = platform
        self._next: list[tuple[AuditEntry, Spent | None, asyncio.Future[Used | None]]] = []
        self._writing: asyncio.Task[None] | None = None

    async def append(self, entry: AuditEntry, spent: Spent | None) -> Used | None:
        """Add the entry with what its call has used; returns what is used now, when it is committed. Raises the errors of
        `AsyncCatalog.append`, also to the others of the group."""
        written: asyncio.Future[Used | None] = asyncio.get_running_loop().create_future()
        self._next.append((entry, spent, written))
        if self._writing is None:
            self._writing = asyncio.create_task(self._write())
        return await written

    async def _write(self) -> None:
        try:
            while self._next:
                group, self._next = self._next[:_GROUP], self._next[_GROUP:]
                found = await self._written([entry for entry, _, _ in group], [spent for _, spent, _ in group if spent])
                for _, spent, written in group:
                    if written.done():
                        continue  # its call was cancelled
                    if isinstance(found, Exception):
                        written.set_exception(found)
                    else:
                        written.set_result(found.get(spent.key) if spent else None)
        finally:
            self._writing = None

    async def _written(self, entries: list[AuditEntry], spent: list[Spent]) -> dict[str, Used] | Exception:
        try:
            return await (await self._platform.calls()).append(entries, spent)
        except Exception as error:
            return error


class AuditTrail:
    """Writes calls to the catalog. For use inside one event loop."""

    def __init__(self, platform: PlatformDatabase) -> None:
        self._group = _Group(platform)

    async def write(
        self,
        tool: Tool,
        call: Call,
        outcome: str,
        refusal: ExplorerError | None,
        started: float,
        spent: Sequence[Spent | None] = (),
    ) -> list[Used | None]:
        """An entry for each tenant that the call is for. `started`: start of the call by the monotonic clock; `refusal`: why
        nothing was done; `spent`: of the budgets of `call.shares`, in their order. Returns what is used now of each. Raises:
        AuditUnavailable."""
        entries = [
            AuditEntry(
                actor=call.caller.actor,
                action=tool.name,
                tenant_key=key,
                outcome=outcome,
                code=refusal.code if refusal else None,
                detail=dict(call.audit),
                duration_ms=elapsed_ms(started),
            )
            for key, _ in call.shares
        ]
        given = spent or [None] * len(entries)
        try:
            return await asyncio.gather(*map(self._group.append, entries, given))
        except ExplorerError as cause:
            unreachable = for_caller(cause, call.caller)
            if refusal is not None and refusal.code == unreachable.code:
                return []  # the call was refused for the same cause; nothing was done, and the caller gets that cause
            raise AuditUnavailable(
                f"The call could not be written to the audit trail: {unreachable.message}",
                next_step=unreachable.next_step,
            ) from None
        except Exception as error:
            _log.warning("The audit trail cannot be written: %s", error)
            raise AuditUnavailable(
                "The call could not be written to the audit trail.",
                next_step="Tell the operator; the bridge's log has the cause.",
            ) from None

    async def write_quietly(
        self, tool: Tool, call: Call, outcome: str, started: float, spent: Sequence[Spent | None]
    ) -> None:
        """The same for a call that was cancelled: a failure is only logged."""
        try:
            await self.write(tool, call, outcome, None, started, spent)
        except ExplorerError as error:
            _log.warning("A cancelled call of %s is not in the audit trail: %s", tool.name, error.message)


def elapsed_ms(started: float) -> int:
    """Milliseconds since `started`, by the monotonic clock."""
    return round((time.monotonic() - started) * 1000)
