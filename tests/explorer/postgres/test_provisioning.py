"""A tenant's schemas are created, changed and removed as a whole."""

import secrets
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import psycopg
import pytest
from psycopg import sql

from explorer.contract.schemas import TenantSchemas
from explorer.postgres.connections import Connections
from explorer.postgres.errors import DatabaseUnreachable, ProvisioningRefused
from explorer.postgres.provisioning import (
    align_raw_exposure,
    deprovision,
    exists,
    new_prefix,
    provision,
    set_raw_exposure,
)
from tests.conftest import Tenant

MakeTenant = Callable[..., Tenant]


def traces(conn: psycopg.Connection, prefix: str) -> list[tuple]:
    """Everything in the server's catalogs that carries the prefix."""
    return conn.execute(
        "SELECT 'role', rolname::text FROM pg_roles WHERE rolname LIKE %(p)s"
        " UNION ALL SELECT 'schema', nspname FROM pg_namespace WHERE nspname LIKE %(p)s"
        " UNION ALL SELECT 'default', defaclacl::text FROM pg_default_acl WHERE defaclacl::text LIKE %(p)s"
        " UNION ALL SELECT 'database', datacl::text FROM pg_database WHERE datacl::text LIKE %(p)s"
        " UNION ALL SELECT 'setting', s::text FROM pg_db_role_setting, unnest(setconfig) s WHERE s LIKE %(p)s"
        " UNION ALL SELECT 'session', usename FROM pg_stat_activity WHERE usename LIKE %(p)s",
        {"p": f"%{prefix}%"},
    ).fetchall()


def test_prefixes_are_random_and_well_formed() -> None:
    made = {new_prefix() for _ in range(100)}
    assert len(made) == 100
    assert all(TenantSchemas(prefix).rw == f"{prefix}_rw" for prefix in made)


@pytest.mark.parametrize(
    "prefix", ["", "postgres", "t_ABCDEF01", "t_1234567", "t_12345678_rw", 't_1234567"', "t_12345678\n"]
)
def test_other_names_are_refused(connections: Connections, prefix: str) -> None:
    with connections.admin.connect(autocommit=True) as conn, pytest.raises(ProvisioningRefused):
        provision(conn, prefix, rw_password="a", ro_password="b")


def test_provisioning_twice_changes_only_the_passwords(connections: Connections, make_tenant: MakeTenant) -> None:
    tenant = make_tenant()
    with tenant.rw.connect() as rw:
        rw.execute("CREATE TABLE kept AS SELECT 1 AS x")
    with connections.admin.connect(autocommit=True) as conn:
        before = traces(conn, tenant.prefix)
        provision(conn, tenant.prefix, rw_password="new-rw-password", ro_password="new-ro-password")
        assert sorted(traces(conn, tenant.prefix)) == sorted(before)
        assert exists(conn, tenant.prefix)
    with pytest.raises(DatabaseUnreachable, match="password authentication failed"):
        tenant.ro.connect()
    with connections.tenant(tenant.names.ro, "new-ro-password").connect() as ro:
        assert ro.execute("SELECT x FROM kept").fetchone() == (1,)


def test_failed_provisioning_leaves_nothing(connections: Connections) -> None:
    prefix = new_prefix()
    with connections.admin.connect(autocommit=True) as conn:
        conn.execute(sql.SQL("CREATE SCHEMA {}").format(sql.Identifier(f"{prefix}_marts")))
        try:
            before = traces(conn, prefix)
            with pytest.raises(ProvisioningRefused, match="belongs to postgres"):
                provision(conn, prefix, rw_password="a", ro_password="b")
            assert traces(conn, prefix) == before
            assert not exists(conn, prefix)
        finally:
            conn.execute(sql.SQL("DROP SCHEMA {}").format(sql.Identifier(f"{prefix}_marts")))


def test_concurrent_provisioning(connections: Connections) -> None:
    prefixes = [new_prefix() for _ in range(3)] * 2

    def run(prefix: str) -> None:
        with connections.admin.connect(autocommit=True) as conn:
            provision(conn, prefix, rw_password=secrets.token_hex(8), ro_password=secrets.token_hex(8))

    with ThreadPoolExecutor(len(prefixes)) as pool:
        list(pool.map(run, prefixes))
    with connections.admin.connect(autocommit=True) as conn:
        for prefix in set(prefixes):
            assert exists(conn, prefix)
            deprovision(conn, prefix)
            assert traces(conn, prefix) == []


