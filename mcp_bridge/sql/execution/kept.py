"""The idle sessions of a bridge, of all its tenants, for their next calls. For use inside one event loop.

A session belongs to the executor that opened it, and so to one tenant, one login, one search path.
"""

import asyncio
from collections import OrderedDict
from collections.abc import Callable

from mcp_bridge.sql.execution.session import Session

# Over all tenants. Each takes memory of the server, and one of its connections.
_MAX_IDLE = 24
_IDLE_S = 30.0


class KeptSessions:
    """Idle sessions, each for `_IDLE_S` at most; the ones that have been idle longest make room for others."""

    def __init__(self) -> None:
        self._idle: OrderedDict[Session, tuple[object, Callable[[Session], object], asyncio.TimerHandle]] = (
            OrderedDict()
        )

    def put(self, owner: object, session: Session, end: Callable[[Session], object]) -> None:
        """Keep a session that was reset; `end` closes it when it is no longer kept."""
        timer = asyncio.get_running_loop().call_later(_IDLE_S, self._drop, session)
        self._idle[session] = owner, end, timer
        if len(self._idle) > _MAX_IDLE:
            self.drop_oldest()

    def take(self, owner: object) -> Session | None:
        """The owner's session that was used last, because its caches are warm; those that the server has ended are dropped."""
        for session in [session for session, kept in reversed(self._idle.items()) if kept[0] is owner]:
            if session.is_ready:
                self._idle.pop(session)[2].cancel()
                return session
            self._drop(session)
        return None

    def drop_oldest(self, owner: object | None = None) -> bool:
        """End the session that has been idle longest, of this owner or of all; False when there is none."""
        for session, kept in self._idle.items():
            if owner is None or kept[0] is owner:
                self._drop(session)
                return True
        return False

    def drop_all(self, owner: object) -> None:
        """End the owner's sessions."""
        for session in [session for session, kept in self._idle.items() if kept[0] is owner]:
            self._drop(session)

    def _drop(self, session: Session) -> None:
        _, end, timer = self._idle.pop(session)
        timer.cancel()
        end(session)
