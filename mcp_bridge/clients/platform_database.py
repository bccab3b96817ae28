"""Where are the catalog and the tenants' schemas right now? Opened at first use, and again when the database has moved.

Nothing connects at the start. The bridge can start while the database is down, and then each call reports that.
"""

import threading
import time
from collections.abc import Callable

from explorer.catalog import AsyncCatalog, Catalog
from explorer.core.settings import Settings
from explorer.postgres.connections import Connections, Login, is_external, load_connections, over_socket
from explorer.postgres.state import record_mark
from mcp_bridge.clients.timeouts import CATALOG_S, in_thread

# A call asks several times, and each look is one at the file system.
_LOOKED_EVERY_S = 0.2


class PlatformDatabase:
    """The catalog and the logins of one installation. Thread-safe, but for `calls`, which belongs to one event loop."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._lock = threading.Lock()
        self._catalog: tuple[Login, Catalog] | None = None
        self._calls: tuple[Login, AsyncCatalog] | None = None
        # Called with what a bridge of this catalog passed to `AsyncCatalog.want`.
        self.on_wanted: Callable[[str], None] = lambda _: None
        self._looked_s = 0.0
        self._connections: tuple[tuple[int, int] | None, Connections] | None = None

    @property
    def catalog(self) -> Catalog:
        """The catalog. Blocks; raises the errors of `Catalog.open`."""
        with self._lock:
            login = self.connections.service
            if self._catalog is None or self._catalog[0] != login:
                self._catalog = (login, Catalog.open(self._settings))
            return self._catalog[1]

    async def calls(self) -> AsyncCatalog:
        """The catalog's part that serves calls. Raises the errors of `Catalog.open` and DatabaseTimeout."""
        login = self.connections.service
        if self._calls is None or self._calls[0] != login:
            catalog = await in_thread(lambda: self.catalog, within_s=CATALOG_S)
        # Another call may have made it meanwhile.
        if self._calls is None or self._calls[0] != login:
            self.close_calls()
            self._calls = (
                login,
                AsyncCatalog(
                    login,
                    lambda: catalog.keyring,
                    within_s=CATALOG_S,
                    window_s=self._settings.budget_window_s,
                    on_wanted=self._wanted,
                ),
            )
        return self._calls[1]

    def _wanted(self, what: str) -> None:
        self.on_wanted(what)

    def close_calls(self) -> None:
        """Close the connections of `calls`."""
        if self._calls is not None:
            self._calls[1].close()
            self._calls = None

    @property
    def connections(self) -> Connections:
        """The connection settings, read again when they change: a restarted database may have another port."""
        cached, now_s = self._connections, time.monotonic()
        if cached is not None and now_s < self._looked_s + _LOOKED_EVERY_S:
            return cached[1]
        mark = record_mark(self._settings.home)
        given = self._settings.catalog_url is not None
        if cached is None or (not given and (mark is None or cached[0] != mark)):
            connections = load_connections(self._settings)
            if not is_external(self._settings):
                connections = over_socket(connections, self._settings.home)
            cached = self._connections = (mark, connections)
        self._looked_s = now_s
        return cached[1]
