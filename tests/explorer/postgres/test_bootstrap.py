"""Setting up a server, embedded or external, is repeatable, and every process gets its login without other logins' secrets."""

import json
import socket
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psycopg
import pytest
import sqlalchemy
from cryptography.fernet import Fernet
from psycopg import sql
from pydantic import SecretStr

from explorer.catalog import CatalogUnavailable
from explorer.contract.schemas import TenantSchemas
from explorer.core.errors import SettingsInvalid
from explorer.core.settings import Settings
from explorer.installation import prepare, set_up
from explorer.postgres.audit_schema import make_audit_schema
from explorer.postgres.bootstrap import bootstrap, ensure_database
from explorer.postgres.connections import SERVICE_LOGINS, Connections, Login, load_connections, parse_admin_url
from explorer.postgres.embedded import EmbeddedPostgres
from explorer.postgres.errors import (
    DatabaseNotReady,
    DatabaseOwnedElsewhere,
    DatabaseSetupFailed,
    DatabaseUnreachable,
    LoginMissing,
)
from explorer.postgres.hardening import check_hardening
from explorer.postgres.provisioning import deprovision, exists, new_prefix, provision
from explorer.postgres.state import ConnectionRecord, read_record
from tests.conftest import PgServer, throwaway_home


@pytest.fixture(scope="module")
def bare() -> Iterator[Login]:
    """The superuser's login on a server that nobody set up: stands for an external one."""
    with throwaway_home() as home:
        address = EmbeddedPostgres(home, fsync=False).start()
        yield Login(address.host, address.port, "postgres", "postgres", read_record(home).password)


def external(home: Path, login: Login) -> Settings:
    return Settings(_env_file=None, home=home, database_url=SecretStr(login.sqlalchemy_url()))


def test_setup_is_done_once(pg_server: PgServer) -> None:
    record = read_record(pg_server.home)
    assert set(record.roles) == set(SERVICE_LOGINS)
    admin = pg_server.connections.admin.to(user="postgres", password=record.password, dbname="postgres")
    assert bootstrap(admin, record.roles) is None
    assert ensure_database(pg_server.settings) == pg_server.connections
    assert load_connections(pg_server.settings) == pg_server.connections


def test_logins_and_what_they_own(pg_server: PgServer) -> None:
    connections = pg_server.connections
    seen = {}
    for duty in ("admin", "catalog", "service", "dagster"):
        login: Login = getattr(connections, duty)
        with sqlalchemy.create_engine(login.sqlalchemy_url()).connect() as conn:
            seen[duty] = tuple(conn.execute(sqlalchemy.text(
                "SELECT current_database(), rolname, rolsuper, rolcreaterole, rolcreatedb FROM pg_roles"
                " WHERE rolname = current_user"
            )).one())  # fmt: skip
    assert seen == {
        "admin": ("explorer", "postgres", True, True, True),
        "catalog": ("explorer", "explorer_catalog", False, False, False),
        "service": ("explorer", "explorer_service", False, False, False),
        "dagster": ("dagster", "dagster", False, False, False),
    }
    with connections.dagster.connect() as conn:
        conn.execute("CREATE TABLE own_probe (x int)")
        conn.rollback()
    with connections.catalog.connect() as catalog, connections.service.connect(autocommit=True) as service:
        catalog.execute("CREATE TABLE probe (x int)")
        assert catalog.execute("SELECT 'catalog.probe'::regclass = 'probe'::regclass").fetchone() == (True,)
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            service.execute("CREATE TABLE catalog.mine (x int)")
        catalog.rollback()


def test_no_secret_in_repr(pg_server: PgServer) -> None:
    record = read_record(pg_server.home)
    shown = repr(pg_server.connections) + str(pg_server.connections) + repr(record)
    assert all(secret not in shown for secret in [record.password, *record.roles.values()])


def test_refused_login_says_so_without_the_password(pg_server: PgServer) -> None:
    login = pg_server.connections.service.to(user="explorer_service", password="not-the-password")
    with pytest.raises(DatabaseUnreachable, match="password authentication failed") as caught:
        login.connect()
    assert "not-the-password" not in str(caught.value)


def test_nothing_set_up_yet(tmp_path: Path) -> None:
    with pytest.raises(DatabaseNotReady, match="No database is set up"):
        load_connections(Settings(_env_file=None, home=tmp_path, database_url=None))
    assert list(tmp_path.iterdir()) == []


