"""Logs signed heads of the audit trail, at intervals and when the bridge stops (`explorer.catalog.audit.heads` says what for)."""

import asyncio
import logging
from collections.abc import Callable

from explorer.catalog import HeadKey
from mcp_bridge.clients.platform_database import PlatformDatabase
from mcp_bridge.clients.timeouts import CATALOG_S, in_thread

_log = logging.getLogger("explorer.audit")
# Heads are evidence: they are logged whatever EXPLORER_LOG_LEVEL leaves out.
_log.setLevel(logging.INFO)


class AuditHeads:
    """Logs the head when it has changed since the last time."""

    def __init__(self, platform: PlatformDatabase, key: Callable[[], HeadKey] | None, interval_s: float) -> None:
        """`key` is called when needed, because it may be in HOME; without it nothing is signed here."""
        self._platform, self._key, self._interval_s = platform, key, interval_s
        self._logged: int | None = None

    async def keep_logging(self) -> None:
        """Until cancelled."""
        if self._key is None:
            _log.info("This bridge signs no heads of the audit trail: EXPLORER_AUDIT_KEY is not set.")
            return
        while True:
            await self.log()
            await asyncio.sleep(self._interval_s)

    async def log(self) -> None:
        """Log the head now, if it is another one. A failure is only logged."""
        if (key := self._key) is None:
            return
        try:
            signed = await in_thread(lambda: key().sign(self._platform.catalog.audit.head()), within_s=CATALOG_S)
        except Exception as error:
            # Whatever it is, the next try may do, and the bridge goes on.
            _log.warning("The head of the audit trail cannot be signed: %s", error)
            return
        if signed.head.id != self._logged:
            _log.info("%s", signed.as_line())
            self._logged = signed.head.id
