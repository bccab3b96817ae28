"""The catalog for commands; it works also while the platform is stopped."""

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from explorer.catalog import Catalog
from explorer.core.settings import Settings
from explorer.installation import prepare as prepare_installation
from explorer.postgres.connections import Connections, is_external
from explorer.postgres.embedded import embedded_from
from explorer_cli.errors import AlreadyRunning
from explorer_cli.platform.database import stop_database
from explorer_cli.supervision.lock import Lock


@dataclass(frozen=True)
class Store:
    """The catalog and the logins that reach it."""

    settings: Settings
    catalog: Catalog
    connections: Connections


@contextlib.contextmanager
def open_store(
    settings: Settings, prepare: Callable[[Settings], Connections] = prepare_installation
) -> Iterator[Store]:
    """Open the catalog; while the platform is stopped, the embedded database runs during the block.

    `prepare` makes sure that the database exists; the default creates nothing. Raises DatabaseNotReady and the errors of
    `prepare`.
    """
    with _database_for_a_while(settings):
        connections = prepare(settings)
        catalog = Catalog.open(settings)
        try:
            yield Store(settings, catalog, connections)
        finally:
            catalog.close()


@contextlib.contextmanager
def _database_for_a_while(settings: Settings) -> Iterator[None]:
    """Stop the embedded database afterwards if it did not run before; the lock keeps `explorer up` away meanwhile."""
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
    return not is_external(settings) and embedded_from(settings).is_running()
