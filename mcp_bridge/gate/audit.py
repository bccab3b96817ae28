"""What does the audit trail record of each call, and which error texts are only for the operator?"""

import logging
import time

from explorer.catalog import AuditEntry, CatalogNotReady, KeyringInvalid, KeyringMismatch
from explorer.core.errors import ExplorerError, SettingsInvalid
from explorer.postgres.errors import DatabaseNotReady, DatabaseUnreachable, ProvisioningRefused
from mcp_bridge.clients.platform_database import PlatformDatabase
from mcp_bridge.clients.timeouts import CATALOG_S, in_thread
from mcp_bridge.gate.access import Caller
from mcp_bridge.gate.tool import Call, Tool

_log = logging.getLogger(__name__)


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
    ProvisioningRefused,
    SettingsInvalid,
)


def for_caller(error: ExplorerError, caller: Caller | None) -> ExplorerError:
    """The error as the caller may read it. Only the operator sees details of the installation; for others they are logged."""
    if not isinstance(error, _OF_THE_INSTALLATION) or (caller is not None and caller.grants is None):
        return error
    _log.warning("%s [%s] %s", error.message, error.code, error.next_step)
    return type(error)(
        "The platform's database or settings cannot be used at present.",
        next_step="Try again in a moment; if it lasts, tell the operator: the bridge's log has the cause.",
    )


class AuditTrail:
    """Writes calls to the catalog."""

    def __init__(self, platform: PlatformDatabase) -> None:
        self._platform = platform

    async def write(self, tool: Tool, call: Call, outcome: str, refusal: ExplorerError | None, started: float) -> None:
        """`started`: start of the call by the monotonic clock; `refusal`: why nothing was done. Raises: AuditUnavailable."""
        entry = AuditEntry(
            actor=call.caller.actor,
            action=tool.name,
            tenant_key=call.tenant.key if call.tenant else None,
            outcome=outcome,
            code=refusal.code if refusal else None,
            detail=dict(call.audit),
            duration_ms=elapsed_ms(started),
        )
        try:
            await in_thread(lambda: self._platform.catalog.audit.append(entry), within_s=CATALOG_S)
        except ExplorerError as cause:
            unreachable = for_caller(cause, call.caller)
            if refusal is not None and refusal.code == unreachable.code:
                return  # the call was refused for the same cause; nothing was done, and the caller gets that cause
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

    async def write_quietly(self, tool: Tool, call: Call, outcome: str, started: float) -> None:
        """The same for a call that was cancelled: a failure is only logged."""
        try:
            await self.write(tool, call, outcome, None, started)
        except ExplorerError as error:
            _log.warning("A cancelled call of %s is not in the audit trail: %s", tool.name, error.message)


def elapsed_ms(started: float) -> int:
    """Milliseconds since `started`, by the monotonic clock."""
    return round((time.monotonic() - started) * 1000)
