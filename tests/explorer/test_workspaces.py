"""The login of a workspace on a real server: what it may read follows members, grants and schemas, and nothing else does."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from uuid import UUID, uuid4

import psycopg
import pytest

from explorer import tenants
from explorer.catalog import (
    ApiKeyCredential,
    Catalog,
    Scope,
    Tenant,
    UnknownWorkspace,
    Workspace,
    WorkspaceInvalid,
    migrate,
)
from explorer.core.settings import Settings
from explorer.personal_data import realign
from explorer.postgres.connections import Connections
from explorer.provisioning import carry_out
from explorer.workspaces import align, align_all
from tests.conftest import PgServer
from tests.unasked import Unasked

Add = Callable[[], Tenant]


@dataclass(frozen=True)
class Platform:
    settings: Settings
    catalog: Catalog
    connections: Connections

    def add(self) -> Tenant:
        """A tenant with a table `cases` of one row that names it."""
        name = f"w-{uuid4().hex[:10]}"
        tenant = tenants.add_tenant(
            self.settings, self.catalog, self.connections, Unasked("W"), key=f"t:{name}", server="http://127.0.0.1:9",
            external_id=name, credential=ApiKeyCredential("user@example.org", "0123456789abcdef"),
        )  # fmt: skip
        self.as_owner(tenant, f"CREATE TABLE MARTS.cases AS SELECT '{tenant.key}' AS at, '077' AS phone")
        return tenant

    def as_owner(self, tenant: Tenant, statement: str) -> None:
        login = self.catalog.schemas.rw_login(tenant)
        with self.connections.tenant(login.user, login.password).connect() as connection:
            connection.execute(statement.replace("MARTS", self.catalog.schemas.get(tenant).marts).encode())

    def owner(self, *granted: Tenant) -> UUID:
        name = f"agent-{uuid4().hex[:8]}"
        self.catalog.principals.create_token(name, granted, {Scope.QUERY_RUN})
        return self.catalog.principals.id_of(name)

    def made(self, owner: UUID | None, *members: Tenant) -> Workspace:
        workspace = self.catalog.workspaces.set(owner, f"ws-{uuid4().hex[:8]}", members)
        align(self.catalog, self.connections, [workspace])
        return workspace

    def session(self, workspace: Workspace) -> psycopg.Connection:
        password = self.catalog.workspaces.password(workspace)
        return self.connections.tenant(workspace.role, password).connect(autocommit=True)

    def readable(self, session: psycopg.Connection, *candidates: Tenant) -> list[str]:
        """The keys of the tenants whose table the session can read."""
        found = []
        for tenant in candidates:
            try:
                found += session.execute(
                    f"SELECT at FROM {self.catalog.schemas.get(tenant).marts}.cases".encode()
                ).fetchall()
            except (
                psycopg.errors.InsufficientPrivilege,
                psycopg.errors.UndefinedTable,
                psycopg.errors.InvalidSchemaName,
            ):
                continue
        return [key for (key,) in found]


@pytest.fixture(scope="module")
def platform(pg_server: PgServer, connections: Connections) -> Iterator[Platform]:
    migrate(connections)
    with Catalog.open(pg_server.settings) as catalog:
        yield Platform(pg_server.settings, catalog, connections)


@pytest.fixture(scope="module")
def one(platform: Platform) -> Tenant:
    return platform.add()


@pytest.fixture(scope="module")
def two(platform: Platform) -> Tenant:
    return platform.add()


@pytest.fixture(scope="module")
def foreign(platform: Platform) -> Tenant:
    return platform.add()


def test_its_login_reads_the_members_tables_and_nothing_else(
    platform: Platform, one: Tenant, two: Tenant, foreign: Tenant
) -> None:
    workspace = platform.made(platform.owner(one, two), one, two)
    with platform.session(workspace) as session:
        assert platform.readable(session, one, two, foreign) == [one.key, two.key]
        schema = platform.catalog.schemas.get(one)
        for refused in (
            f"SELECT 1 FROM {schema.raw}.x",
            f"CREATE TABLE {schema.marts}.mine (a int)",
            f"DELETE FROM {schema.marts}.cases",
            f"SET ROLE {schema.ro}",
            f"SET ROLE {schema.rw}",
            "SELECT * FROM catalog.tokens",
            "SELECT nspname FROM pg_namespace",
        ):
            with pytest.raises((psycopg.errors.InsufficientPrivilege, psycopg.errors.ReadOnlySqlTransaction)):
                session.execute(refused.encode())
        assert session.execute("SHOW temp_file_limit").fetchone() == ("256MB",)
        assert session.execute("SHOW default_transaction_read_only").fetchone() == ("on",)


def test_a_member_that_leaves_is_gone_in_a_session_that_is_open(platform: Platform, one: Tenant, two: Tenant) -> None:
    owner = platform.owner(one, two)
    workspace = platform.made(owner, one, two)
    with platform.session(workspace) as session:
        assert platform.readable(session, one, two) == [one.key, two.key]
        smaller = platform.catalog.workspaces.set(owner, workspace.name, [two])
        assert smaller.id == workspace.id
        assert [w.id for w in align(platform.catalog, platform.connections, [smaller])] == [workspace.id]
        assert platform.readable(session, one, two) == [two.key]
        assert align(platform.catalog, platform.connections, [smaller]) == []


def test_a_grant_that_was_revoked_takes_the_rights_away(platform: Platform, one: Tenant, two: Tenant) -> None:
    owner = platform.owner(one)
    # The catalog would hold a member that the owner may not query; the login gets no right to it.
    workspace = platform.made(owner, one, two)
    with platform.session(workspace) as session:
        assert platform.readable(session, one, two) == [one.key]
        assert workspace.principal is not None
        platform.catalog.principals.revoke(workspace.principal)
        align_all(platform.catalog, platform.connections)
        assert platform.readable(session, one, two) == []


def test_torn_down_schemas_are_gone_and_new_ones_come_by_themselves(platform: Platform, one: Tenant) -> None:
    other = platform.add()
    workspace = platform.made(None, one, other)
    with platform.session(workspace) as session:
        assert platform.readable(session, one, other) == [one.key, other.key]
        tenants.teardown_schema(platform.settings, platform.catalog, platform.connections, other)
        assert platform.readable(session, one, other) == [one.key]
        tenants.provision_schema(platform.settings, platform.catalog, platform.connections, other)
        platform.as_owner(other, "CREATE TABLE MARTS.cases AS SELECT 'again' AS at")
        assert platform.readable(session, one, other) == [one.key, "again"]
        tenants.remove_tenant(platform.settings, platform.catalog, platform.connections, other.key, purge=False)
        assert platform.readable(session, one, other) == [one.key]
        tenants.remove_tenant(platform.settings, platform.catalog, platform.connections, other.key, purge=True)
        assert platform.catalog.workspaces.get(None, workspace.name).members == (one.key,)


def test_columns_that_are_withheld_from_a_member_are_withheld_from_it(platform: Platform, two: Tenant) -> None:
    other = platform.add()
    workspace = platform.made(None, two, other)
    platform.catalog.limits.set(other, {"personal_data": "refuse"})
    assert realign(platform.settings, platform.catalog, platform.connections, other)
    with platform.session(workspace) as session:
        assert platform.readable(session, other) == [other.key]
        marts = platform.catalog.schemas.get(other).marts
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            session.execute(f"SELECT phone FROM {marts}.cases".encode())
        assert session.execute(f"SELECT phone FROM {platform.catalog.schemas.get(two).marts}.cases".encode()).fetchall()


def test_a_dropped_workspace_takes_its_login_and_its_sessions_along(platform: Platform, one: Tenant) -> None:
    owner = platform.owner(one)
    workspace = platform.made(owner, one)
    with platform.session(workspace) as session:
        dropped = platform.catalog.workspaces.drop(owner, workspace.name)
        assert platform.catalog.workspaces.of(owner) == []
        align(platform.catalog, platform.connections, [dropped])
        with pytest.raises(psycopg.OperationalError):
            session.execute("SELECT 1")
    assert platform.catalog.workspaces.by_id(workspace.id) is None
    with platform.connections.admin.connect() as admin:
        assert admin.execute("SELECT FROM pg_roles WHERE rolname = %s", [workspace.role]).fetchone() is None
    with pytest.raises(UnknownWorkspace):
        platform.catalog.workspaces.drop(owner, workspace.name)


def test_the_provisioning_job_aligns_what_a_bridge_has_asked_for(platform: Platform, one: Tenant, two: Tenant) -> None:
    owner = platform.owner(one, two)
    workspace = platform.catalog.workspaces.set(owner, "asked", [one, two])
    request = platform.catalog.provisioning.ask_for_workspace(workspace.id, "agent")
    assert platform.catalog.provisioning.ask_for_workspace(workspace.id, "agent").id == request.id
    carry_out(platform.settings, platform.catalog, platform.connections, request.id, run_id="run-1")
    with platform.session(workspace) as session:
        assert platform.readable(session, one, two) == [one.key, two.key]
    entry = platform.catalog.audit.read(actor="agent", limit=1)[0].entry
    assert (entry.action, entry.tenant_key, entry.detail["workspace"]) == ("provisioning", None, str(workspace.id))


def test_workspaces_are_their_owners(platform: Platform, one: Tenant, two: Tenant) -> None:
    mine, yours, workspaces = platform.owner(one), platform.owner(one), platform.catalog.workspaces
    workspaces.set(mine, "both", [one])
    workspaces.set(yours, "both", [two])
    assert workspaces.get(mine, "both").members == (one.key,)
    assert workspaces.get(yours, "both").members == (two.key,)
    with pytest.raises(UnknownWorkspace):
        workspaces.get(None, "both")
    with pytest.raises(WorkspaceInvalid, match="already"):
        workspaces.set(mine, "both", [two], is_new=True)
    for name in ("", "a b", "-x", 'x"', "x" * 64):
        with pytest.raises(WorkspaceInvalid):
            workspaces.set(mine, name, [one])
    with pytest.raises(WorkspaceInvalid):
        workspaces.set(mine, "none", [])


def test_a_rotated_key_opens_the_logins_still(platform: Platform, one: Tenant) -> None:
    workspace = platform.made(None, one)
    platform.catalog.rotate_keys()
    renewed = platform.catalog.workspaces.get(None, workspace.name)
    assert renewed.sealed != workspace.sealed
    with platform.session(renewed) as session:
        assert platform.readable(session, one) == [one.key]
