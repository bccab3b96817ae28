"""What must stand before anything can run: the database server, its roles and databases, the catalog's tables."""

import psycopg

from explorer_dagster.catalog import Catalog, migrate
from explorer_dagster.errors import ExplorerError
from explorer_dagster.postgres import Connections, ensure_database, load_connections
from explorer_dagster.settings import Settings


def prepare(settings: Settings) -> Connections:
    """Start the embedded server if needed, bootstrap it and bring the catalog to the current version; quick when all is done.

    Safe to call from several processes at once. Raises the typed errors of `postgres` and `catalog`.
    """
    try:
        connections = load_connections(settings)
        with psycopg.connect(**connections.dagster.conninfo(), connect_timeout=5):
            Catalog.open(settings)
    except (ExplorerError, psycopg.OperationalError):
        connections = ensure_database(settings)
        migrate(connections)
    return connections