def test_external_server(bare: Login, tmp_path: Path) -> None:
    settings = external(tmp_path, bare)
    with ThreadPoolExecutor(3) as pool:
        made = list(pool.map(lambda _: ensure_database(settings), range(3)))
    assert made[0] == made[1] == made[2] == load_connections(settings)
    with made[0].admin.connect() as conn:
        assert check_hardening(conn).complete
    for login in (made[0].catalog, made[0].service, made[0].dagster):
        login.connect().close()
    assert bare.password not in (tmp_path / "connection.json").read_text()
    without_url = load_connections(Settings(_env_file=None, home=tmp_path, database_url=None))
    assert (without_url.service, without_url.dagster) == (made[0].service, made[0].dagster)
    with pytest.raises(LoginMissing, match="EXPLORER_DATABASE_URL"):
        _ = without_url.admin


def works(*connections: Connections) -> list[bool]:
    """Whether all logins of each HOME get in."""
    found = []
    for each in connections:
        try:
            for login in (each.catalog, each.service, each.dagster):
                login.connect().close()
            found.append(True)
        except DatabaseUnreachable:
            found.append(False)
    return found


def without_marks(bare: Login) -> None:
    """The server as older versions set it up."""
    with bare.connect(autocommit=True) as conn:
        for role in SERVICE_LOGINS:
            conn.execute(sql.SQL("COMMENT ON ROLE {} IS NULL").format(sql.Identifier(role)))
        conn.execute("COMMENT ON DATABASE explorer IS 'explorer setup 1 abc on 18'")


def forget(bare: Login) -> None:
    with bare.connect(autocommit=True) as conn:
        for name in ("explorer", "dagster"):
            conn.execute(sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(sql.Identifier(name)))
        for role in (*SERVICE_LOGINS, "explorer_audit", "dp_catalog"):
            conn.execute(sql.SQL("DROP ROLE IF EXISTS {}").format(sql.Identifier(role)))


def test_an_external_server_that_is_away_is_not_replaced_by_an_embedded_one(bare: Login, tmp_path: Path) -> None:
    forget(bare)
    set_up(external(tmp_path, bare))
    record = json.loads((tmp_path / "connection.json").read_text())
    with socket.socket() as nobody_listens:
        nobody_listens.bind(("127.0.0.1", 0))
        away = json.dumps(record | {"port": nobody_listens.getsockname()[1]})
        (tmp_path / "connection.json").write_text(away)
        with pytest.raises(CatalogUnavailable):
            prepare(Settings(_env_file=None, home=tmp_path, database_url=None))
    assert (tmp_path / "connection.json").read_text() == away
    assert not (tmp_path / "postgres").exists()


@pytest.mark.parametrize("older", [False, True])
def test_another_home_changes_nothing_unless_told_to_take_over(bare: Login, tmp_path: Path, older: bool) -> None:
    forget(bare)
    first = ensure_database(external(tmp_path / "a", bare))
    if older:
        without_marks(bare)
    second = external(tmp_path / "b", bare)
    with pytest.raises(DatabaseOwnedElsewhere, match="another HOME set it up") as refused:
        ensure_database(second)
    assert "connection.json and secret.keys" in refused.value.next_step
    assert "--take-over" in refused.value.next_step
    assert not (tmp_path / "b" / "connection.json").exists()
    assert works(first) == [True]

    # Passwords of its own do not help: they are not the server's.
    (tmp_path / "b" / "connection.json").write_text(
        ConnectionRecord(mode="external", roles=dict.fromkeys(SERVICE_LOGINS, "x" * 32)).model_dump_json()
    )
    with pytest.raises(DatabaseOwnedElsewhere):
        ensure_database(second)
    assert works(first, ensure_database(external(tmp_path / "a", bare))) == [True, True]

    assert works(ensure_database(second, take_over=True), first) == [True, False]


def given(home: Path, login: Login, **changed: str | None) -> Settings:
    """A process whose logins are settings: every password is the role's name, four times."""
    urls = {
        "catalog_url": "explorer_service",
        "dagster_database_url": "dagster",
        "catalog_owner_url": "explorer_catalog",
    }
    logins = {
        setting: login.to(user=role, password=role * 4, dbname="dagster" if role == "dagster" else "explorer")
        for setting, role in urls.items()
    }
    texts = {"database_url": login.sqlalchemy_url(), **{name: each.sqlalchemy_url() for name, each in logins.items()}}
    return Settings(_env_file=None, home=home, **{**texts, **changed})


