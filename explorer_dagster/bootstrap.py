"""What must stand before anything can run: the database server, its roles and databases, the catalog's tables."""

from explorer_dagster.catalog import Catalog, migrate
from explorer_dagster.errors import ExplorerError
from explorer_dagster.postgres.bootstrap import ensure_database
from explorer_dagster.postgres.connections import Connections, load_connections
from explorer_dagster.settings import Settings


def prepare(settings: Settings) -> Connections:
    """Start the embedded server if needed, set it up and bring the catalog to the current version; quick when all is done.

    Safe to call from several processes at once. Raises the typed errors of `postgres` and `catalog`.
    """
    try:
        with Catalog.open(settings):
            return load_connections(settings)
    except ExplorerError:
        connections = ensure_database(settings)
        migrate(connections)
        return connections
