"""Where are the catalog and the tenants' schemas right now? Opened at first use, and again when the database has moved.

Nothing connects at the start. The bridge can start while the database is down, and then each call reports that.
"""

import threading

from explorer.catalog import Catalog
from explorer.core.settings import Settings
from explorer.postgres.connections import Connections, Login, load_connections
from explorer.postgres.state import record_mark


class PlatformDatabase:
    """The catalog and the logins of one installation. Thread-safe."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._lock = threading.Lock()
        self._catalog: tuple[Login, Catalog] | None = None
        self._connections: tuple[tuple[int, int] | None, Connections] | None = None

    @property
    def catalog(self) -> Catalog:
        """The catalog. Blocks; raises the errors of `Catalog.open`."""
        with self._lock:
            login = self.connections.service
            if self._catalog is None or self._catalog[0] != login:
                self._catalog = (login, Catalog.open(self._settings))
            return self._catalog[1]

    @property
    def connections(self) -> Connections:
        """The connection settings, read again when they change: a restarted database may have another port."""
        mark = record_mark(self._settings.home)
        cached = self._connections
        if cached is None or mark is None or cached[0] != mark:
            cached = self._connections = (mark, load_connections(self._settings))
        return cached[1]
