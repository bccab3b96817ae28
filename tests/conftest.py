"""One PostgreSQL for the whole test run, and throwaway tenants in it."""

import shutil
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from explorer_dagster.postgres.bootstrap import ensure_database
from explorer_dagster.postgres.connections import Connections, Login
from explorer_dagster.postgres.embedded import EmbeddedPostgres
from explorer_dagster.settings import Settings


@dataclass(frozen=True)
class PgServer:
    """A running, set up server: `settings` has its HOME, `connections` the platform's logins."""

    home: Path
    settings: Settings
    connections: Connections


@pytest.fixture(scope="session")
def pg_server() -> Iterator[PgServer]:
    """The embedded server in a HOME of its own, without fsync; gone with its data at the end of the run."""
    parent = Path(tempfile.mkdtemp(prefix="explorer-tests-"))
    # Started by root the server runs as another account, which has to pass through here.
    parent.chmod(0o711)
    settings = Settings(_env_file=None, home=parent / "home", database_url=None)
    server = EmbeddedPostgres(settings.home, fsync=False)
    try:
        yield PgServer(settings.home, settings, ensure_database(settings, server=server))
    finally:
        server.remove_data()
        shutil.rmtree(parent)


@pytest.fixture(scope="session")
def connections(pg_server: PgServer) -> Connections:
    """The platform's logins on the test server."""
    return pg_server.connections
