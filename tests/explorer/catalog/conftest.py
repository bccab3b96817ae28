"""One migrated catalog per test session, and a way to make tenants in it."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from uuid import uuid4

import pytest

from explorer.catalog import ApiKeyCredential, Catalog, Credential, Tenant, migrate
from explorer.catalog.lifecycle.registration import Place
from explorer.catalog.lifecycle.schemas import Passwords
from explorer.postgres.audit_schema import make_audit_schema
from explorer.postgres.connections import Connections
from explorer.postgres.provisioning import new_prefix
from tests.conftest import PgServer

API_KEY = ApiKeyCredential("user@example.org", "k" * 40)


@pytest.fixture(scope="session")
def catalog(pg_server: PgServer, connections: Connections) -> Iterator[Catalog]:
    """The catalog of the test server, opened as every process opens it."""
    migrate(connections)
    with Catalog.open(pg_server.settings) as catalog:
        yield catalog


@pytest.fixture
def make_tenant(catalog: Catalog) -> Callable[..., Tenant]:
    """Rows of a new active tenant whose schemas are said to be active; the database itself has no such schemas."""

    def make(credential: Credential = API_KEY) -> Tenant:
        name = f"domain-{uuid4().hex[:12]}"
        place = Place(f"t:{name}", "commcare", "https://www.commcarehq.org", name, name, "project space")
        tenant = catalog.registration.begin(place, new_prefix())
        passwords = Passwords(rw="rw-password", ro="ro-password")
        catalog.schemas.start(tenant, new_prefix(), passwords)
        return catalog.registration.complete(place, tenant, credential, passwords, "A project")

    return make


@pytest.fixture
def tenant(make_tenant: Callable[..., Tenant]) -> Tenant:
    """A tenant of the test's own."""
    return make_tenant()


@pytest.fixture
def blank(connections: Connections) -> Iterator[Connections]:
    """A blank database for one test."""
    with blank_database(connections) as blank:
        yield blank


@contextmanager
def blank_database(connections: Connections) -> Iterator[Connections]:
    """A database with an empty schema `catalog` and the audit trail's, as the platform's set-up leaves it."""
    name = f"blank_{uuid4().hex[:8]}"
    with connections.admin.connect(autocommit=True) as conn:
        conn.execute(f"CREATE DATABASE {name} TEMPLATE template0")
    more = {role: replace(login, dbname=name) for role, login in connections.more.items()}
    blank = Connections(replace(connections.service, dbname=name), more)
    try:
        with blank.admin.connect(autocommit=True) as conn:
            conn.execute("CREATE SCHEMA catalog AUTHORIZATION explorer_catalog")
            conn.execute("GRANT USAGE ON SCHEMA catalog TO explorer_service")
            with conn.transaction():
                make_audit_schema(conn)
        yield blank
    finally:
        with connections.admin.connect(autocommit=True) as conn:
            conn.execute(f"DROP DATABASE {name} WITH (FORCE)")
