"""An agent's login reaches nothing of another tenant. Real logins, without the validator."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import psycopg
import pytest

from explorer.postgres.connections import Connections
from explorer.postgres.errors import DatabaseUnreachable
from explorer.postgres.hardening import check_hardening, harden
from tests.conftest import Tenant, tenants

MakeTenant = Callable[..., Tenant]
DENIED = psycopg.errors.InsufficientPrivilege


@pytest.fixture
def pair(make_tenant: MakeTenant) -> tuple[Tenant, Tenant]:
    """Two tenants, each with a table `orders` in its marts."""
    tenants = make_tenant(), make_tenant()
    for tenant in tenants:
        with tenant.rw.connect() as rw:
            rw.execute("CREATE TABLE orders (id int, note text)")
            rw.execute("INSERT INTO orders SELECT n, 'canary ' || %s FROM generate_series(1, 3) n", [tenant.prefix])
    return tenants


@contextmanager
def session(tenant: Tenant) -> Iterator[psycopg.Connection]:
    with tenant.ro.connect(autocommit=True) as conn:
        yield conn


ATTACKS = {
    "other schema": "SELECT * FROM {b}_marts.orders",
    "set role": "SET ROLE {b}_ro",
    "set role rw of the same tenant": "SET ROLE {a}_rw",
    "set session authorization": "SET SESSION AUTHORIZATION {b}_ro",
    "set role catalog group": "SET ROLE dp_catalog",
    "set_config": "SELECT set_config('role', '{b}_ro', true)",
    "set_config and ts_stat in one statement": "SELECT s.r, w.word FROM (SELECT set_config('role', '{b}_ro', true) r OFFSET 0) s,"
    " LATERAL ts_stat('select to_tsvector(note) from {b}_marts.orders' || left(s.r, 0)) w",
    "ts_rewrite": "SELECT ts_rewrite('a'::tsquery, 'select note::tsquery, note::tsquery from {b}_marts.orders')",
    "query_to_xml": "SELECT query_to_xml('select * from {b}_marts.orders', true, false, '')",
    "relations": "SELECT relname FROM pg_class",
    "schemas": "SELECT nspname FROM pg_namespace",
    "roles": "SELECT rolname FROM pg_roles",
    "databases": "SELECT datname FROM pg_database",
    "sessions": "SELECT * FROM pg_stat_activity",
    "row counts": "SELECT * FROM pg_stat_user_tables",
    "column statistics": "SELECT * FROM pg_stats",
    "views": "SELECT * FROM pg_views",
    "functions": "SELECT prosrc FROM pg_proc",
    "settings": "SELECT * FROM pg_settings",
    "settings of roles": "SELECT * FROM pg_db_role_setting",
    "information schema": "SELECT * FROM information_schema.tables",
    "view text": "SELECT pg_get_viewdef('orders'::regclass)",
    "table size": "SELECT pg_relation_size('orders')",
    "sleep": "SELECT pg_sleep(0)",
    "server file": "SELECT pg_read_file('postgresql.conf')",
    "large object": "SELECT lo_get(1)",
    "advisory lock": "SELECT pg_advisory_lock(1)",
    "notify": "SELECT pg_notify('x', 'y')",
    "write to the log": "SELECT pg_logical_emit_message(false, 'a', 'b')",
    "end a session": "SELECT pg_terminate_backend(1)",
    "code block": "DO 'BEGIN NULL; END'",
    "function": "CREATE FUNCTION f() RETURNS int LANGUAGE sql AS 'SELECT 1'",
    "schema": "CREATE SCHEMA mine",
    "table": "CREATE TABLE t (x int)",
    "table in public": "CREATE TABLE public.t (x int)",
    "temporary table": "CREATE TEMPORARY TABLE t (x int)",
    "read a program's output": "COPY (SELECT 1) TO PROGRAM 'true'",
    "catalog of the platform": "SELECT * FROM catalog.tenants",
    "insert": "INSERT INTO orders VALUES (9)",
    "own raw schema": "SELECT * FROM {a}_raw.cases",
}


@pytest.mark.parametrize("statement", ATTACKS.values(), ids=ATTACKS.keys())
@pytest.mark.parametrize("read_only", [True, False], ids=["read only", "read write"])
def test_attack_is_denied(shared_pair: tuple[Tenant, Tenant], statement: str, read_only: bool) -> None:
    a, b = shared_pair
    with session(a) as conn:
        if not read_only:
            conn.execute("SET default_transaction_read_only = off")
        allowed = (DENIED, psycopg.errors.ReadOnlySqlTransaction) if read_only else DENIED
        if "xml" in statement:
            allowed = (DENIED, psycopg.errors.FeatureNotSupported)
        with pytest.raises(allowed):
            conn.execute(statement.format(a=a.prefix, b=b.prefix)).fetchall()


@pytest.fixture(scope="module")
def shared_pair(connections: Connections) -> Iterator[tuple[Tenant, Tenant]]:
    """Like `pair`, once for the attacks, which change nothing."""
    with tenants(connections) as make:
        made = make(), make()
        for tenant in made:
            with tenant.rw.connect() as rw:
                rw.execute("CREATE TABLE orders (id int, note text)")
        yield made


def test_ordinary_sql_still_works(pair: tuple[Tenant, Tenant]) -> None:
    a, _b = pair
    with session(a) as conn:
        row = conn.execute(
            "WITH n AS (SELECT id, note, now()::date AS d FROM orders)"
            " SELECT count(*), max(upper(note)), min(to_char(d, 'YYYY')) ~ '^[0-9]{4}$',"
            " jsonb_agg(to_jsonb(n) - 'note') -> 0 ->> 'id',"
            " percentile_cont(0.5) WITHIN GROUP (ORDER BY id), string_agg(DISTINCT split_part(note, ' ', 1), ','),"
            " sum(id) FILTER (WHERE note LIKE 'canary%'), date_trunc('month', timestamptz '2024-02-29 12:00+00')"
            " AT TIME ZONE 'UTC' = timestamp '2024-02-01', format('%s', regexp_replace('a1', '[0-9]', 'b')) FROM n"
        ).fetchone()
        assert row == (3, f"CANARY {a.prefix.upper()}", True, "1", 2.0, "canary", 6, True, "ab")
        assert (
            conn.execute(
                "SELECT a.id, row_number() OVER (ORDER BY a.id DESC) FROM orders a JOIN orders b USING (id)"
            ).rowcount
            == 3
        )


@pytest.mark.parametrize("database", ["postgres", "template1", "dagster"])
def test_no_other_database_can_be_entered(pair: tuple[Tenant, Tenant], connections: Connections, database: str) -> None:
    for login in (pair[0].ro, pair[0].rw, connections.service, connections.catalog):
        other = login.to(user=login.user, password=login.password, dbname=database)
        with pytest.raises(DatabaseUnreachable, match="permission denied for database"):
            other.connect()


def test_service_login_sees_no_tenant_rows(pair: tuple[Tenant, Tenant], connections: Connections) -> None:
    a, _b = pair
    for login in (connections.service, connections.catalog):
        with login.connect(autocommit=True) as conn:
            for statement in (
                f"SELECT * FROM {a.prefix}_marts.orders",
                f"SET ROLE {a.prefix}_ro",
                "CREATE SCHEMA x",
                "CREATE ROLE x",
            ):
                with pytest.raises(DENIED):
                    conn.execute(statement)


def test_loader_login_cannot_leave_its_schemas(pair: tuple[Tenant, Tenant]) -> None:
    a, b = pair
    with a.rw.connect(autocommit=True) as conn:
        for statement in (
            f"SELECT * FROM {b.prefix}_marts.orders",
            f"CREATE TABLE {b.prefix}_raw.x (x int)",
            "CREATE TABLE public.x (x int)",
            "CREATE SCHEMA x",
            f"SET ROLE {b.prefix}_rw",
            "SET ROLE dp_catalog",
            "SELECT * FROM catalog.tenants",
        ):
            with pytest.raises(DENIED):
                conn.execute(statement)


def test_reader_sees_every_table_however_it_was_made(pair: tuple[Tenant, Tenant]) -> None:
    a, _b = pair
    names = a.names
    with a.rw.connect() as rw:
        rw.execute("CREATE TABLE made (x int)")
        rw.execute("CREATE TABLE copied AS SELECT 1 AS x")
        rw.execute(f"CREATE TABLE {names.schema('raw_staging')}.moved (x int)")
        rw.execute(f"ALTER TABLE {names.schema('raw_staging')}.moved SET SCHEMA {names.schema('marts')}")
        rw.execute(f"CREATE TABLE {names.schema('raw')}.hidden AS SELECT 7 AS x")
        rw.execute(f"CREATE VIEW seen AS SELECT x FROM {names.schema('raw')}.hidden")
        rw.execute("CREATE MATERIALIZED VIEW stored AS SELECT x FROM seen")
        rw.execute("CREATE TABLE swapped__tmp AS SELECT 2 AS x")
        rw.execute("ALTER TABLE swapped__tmp RENAME TO swapped")
        rw.execute("CREATE TEMP TABLE delta ON COMMIT DROP AS SELECT 3 AS x")
        rw.execute("INSERT INTO swapped SELECT x FROM delta")
    with session(a) as ro:
        for table in ("made", "copied", "moved", "seen", "stored", "swapped"):
            ro.execute(f"SELECT x FROM {table}").fetchall()
        with pytest.raises(DENIED):
            ro.execute(f"SELECT x FROM {names.schema('raw')}.hidden")


def test_reader_cannot_run_or_type_what_the_loader_defined(pair: tuple[Tenant, Tenant]) -> None:
    a, b = pair
    with a.rw.connect() as rw:
        rw.execute("CREATE FUNCTION peek() RETURNS int LANGUAGE sql SECURITY DEFINER AS 'SELECT 1'")
        rw.execute(f"GRANT USAGE ON SCHEMA {a.names.schema('marts')} TO {b.names.ro}")
    for tenant in (a, b):
        with session(tenant) as ro, pytest.raises(DENIED):
            ro.execute(f"SELECT {a.names.schema('marts')}.peek()")


def test_reader_limits(pair: tuple[Tenant, Tenant]) -> None:
    a, _b = pair
    with session(a) as conn:
        shown = {name: conn.execute(f"SHOW {name}").fetchone()[0] for name in (
            "default_transaction_read_only", "statement_timeout", "lock_timeout", "transaction_timeout", "temp_file_limit",
            "search_path", "max_parallel_workers_per_gather")}  # fmt: skip
        assert shown == {
            "default_transaction_read_only": "on",
            "statement_timeout": "15s",
            "lock_timeout": "2s",
            "transaction_timeout": "30s",
            "temp_file_limit": "256MB",
            "search_path": a.names.schema("marts"),
            "max_parallel_workers_per_gather": "0",
        }
        with pytest.raises(DENIED):
            conn.execute("SET temp_file_limit = -1")
        conn.execute("SET statement_timeout = '60s'")
        with pytest.raises(psycopg.errors.ConfigurationLimitExceeded, match="temporary file size"):
            conn.execute(
                "SELECT count(*) FROM (SELECT DISTINCT n, repeat('x', 500) FROM generate_series(1, 2000000) n) q"
            )


def test_reader_connections_are_limited(pair: tuple[Tenant, Tenant]) -> None:
    held = [pair[0].ro.connect() for _ in range(4)]
    try:
        with pytest.raises(DatabaseUnreachable, match="too many connections for role"):
            pair[0].ro.connect()
        pair[1].ro.connect().close()
    finally:
        for conn in held:
            conn.close()


def test_memory_of_one_query_is_bounded(pair: tuple[Tenant, Tenant]) -> None:
    with session(pair[0]) as conn:
        with pytest.raises((psycopg.errors.OutOfMemory, psycopg.errors.QueryCanceled)):
            conn.execute("SELECT length(format('%1000000000s', 'x'))")
        assert conn.execute("SELECT 1").fetchone() == (1,)


def test_hardening_is_complete_and_repeatable(connections: Connections) -> None:
    with connections.admin.connect(autocommit=True) as conn:
        report = check_hardening(conn)
        assert report.complete
        assert report.exposed == {}
        again = harden(conn)
        assert again.complete
        assert again.changed == {}


def test_what_is_opened_later_is_reported_and_closed_again(connections: Connections) -> None:
    with connections.admin.connect() as conn:
        conn.execute(
            "GRANT SELECT ON pg_catalog.pg_roles TO PUBLIC; GRANT EXECUTE ON FUNCTION pg_sleep(float8) TO PUBLIC"
        )
        conn.execute("GRANT CONNECT ON DATABASE dagster TO PUBLIC")
        report = check_hardening(conn)
        assert (report.exposed, report.other_databases) == ({"relation": 1, "function": 1}, ("dagster",))
        assert "database dagster" in report.summary()
        assert harden(conn).changed == {"relation": 1, "function": 1}
        assert check_hardening(conn).exposed == {}
        conn.rollback()
