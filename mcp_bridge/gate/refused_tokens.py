"""Writes to the audit trail that tokens were refused: the first at once, further ones as a number per minute.

Whoever sends them is unknown, and may send many: the trail must not grow with them.
"""

import asyncio
import logging

from mcp.server.auth.provider import AccessToken, TokenVerifier

from explorer.catalog import ANONYMOUS, AuditEntry
from mcp_bridge.clients.platform_database import PlatformDatabase
from mcp_bridge.clients.timeouts import CATALOG_S, in_thread
from mcp_bridge.metrics import BridgeMetrics

_PAUSE_S = 60.0
_log = logging.getLogger(__name__)


class RefusedTokens:
    """Counts refused tokens. For use inside one event loop."""

    def __init__(self, platform: PlatformDatabase, metrics: BridgeMetrics) -> None:
        self._platform, self._metrics = platform, metrics
        self._count = 0
        self._some = asyncio.Event()

    def note(self) -> None:
        """A token was refused. Does not block."""
        self._count += 1
        self._metrics.token_refused()
        self._some.set()

    async def keep_writing(self) -> None:
        """Until cancelled."""
        while True:
            await self._some.wait()
            await self.write()
            await asyncio.sleep(_PAUSE_S)

    async def write(self) -> None:
        """Write what was counted. A failure is only logged, and the count kept."""
        count, self._count = self._count, 0
        self._some.clear()
        if not count:
            return
        entry = AuditEntry(ANONYMOUS, "refused_token", None, "denied", "token_invalid", {"count": count})
        try:
            await in_thread(lambda: self._platform.catalog.audit.append(entry), within_s=CATALOG_S)
        except Exception as error:
            _log.warning("Refused tokens are not in the audit trail yet: %s", error)
            self._count += count


class NotingVerifier:
    """The SDK's TokenVerifier that notes what another one refuses."""

    def __init__(self, verifier: TokenVerifier, refused: RefusedTokens) -> None:
        self._verifier, self._refused = verifier, refused

    async def verify_token(self, token: str) -> AccessToken | None:
        """As the other verifier."""
        found = await self._verifier.verify_token(token)
        if found is None:
            self._refused.note()
        return found
