"""One migrated catalog per test session, and a way to make tenants in it."""

from collections.abc import Callable, Iterator
from uuid import uuid4

import pytest

from explorer_dagster.catalog import ApiKeyCredential, Catalog, Tenant, migrate
from explorer_dagster.catalog.registration import Place
from explorer_dagster.catalog.schemas import Passwords
from explorer_dagster.postgres.connections import Connections
from explorer_dagster.postgres.provisioning import new_prefix
from tests.conftest import PgServer


@pytest.fixture(scope="session")
def catalog(pg_server: PgServer, connections: Connections) -> Iterator[Catalog]:
    """The catalog of the test server, opened as every process opens it."""
    migrate(connections)
    with Catalog.open(pg_server.settings) as catalog:
        yield catalog


@pytest.fixture
def make_tenant(catalog: Catalog) -> Callable[[], Tenant]:
    """Rows of a new active tenant whose schemas are said to be active; the database itself has no such schemas."""

    def make() -> Tenant:
        name = f"domain-{uuid4().hex[:12]}"
        tenant = catalog.registration.begin(Place(f"t:{name}", "commcare", "https://www.commcarehq.org", name), new_prefix())
        passwords = Passwords(rw="rw-password", ro="ro-password")
        catalog.schemas.start(tenant, new_prefix(), passwords)
        return catalog.registration.complete(tenant, ApiKeyCredential("user@example.org", "k" * 40), passwords, "A project")

    return make


@pytest.fixture
def tenant(make_tenant: Callable[[], Tenant]) -> Tenant:
    """A tenant of the test's own."""
    return make_tenant()