def test_deprovisioning_ends_sessions_and_leaves_nothing(connections: Connections, make_tenant: MakeTenant) -> None:
    tenant = make_tenant()
    with tenant.rw.connect(autocommit=True) as rw, tenant.ro.connect(autocommit=True) as ro:
        raw, marts = tenant.names.schema("raw"), tenant.names.schema("marts")
        rw.execute(f"CREATE TABLE {raw}.cases (id serial PRIMARY KEY, kind text)")
        rw.execute(f"CREATE VIEW {marts}.cases AS SELECT * FROM {raw}.cases")
        rw.execute(f"CREATE TYPE {raw}.pair AS (a int, b int)")
        rw.execute(f"CREATE FUNCTION {marts}.one() RETURNS int LANGUAGE sql AS 'SELECT 1'")
        rw.execute("SELECT lo_create(0)")
        rw.execute("CREATE TEMP TABLE scratch (x int)")
        ro.execute("BEGIN; SELECT count(*) FROM cases")
        with connections.admin.connect(autocommit=True) as conn:
            large_objects = conn.execute("SELECT count(*) FROM pg_largeobject_metadata").fetchone()
            deprovision(conn, tenant.prefix)
            assert traces(conn, tenant.prefix) == []
            assert not exists(conn, tenant.prefix)
            assert conn.execute("SELECT count(*) FROM pg_largeobject_metadata").fetchone() == (large_objects[0] - 1,)
            deprovision(conn, tenant.prefix)
        for session in (rw, ro):
            with pytest.raises(psycopg.OperationalError):
                session.execute("SELECT 1")


def test_deprovisioning_never_takes_another_tenants_objects(connections: Connections, make_tenant: MakeTenant) -> None:
    first, second = make_tenant(), make_tenant()
    with first.rw.connect(autocommit=True) as rw:
        rw.execute("CREATE TABLE shared AS SELECT 1 AS x")
        rw.execute(f"GRANT USAGE ON SCHEMA {first.names.schema('marts')} TO {second.names.rw}")
        rw.execute(f"GRANT SELECT ON shared TO {second.names.rw}")
    with second.rw.connect(autocommit=True) as rw:
        rw.execute(f"CREATE VIEW theirs AS SELECT * FROM {first.names.schema('marts')}.shared")
    with connections.admin.connect(autocommit=True) as conn:
        with pytest.raises(ProvisioningRefused) as caught:
            deprovision(conn, first.prefix)
        assert caught.value.details["depending"] == [f"{second.names.schema('marts')}.theirs"]
    with first.rw.connect() as rw, second.ro.connect() as ro:
        assert rw.execute("SELECT x FROM shared").fetchone() == (1,)
        assert ro.execute("SELECT x FROM theirs").fetchone() == (1,)
    with second.rw.connect(autocommit=True) as rw:
        rw.execute("DROP VIEW theirs")


def test_deprovisioning_refuses_foreign_objects_in_the_tenants_schema(
    connections: Connections, make_tenant: MakeTenant
) -> None:
    tenant = make_tenant()
    table = f"{tenant.names.schema('raw')}.of_the_admin"
    with connections.admin.connect(autocommit=True) as conn:
        conn.execute(f"CREATE TABLE {table} AS SELECT 1 AS x")
        with pytest.raises(ProvisioningRefused):
            deprovision(conn, tenant.prefix)
        assert conn.execute(f"SELECT x FROM {table}").fetchone() == (1,)
        conn.execute(f"DROP TABLE {table}")
    with tenant.rw.connect() as rw:
        assert rw.execute("SELECT 1").fetchone() == (1,)


def test_raw_tables_are_closed_until_opened(connections: Connections, make_tenant: MakeTenant) -> None:
    tenant = make_tenant()
    table = f"{tenant.names.schema('raw')}.raw_cases"
    with tenant.rw.connect() as rw:
        rw.execute(f"CREATE TABLE {table} AS SELECT 1 AS x")
    with connections.admin.connect(autocommit=True) as conn, tenant.ro.connect(autocommit=True) as ro:
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            ro.execute(f"SELECT * FROM {table}")
        set_raw_exposure(conn, tenant.prefix, True)
        assert tenant.prefix in align_raw_exposure(conn, False)
        assert align_raw_exposure(conn, False) == []
        assert tenant.prefix in align_raw_exposure(conn, True)
        assert ro.execute(f"SELECT * FROM {table}").fetchone() == (1,)
        set_raw_exposure(conn, tenant.prefix, False)
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            ro.execute(f"SELECT * FROM {table}")


def test_a_connection_that_would_not_commit_is_refused(connections: Connections) -> None:
    with connections.admin.connect() as conn, pytest.raises(ValueError, match="autocommit"):
        provision(conn, new_prefix(), rw_password="a", ro_password="b")