def test_logins_may_come_from_settings_and_no_home_keeps_them(bare: Login, tmp_path: Path) -> None:
    """A container has an empty HOME each time, and sets up again what is set up, or changes nothing."""
    forget(bare)
    key = Fernet.generate_key().decode()
    first = set_up(given(tmp_path / "a", bare, secret_keys=key))
    again = set_up(given(tmp_path / "b", bare, secret_keys=key))
    assert works(first, again) == [True, True]
    assert not [*(tmp_path / "a").iterdir(), *(tmp_path / "b").iterdir()]
    # A process that was given less goes on with that.
    worker = prepare(given(tmp_path / "c", bare, secret_keys=key, database_url=None, catalog_owner_url=None))
    assert worker.dagster == first.dagster
    with pytest.raises(LoginMissing, match="the catalog login"):
        _ = worker.catalog
    stranger = bare.to(user="explorer_service", password="another" * 4, dbname="explorer").sqlalchemy_url()
    with pytest.raises(DatabaseOwnedElsewhere):
        set_up(given(tmp_path / "d", bare, secret_keys=key, catalog_url=stranger))
    for wrong in (
        {"catalog_owner_url": None},
        {"database_url": None},
        {"dagster_database_url": bare.to(user="dagster", password="short").sqlalchemy_url()},
        {"dagster_database_url": bare.to(user="somebody", password="x" * 24).sqlalchemy_url()},
    ):
        with pytest.raises(SettingsInvalid):
            ensure_database(given(tmp_path / "e", bare, **wrong))
    assert works(first) == [True]


def test_a_home_that_is_refused_goes_on_with_the_server_it_has(bare: Login, tmp_path: Path) -> None:
    forget(bare)
    ensure_database(external(tmp_path / "a", bare))
    own = ConnectionRecord(password="p" * 32, port=1, roles=dict.fromkeys(SERVICE_LOGINS, "x" * 32))
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / "connection.json").write_text(own.model_dump_json())
    with pytest.raises(DatabaseOwnedElsewhere):
        ensure_database(external(tmp_path / "b", bare))
    assert read_record(tmp_path / "b") == own
    assert load_connections(Settings(_env_file=None, home=tmp_path / "b", database_url=None)).admin.port == 1


def test_of_two_homes_at_once_one_gets_the_server(bare: Login, tmp_path: Path) -> None:
    forget(bare)
    homes = [external(tmp_path / name, bare) for name in "abcd"]

    def attempt(settings: Settings) -> Connections | None:
        try:
            return ensure_database(settings)
        except DatabaseOwnedElsewhere:
            return None

    with ThreadPoolExecutor(4) as pool:
        made = [each for each in pool.map(attempt, homes) if each]
    assert works(*made) == [True]


def test_logins_of_another_program_are_left_alone(bare: Login, tmp_path: Path) -> None:
    """`dagster` is a name that a Dagster set up by hand may well have taken."""
    forget(bare)
    with bare.connect(autocommit=True) as conn:
        conn.execute("CREATE ROLE dagster LOGIN PASSWORD 'theirs'")
        conn.execute("GRANT CONNECT ON DATABASE postgres TO dagster")
    with pytest.raises(DatabaseOwnedElsewhere, match="has the logins dagster"):
        ensure_database(external(tmp_path, bare))
    bare.to(user="dagster", password="theirs").connect().close()
    with bare.connect(autocommit=True) as conn:
        conn.execute("REVOKE ALL ON DATABASE postgres FROM dagster")


def test_a_set_up_that_broke_off_goes_on(bare: Login, tmp_path: Path) -> None:
    """Logins, but no databases: what a crash between the two leaves."""
    forget(bare)
    ensure_database(external(tmp_path, bare))
    with bare.connect(autocommit=True) as conn:
        for name in ("explorer", "dagster"):
            conn.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(name)))
    assert works(ensure_database(external(tmp_path, bare))) == [True]


