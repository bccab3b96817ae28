"""What commands have in common: settings, the log file, and a catalog that is there even while the platform is stopped."""

import contextlib
import logging
import logging.handlers
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from explorer.core.settings import Settings, get_settings
from explorer_cli.errors import AlreadyRunning
from explorer_cli.home import Lock, open_home
from explorer_cli.parts import stop_database

if TYPE_CHECKING:
    from explorer.catalog import Catalog
    from explorer.postgres.connections import Connections

LOG_BYTES = 5 * 1024 * 1024


@dataclass(frozen=True)
class Store:
    """The catalog and the logins it is reached with."""

    settings: Settings
    catalog: "Catalog"
    connections: "Connections"


def open_settings(*, writable: bool = True) -> Settings:
    """The settings, with HOME made and the log file open. Commands that only look or stop do not need it `writable`.

    Raises SettingsInvalid, HomeNotUsable.
    """
    settings = get_settings()
    open_home(settings.home, writable=writable)
    # A log that cannot be written must not fill the terminal with its own tracebacks.
    logging.raiseExceptions = False
    handler = logging.handlers.RotatingFileHandler(
        settings.home / "logs" / "explorer.log", maxBytes=LOG_BYTES, backupCount=2, encoding="utf-8", delay=True
    )
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
    root = logging.getLogger()
    root.handlers = [handler]
    root.setLevel(logging.WARNING)
    logging.getLogger("explorer_cli").setLevel(settings.log_level.upper())
    return settings


@contextlib.contextmanager
def open_store(settings: Settings, prepare: "Callable[[Settings], Connections] | None" = None) -> Iterator[Store]:
    """The catalog; where the platform is stopped, the embedded database runs for the length of the block.

    `prepare` makes sure that the database is there; by default it makes nothing. Raises DatabaseNotReady and what it raises.
    """
    from explorer import installation as bootstrap
    from explorer.catalog import Catalog

    with _database_for_a_while(settings):
        connections = (prepare or bootstrap.prepare)(settings)
        catalog = Catalog.open(settings)
        try:
            yield Store(settings, catalog, connections)
        finally:
            catalog.close()


def record_traceback(error: Exception) -> Path | None:
    """Write what happened to the log; None when there is none to write to."""
    try:
        settings = open_settings()
        logging.getLogger("explorer_cli").error("Unforeseen", exc_info=error)
    except Exception:
        return None
    return settings.home / "logs" / "explorer.log"


@contextlib.contextmanager
def _database_for_a_while(settings: Settings) -> Iterator[None]:
    """Stop the embedded database afterwards if it did not run before; the lock keeps `explorer up` off it meanwhile."""
    lock = Lock(settings.home)
    try:
        lock.acquire()
    except AlreadyRunning:
        yield
        return
    try:
        ran = _embedded_runs(settings)
        try:
            yield
        finally:
            if not ran:
                stop_database(settings, force=False)
    finally:
        lock.release()


def _embedded_runs(settings: Settings) -> bool:
    from explorer.postgres.bootstrap import embedded_from

    return settings.database_url is None and embedded_from(settings).is_running()
