"""One connection for each tenant's loader login, which all calls about the tenant share, for what each of them asks.

Unlike `loader_connections` it needs no thread: a thread that has its answer waits until the event loop lets go of the
interpreter, which takes longer than the answer. The server itself ends a connection that was idle for a minute.
"""

from collections import OrderedDict
from collections.abc import Awaitable, Callable
from dataclasses import replace

import psycopg

from explorer.postgres.connections import Login
from explorer.postgres.errors import DatabaseUnreachable
from explorer.postgres.shared_connection import SharedConnection
from mcp_bridge.clients.timeouts import DatabaseTimeout

# Over all tenants.
_OPEN = 16
_NEXT_STEP = "Try again in a moment; if it lasts, tell the operator (`explorer status`)."
_OPTIONS = "-c default_transaction_read_only=on -c idle_session_timeout=60s -c datestyle=ISO"


class SharedLoaders:
    """Read-only connections by login name, of the tenants that were asked about last. For use inside one event loop."""

    def __init__(self, within_s: float) -> None:
        """`within_s`: the most that one request waits."""
        self._within_s = within_s
        self._open: OrderedDict[str, SharedConnection] = OrderedDict()

    async def ask(self, role: str, login: Callable[[], Awaitable[Login]], statement: bytes) -> bytes | None:
        """The first value that `statement` gives, as text. `login` is called only when there is no connection of `role`.

        Raises:
            DatabaseTimeout: it took longer than `within_s`. DatabaseUnreachable: it gave none. The errors of `login`.
        """
        shared = self._open.get(role)
        if shared is None:
            shared = self._of(role, await login())
        self._open.move_to_end(role)
        try:
            return await shared.ask(statement)
        except TimeoutError:
            raise DatabaseTimeout(
                f"The database has not answered for {self._within_s:g} s.", next_step=_NEXT_STEP
            ) from None
        except psycopg.Error as error:
            # Perhaps the login is no longer the same.
            if self._open.get(role) is shared:
                del self._open[role]
            shared.close()
            raise DatabaseUnreachable("The tenant's database gave no answer.", next_step=_NEXT_STEP) from error

    def close(self) -> None:
        """Close the connections."""
        while self._open:
            self._open.popitem()[1].close()

    def _of(self, role: str, login: Login) -> SharedConnection:
        """The connection of `role`, which another call may have made meanwhile."""
        if role not in self._open:
            own = login.options.get("options", "")
            options = {**login.options, "options": f"{own} {_OPTIONS}".strip()}
            self._open[role] = SharedConnection(
                replace(login, options=options), application_name="explorer-facts", within_s=self._within_s
            )
            if len(self._open) > _OPEN:
                self._open.popitem(last=False)[1].close()
        return self._open[role]