def test_a_server_made_without_an_encoding_gives_names_as_text(bare: Login) -> None:
    with bare.connect(autocommit=True) as conn:
        conn.execute("CREATE DATABASE plain TEMPLATE template0 ENCODING 'SQL_ASCII' LOCALE 'C'")
    plain = bare.to(user=bare.user, password=bare.password, dbname="plain")
    with plain.connect() as conn:
        assert conn.execute("SELECT current_database(), 'Zoë'::text").fetchone() == ("plain", "Zoë")


def test_administrator_without_superuser(bare: Login, tmp_path: Path) -> None:
    """As on a managed server: tenants work and are isolated, and the report lists what stays readable."""
    forget(bare)
    with bare.connect(autocommit=True) as conn:
        conn.execute("GRANT CONNECT ON DATABASE postgres TO PUBLIC")
        conn.execute("CREATE ROLE manager LOGIN PASSWORD 'manager' CREATEROLE CREATEDB")
        conn.execute("GRANT SET ON PARAMETER temp_file_limit TO manager")
    manager = bare.to(user="manager", password="manager")
    settings = external(tmp_path, manager)
    made = ensure_database(settings)
    names = TenantSchemas(new_prefix())
    with made.admin.connect(autocommit=True) as conn:
        report = check_hardening(conn)
        assert not report.complete
        assert report.exposed["relation"] > 100
        assert "postgres" in report.other_databases
        provision(conn, names.prefix, rw_password="rw", ro_password="ro")
        with made.tenant(names.rw, "rw").connect() as rw:
            rw.execute("CREATE TABLE orders AS SELECT 1 AS x")
        with made.tenant(names.ro, "ro").connect() as ro:
            assert ro.execute("SELECT x, current_setting('temp_file_limit') FROM orders").fetchone() == (1, "256MB")
        provision(conn, names.prefix, rw_password="rw", ro_password="ro")
        assert exists(conn, names.prefix)
        deprovision(conn, names.prefix)
        assert not exists(conn, names.prefix)
        # The audit trail is set up, also again, by a manager who is no member of its owner before and after.
        with conn.transaction():
            make_audit_schema(conn)
        member = "SELECT pg_has_role('explorer_audit', 'USAGE'), pg_has_role('explorer_audit', 'SET')"
        assert conn.execute(member).fetchone() == (False, False)
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            conn.execute("DROP TABLE audit.entries")
        with made.service.connect() as service:
            entry = '[{"actor": "a", "action": "b", "outcome": "ok"}]'
            assert service.execute("SELECT audit.append(%s)", [entry]).fetchone() == (1,)
            assert service.execute("SELECT actor FROM audit.entries").fetchone() == ("a",)


def test_administrator_without_rights(bare: Login, tmp_path: Path) -> None:
    forget(bare)
    with bare.connect(autocommit=True) as conn:
        conn.execute("GRANT CONNECT ON DATABASE postgres TO PUBLIC")
        conn.execute("CREATE ROLE powerless LOGIN PASSWORD 'powerless'")
    with pytest.raises(DatabaseSetupFailed, match="powerless may not create") as caught:
        ensure_database(external(tmp_path, bare.to(user="powerless", password="powerless")))
    assert "superuser" in caught.value.next_step


def test_unreachable_server(tmp_path: Path, bare: Login) -> None:
    nowhere = Login("127.0.0.1", 1, "postgres", "postgres", "some-secret")
    with pytest.raises(DatabaseUnreachable, match=r"127\.0\.0\.1:1") as caught:
        ensure_database(external(tmp_path, nowhere))
    assert "some-secret" not in str(caught.value)


@pytest.mark.parametrize(
    "url",
    ["", "nonsense", "mysql://u:secret@h/d", "postgresql://", "postgresql:///db", "postgresql://u:secret@h:port/d"],
)
def test_unusable_url(url: str) -> None:
    with pytest.raises(SettingsInvalid) as caught:
        parse_admin_url(url)
    assert "secret" not in str(caught.value)


def test_url_parts_survive() -> None:
    login = parse_admin_url("postgresql+psycopg2://ad%40min:p%2Fw%3A@db.example.org:6543/main?sslmode=require")
    assert (login.host, login.port, login.dbname, login.user, login.password) == (
        "db.example.org", 6543, "main", "ad@min", "p/w:")  # fmt: skip
    assert login.conninfo()["sslmode"] == "require"
    assert parse_admin_url(login.sqlalchemy_url()) == login
    assert sqlalchemy.make_url(login.sqlalchemy_url()).password == "p/w:"
