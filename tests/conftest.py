"""One PostgreSQL for the whole test run, and throwaway tenants in it."""

import secrets
import shutil
import signal
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from explorer.catalog import Keyring
from explorer.contract.schemas import TenantSchemas
from explorer.core.settings import Settings
from explorer.postgres.bootstrap import ensure_database
from explorer.postgres.connections import Connections, Login
from explorer.postgres.embedded import EmbeddedPostgres
from explorer.postgres.provisioning import deprovision, new_prefix, provision

# A process in the background of a shell ignores Ctrl-C, and so would the children that tests interrupt.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


# Folders and files that take minutes: they come first, so that no worker is left alone with one at the end. The first ones share
# the platform of their worker and come in this order: the last of them stops it.
LONG = (
    "e2e/test_one_path.py",
    "e2e/test_broken_runs.py",
    "e2e/test_types.py",
    "e2e/test_operation.py",
    "e2e/",
    "mcp_bridge/runs/test_launches.py",
    "explorer_dagster/assets/",
    "explorer_dagster/",
    "explorer_cli/",
    "mcp_bridge/gate/",
)


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--all-homes", action="store_true", help="bring up a HOME of each packed version, not of the last one"
    )


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The order of the files."""
    here = Path(__file__).parent

    def rank(item: pytest.Item) -> int:
        file = item.path.relative_to(here).as_posix()
        return next((place for place, name in enumerate(LONG) if file.startswith(name)), len(LONG))

    items.sort(key=rank)


@dataclass(frozen=True)
class PgServer:
    """A running, set up server: `settings` has its HOME, `connections` the platform's logins."""

    home: Path
    settings: Settings
    connections: Connections


@contextmanager
def throwaway_home() -> Iterator[Path]:
    """A HOME that does not exist yet; its server and data are removed afterwards."""
    parent = Path(tempfile.mkdtemp(prefix="explorer-tests-"))
    # When root starts it, the server runs as another account, which must be able to enter this folder.
    parent.chmod(0o711)
    try:
        yield parent / "home"
    finally:
        EmbeddedPostgres(parent / "home").remove_data()
        shutil.rmtree(parent)


@contextmanager
def own_server() -> Iterator[PgServer]:
    """An embedded server in a HOME of its own, without fsync; removed with its data afterwards."""
    with throwaway_home() as home:
        settings = Settings(_env_file=None, home=home, database_url=None)
        connections = ensure_database(settings, server=EmbeddedPostgres(home, fsync=False))
        Keyring.make(settings)
        yield PgServer(home, settings, connections)


@pytest.fixture(scope="session")
def pg_server() -> Iterator[PgServer]:
    """The server of the whole run."""
    with own_server() as server:
        yield server


@pytest.fixture(scope="session")
def connections(pg_server: PgServer) -> Connections:
    """The platform's logins on the test server."""
    return pg_server.connections


@dataclass(frozen=True)
class Tenant:
    """A provisioned tenant with its two logins."""

    prefix: str
    names: TenantSchemas
    rw: Login
    ro: Login


@contextmanager
def tenants(connections: Connections) -> Iterator[Callable[..., Tenant]]:
    """Inside, `make(expose_raw=False)` provisions tenants; at the end all of them are removed."""
    made: list[str] = []

    def make(*, expose_raw: bool = False) -> Tenant:
        names = TenantSchemas(new_prefix())
        rw_password, ro_password = secrets.token_urlsafe(16), secrets.token_urlsafe(16)
        with connections.admin.connect(autocommit=True) as conn:
            provision(conn, names.prefix, rw_password=rw_password, ro_password=ro_password, expose_raw=expose_raw)
        made.append(names.prefix)
        return Tenant(
            names.prefix, names, connections.tenant(names.rw, rw_password), connections.tenant(names.ro, ro_password)
        )

    try:
        yield make
    finally:
        with connections.admin.connect(autocommit=True) as conn:
            for prefix in made:
                deprovision(conn, prefix)


@pytest.fixture
def make_tenant(connections: Connections) -> Iterator[Callable[..., Tenant]]:
    """`make_tenant(expose_raw=False)` provisions a tenant that is removed after the test."""
    with tenants(connections) as make:
        yield make
