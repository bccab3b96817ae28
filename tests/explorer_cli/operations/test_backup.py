"""Backup and restore: what was there is there again, with its keys; a changed file or a HOME in use is refused."""

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from explorer.catalog import ApiKeyCredential, Catalog
from explorer.core.settings import Settings
from explorer.installation import prepare, set_up
from explorer.postgres.embedded import EmbeddedPostgres
from explorer.tenants import add_tenant
from explorer_cli.operations.backup.making import own_roles
from tests.conftest import throwaway_home
from tests.explorer_cli.conftest import Explorer
from tests.unasked import Unasked

KEY = "www:kept"
SECRET = "0123456789abcdef"


@pytest.fixture
def home() -> Iterator[Path]:
    """An installation with one tenant, which has a table."""
    with throwaway_home() as home:
        settings = Settings(_env_file=None, home=home, database_url=None, postgres_fsync=False)
        connections = set_up(settings)
        with Catalog.open(settings) as catalog:
            tenant = add_tenant(
                settings, catalog, connections, Unasked("Kept"), key=KEY, server="http://127.0.0.1:9",
                external_id="kept", credential=ApiKeyCredential("me@example.org", SECRET),
            )  # fmt: skip
            login, marts = catalog.schemas.rw_login(tenant), catalog.schemas.get(tenant).marts
            with connections.tenant(login.user, login.password).connect() as connection:
                connection.execute(
                    f"CREATE TABLE {marts}.cases AS SELECT 'c' || n AS case_id FROM generate_series(1, 7) n"
                )
        (home / "audit").mkdir(exist_ok=True)
        (home / "audit" / "1-2.jsonl").write_text("{}\n")
        yield home


def test_a_backup_is_restored_with_data_keys_and_logins(home: Path, explorer: Explorer, tmp_path: Path) -> None:
    folder = tmp_path / "backup"

    def run(*arguments: str, at: Path) -> tuple[int, dict[str, object]]:
        done = explorer(*arguments, "--json", EXPLORER_HOME=str(at), EXPLORER_POSTGRES_FSYNC="false")
        return done.code, done.json

    code, made = run("backup", str(folder), at=home)
    assert code == 0, made
    assert made["keys"] is True
    assert folder.stat().st_mode & 0o077 == 0
    code, refused = run("backup", str(folder), at=home)
    assert (code, refused["error"]["code"]) == (1, "backup_unusable")  # type: ignore[index]
    code, refused = run("restore", str(folder), at=home)
    assert (code, refused["error"]["code"]) == (1, "home_in_use")  # type: ignore[index]

    with throwaway_home() as other:
        damaged = shutil.copytree(folder, tmp_path / "damaged")
        with (damaged / "explorer.dump").open("ab") as file:
            file.write(b"x")
        code, refused = run("restore", str(damaged), at=other)
        assert "explorer.dump" in refused["error"]["message"]  # type: ignore[index]
        assert not (other / "secret.keys").exists()

        code, restored = run("restore", str(folder), at=other)
        assert code == 0, restored
        assert not EmbeddedPostgres(other).is_running()
        assert (other / "audit" / "1-2.jsonl").read_text() == "{}\n"
        settings = Settings(_env_file=None, home=other, database_url=None, postgres_fsync=False)
        connections = prepare(settings)
        with Catalog.open(settings) as catalog:
            tenant = catalog.tenants.get(KEY)
            credential = catalog.credentials.load(tenant)
            assert credential == ApiKeyCredential("me@example.org", SECRET)
            reader, marts = catalog.schemas.ro_login(tenant), catalog.schemas.get(tenant).marts
            with connections.tenant(reader.user, reader.password).connect() as connection:
                assert connection.execute(f"SELECT count(*) FROM {marts}.cases").fetchone() == (7,)
            actions = [record.entry.action for record in catalog.audit.read()]
            assert actions[0] == "restore"
    assert json.loads((folder / "manifest.json").read_text())["settings"]["home"] == str(home)


def test_of_a_clusters_roles_only_ours_are_kept() -> None:
    dumped = [
        "CREATE ROLE postgres;", "CREATE ROLE explorer_service;", "ALTER ROLE t_0a1b2c3d_rw WITH LOGIN PASSWORD 'x';",
        "CREATE ROLE somebody;", "GRANT dp_catalog TO dagster WITH INHERIT TRUE GRANTED BY postgres;",
        "GRANT somebody TO dagster;", "SET x = 1;",
    ]  # fmt: skip
    assert list(own_roles(dumped)) == [
        "CREATE ROLE explorer_service;", "ALTER ROLE t_0a1b2c3d_rw WITH LOGIN PASSWORD 'x';",
        "GRANT dp_catalog TO dagster WITH INHERIT TRUE;",
    ]  # fmt: skip
