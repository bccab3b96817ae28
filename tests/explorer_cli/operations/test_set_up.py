"""Only `explorer up` and `explorer db upgrade` set a database up; a process with an empty HOME says what is missing."""

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from pydantic import SecretStr

from explorer.catalog import Catalog, KeyringMissing
from explorer.catalog.lifecycle.registration import Place
from explorer.catalog.lifecycle.schemas import Passwords
from explorer.core.settings import Settings
from explorer.installation import prepare, set_up
from explorer.postgres.connections import Connections, Login
from explorer.postgres.embedded import EmbeddedPostgres
from explorer.postgres.errors import DatabaseNotReady, DatabaseOwnedElsewhere
from explorer.postgres.provisioning import new_prefix
from explorer.postgres.state import read_record
from tests.conftest import throwaway_home
from tests.explorer_cli.conftest import ROOT, Explorer


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    """The administrator's URL of a server that is not set up."""
    with throwaway_home() as home:
        address = EmbeddedPostgres(home, fsync=False).start()
        admin = Login(address.host, address.port, "postgres", "postgres", read_record(home).password)
        yield admin.sqlalchemy_url().replace("+psycopg2", "")


@pytest.fixture(scope="module")
def first(url: str, tmp_path_factory: pytest.TempPathFactory) -> Settings:
    """The HOME that set the server up."""
    settings = Settings(_env_file=None, home=tmp_path_factory.mktemp("first"), database_url=SecretStr(url))
    set_up(settings)
    return settings


def usable(connections: Connections) -> bool:
    for login in (connections.catalog, connections.service, connections.dagster):
        login.connect().close()
    return True


@pytest.mark.parametrize(
    "command",
    [
        ("tenants", "list"),
        ("tokens", "create", "--name", "n", "--tenant", "a:b"),
        ("tokens", "list"),
        ("semantics", "show", "a:b"),
        ("secrets", "rotate"),
        ("query", "a:b", "select 1"),
        ("sync", "a:b"),
    ],
)
def test_a_command_with_an_empty_home_refuses(
    explorer: Explorer, home: Path, first: Settings, url: str, command: tuple[str, ...]
) -> None:
    answer = explorer(*command, "--json", EXPLORER_DATABASE_URL=url)
    assert answer.code == 1
    error = answer.json["error"]
    assert error["code"] == "database_not_ready"
    # What a bridge does is done without the administrator's login, so without that URL.
    said = "No database is set up under" if command[0] in ("semantics", "query", "sync") else "lacks connection.json"
    assert said in error["message"]
    assert "explorer db upgrade" in error["next_step"]
    assert not [path for path in home.rglob("*") if path.name in ("connection.json", "secret.keys", "webserver.token")]
    assert usable(prepare(first))


@pytest.mark.parametrize(
    "program",
    [
        "from dagster import DagsterInstance; DagsterInstance.get()",
        "from explorer_dagster.resources import Platform; Platform().catalog",
        "import sys; sys.argv[1:] = ['--port', '0', '-w', 'workspace.yaml']; from runpy import run_module;"
        " run_module('explorer_dagster.webserver', run_name='__main__')",
        "from mcp_bridge.clients.platform_database import PlatformDatabase; from explorer.core.settings import get_settings;"
        " PlatformDatabase(get_settings()).catalog",
    ],
    ids=["dagster", "worker", "webserver", "bridge"],
)
def test_a_process_with_an_empty_home_refuses(tmp_path: Path, first: Settings, url: str, program: str) -> None:
    (tmp_path / "dagster").mkdir()
    shutil.copy(ROOT / "dagster.yaml", tmp_path / "dagster")
    shutil.copy(ROOT / "workspace.yaml", tmp_path)
    env = {name: value for name, value in os.environ.items() if not name.startswith(("EXPLORER_", "DAGSTER_"))}
    env |= {
        "EXPLORER_HOME": str(tmp_path / "home"),
        "EXPLORER_DATABASE_URL": url,
        "DAGSTER_HOME": str(tmp_path / "dagster"),
    }
    done = subprocess.run(
        [sys.executable, "-c", program], env=env, cwd=tmp_path, capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode
    assert "lacks connection.json with the logins" in done.stderr
    assert "explorer db upgrade" in done.stderr
    assert not (tmp_path / "home").exists() or not [p for p in (tmp_path / "home").rglob("*") if p.is_file()]
    assert usable(prepare(first))


def test_db_upgrade_and_up_leave_the_other_home_its_logins(
    explorer: Explorer, home: Path, first: Settings, url: str
) -> None:
    for command in (("db", "upgrade"), ("up", "--no-demo")):
        answer = explorer(
            *command, "--json", EXPLORER_DATABASE_URL=url, EXPLORER_BRIDGE_PORT="0", EXPLORER_DAGSTER_PORT="0"
        )
        assert answer.code == 1
        assert answer.json["error"]["code"] == "database_owned_elsewhere"
        assert not (home / "connection.json").exists()
        assert not (home / "secret.keys").exists()
        assert usable(prepare(first))


def test_a_home_with_the_files_of_the_first_is_as_good(
    explorer: Explorer, home: Path, first: Settings, url: str
) -> None:
    for name in ("connection.json", "secret.keys"):
        shutil.copy(first.home / name, home)
    assert explorer("db", "upgrade", EXPLORER_DATABASE_URL=url).code == 0
    assert explorer("tenants", "list", EXPLORER_DATABASE_URL=url).code == 0
    assert usable(prepare(first))


def test_keys_are_not_made_beside_what_another_key_encrypted(tmp_path: Path, first: Settings, url: str) -> None:
    settings = Settings(_env_file=None, home=tmp_path / "home", database_url=SecretStr(url))
    settings.home.mkdir()
    shutil.copy(first.home / "connection.json", settings.home)
    with Catalog.open(first) as catalog:
        tenant = catalog.registration.begin(
            Place("k:k", "commcare", "https://x.org", "k", "k", "project space"), new_prefix()
        )
        catalog.schemas.start(tenant, new_prefix(), Passwords(rw="rw", ro="ro"))
    with pytest.raises(KeyringMissing, match=r"no .*secret\.keys"):
        set_up(settings)
    assert not (settings.home / "secret.keys").exists()
    set_up(settings, take_over=True)
    assert (settings.home / "secret.keys").exists()


def test_taking_over_is_asked_for_by_name(explorer: Explorer, home: Path, first: Settings, url: str) -> None:
    assert explorer("db", "upgrade", "--take-over", EXPLORER_DATABASE_URL=url).code == 0
    assert explorer("tenants", "list", EXPLORER_DATABASE_URL=url).code == 0
    with pytest.raises(DatabaseOwnedElsewhere):
        set_up(first)


def test_an_empty_home_of_the_embedded_database_refuses_too(explorer: Explorer, home: Path) -> None:
    answer = explorer("tenants", "list", "--json")
    assert answer.code == 1
    assert answer.json["error"]["code"] == "database_not_ready"
    assert "explorer up" in answer.json["error"]["next_step"]
    assert not (home / "postgres").exists()
    with pytest.raises(DatabaseNotReady):
        prepare(Settings(_env_file=None, home=home, database_url=None))
