"""A whole platform over an external server: of each version that Debian's packages brought, and of the newest."""

import json
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import psycopg
import pytest

from demo_commcare import MATERNAL, NUTRITION, serve_in_thread
from explorer.postgres.connections import Login
from explorer.postgres.embedded import EmbeddedPostgres
from explorer.postgres.state import read_record
from tests.conftest import throwaway_home
from tests.e2e.stack import CHILDREN, MOTHERS, Stack, environment

pytestmark = pytest.mark.timeout(600)
NEWEST, SUPERUSER, LIMITED = "newest", "superuser", "limited"
INSTALLED = {
    path.parent.name: path for path in Path("/usr/lib/postgresql").glob("*/bin") if int(path.parent.name) >= 15
}
# All other tests are done as superuser of the newest one.
PLACES = [*((version, login) for version in sorted(INSTALLED) for login in (SUPERUSER, LIMITED)), (NEWEST, LIMITED)]


@dataclass
class Place:
    """A platform; `superuser` is of its server, `is_limited` whether the platform has another login."""

    stack: Stack
    superuser: Login
    is_limited: bool


@pytest.fixture(scope="module", params=PLACES, ids="-".join)
def place(request: pytest.FixtureRequest) -> Iterator[Place]:
    version, login = request.param
    with ExitStack() as stack:
        server_home = stack.enter_context(throwaway_home())
        address = EmbeddedPostgres(server_home, bin_dir=INSTALLED.get(version), fsync=False).start()
        record = read_record(server_home)
        assert record is not None
        superuser = Login(address.host, address.port, "postgres", "postgres", record.password)
        admin = superuser
        if login == LIMITED:
            with superuser.connect(autocommit=True) as conn:
                conn.execute("CREATE ROLE manager LOGIN PASSWORD 'manager' CREATEROLE CREATEDB")
            admin = superuser.to(user="manager", password="manager")
        folder = Path(tempfile.mkdtemp(prefix="explorer-versions-"))
        stack.callback(shutil.rmtree, folder, ignore_errors=True)
        demo = stack.enter_context(serve_in_thread(cases=60))
        given = {"DEMO_KEY": demo.api_key, "EXPLORER_DATABASE_URL": admin.sqlalchemy_url()}
        platform = Stack(folder / "home", demo, environment(folder / "home", **given))
        stack.callback(platform.cli, "down", check=False)
        platform.up()
        for key, domain in ((MOTHERS, MATERNAL), (CHILDREN, NUTRITION)):
            platform.add_tenant(key, domain)
        platform.token = platform.new_token("children", CHILDREN)
        yield Place(platform, superuser, login == LIMITED)


def test_a_sync_is_exact_and_follows_changes(place: Place) -> None:
    stack = place.stack
    for _ in range(2):
        stack.demo.control.create_case(NUTRITION, "enfant", "Zoë", {"sexe": "f"})
        assert stack.sync(CHILDREN)["status"] == "SUCCESS"
        cases = len(stack.demo.truth(NUTRITION).cases)
        assert stack.rows(CHILDREN, "select count(*), count(distinct case_id) from cases") == [[cases, cases]]
    assert stack.rows(CHILDREN, "select count(*) from case_enfant where case_name = 'Zoë'") == [[2]]


def test_a_reader_enters_its_tenant_alone(place: Place) -> None:
    refused = place.stack.call("query", tenant=MOTHERS, sql="select 1")
    assert not refused["success"]
    with place.superuser.to(user="postgres", password=place.superuser.password, dbname="explorer").connect() as conn:
        readers = [
            name for (name,) in conn.execute("SELECT rolname FROM pg_roles WHERE rolname ~ '^t_.*_ro$'").fetchall()
        ]
        assert len(readers) == 2
        marts = conn.execute(
            "SELECT quote_ident(schemaname) || '.' || quote_ident(tablename) FROM pg_tables WHERE tablename = 'cases'"
        ).fetchall()
        assert len(marts) == 1
        may = []
        for reader in readers:
            conn.execute(f"SET LOCAL ROLE {reader}")
            try:
                with conn.transaction():
                    conn.execute(f"SELECT count(*) FROM {marts[0][0]}")
                may.append(reader)
            except psycopg.errors.InsufficientPrivilege:
                pass
            conn.execute("RESET ROLE")
        assert [name.replace("_ro", "_marts.cases") for name in may] == [marts[0][0]]


def test_the_doctor_says_what_the_login_could_not_close(place: Place) -> None:
    told = json.loads(place.stack.cli("doctor", "--json", check=False).stdout)
    wrong = {each["check"]: each["detail"] for each in told["checks"] if each["outcome"] == "wrong"}
    assert sorted(wrong) == (["hardening"] if place.is_limited else []), wrong
    if place.is_limited:
        assert "database template1" in wrong["hardening"]


def test_no_login_of_the_platform_has_more_rights_than_it_needs(place: Place) -> None:
    with place.superuser.connect() as conn:
        powerful = conn.execute(
            "SELECT rolname FROM pg_roles WHERE rolname !~ '^pg_' AND rolname NOT IN ('postgres', 'manager')"
            " AND (rolsuper OR rolcreaterole OR rolcreatedb OR rolbypassrls OR rolreplication)"
        ).fetchall()
    assert powerful == []


def test_a_tenant_is_removed_with_its_schemas_and_logins(place: Place) -> None:
    place.stack.cli("tenants", "remove", CHILDREN, "--purge", "--yes")
    with place.superuser.to(user="postgres", password=place.superuser.password, dbname="explorer").connect() as conn:
        assert conn.execute("SELECT count(*) FROM pg_tables WHERE tablename = 'cases'").fetchone() == (0,)
        assert conn.execute("SELECT count(*) FROM pg_roles WHERE rolname ~ '^t_'").fetchone() == (2,)
