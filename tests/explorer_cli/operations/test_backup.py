"""Backup and restore: what was there is there again, with its keys; a changed file or a HOME in use is refused and kept."""

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from explorer.catalog import ApiKeyCredential, Catalog
from explorer.core.settings import Settings
from explorer.installation import prepare, set_up
from explorer.postgres.connections import Connections, Login
from explorer.postgres.embedded import EmbeddedPostgres
from explorer.postgres.state import read_record
from explorer.tenants import add_tenant
from explorer_cli.operations.backup.package import BackupUnusable, Manifest, checksum, read_manifest, write_manifest
from explorer_cli.operations.backup.programs import Programs
from explorer_cli.operations.backup.roles import own_roles, united
from tests.conftest import throwaway_home
from tests.explorer_cli.conftest import Explorer
from tests.unasked import Unasked

KEY = "www:kept"
SECRET = "0123456789abcdef"


@pytest.fixture(scope="module")
def home() -> Iterator[Path]:
    """An installation with one tenant, which has a table."""
    with throwaway_home() as home:
        settings = Settings(_env_file=None, home=home, database_url=None, postgres_fsync=False)
        connections = set_up(settings)
        with Catalog.open(settings) as catalog:
            _add(settings, catalog, connections, KEY)
            tenant = catalog.tenants.get(KEY)
            login, marts = catalog.schemas.rw_login(tenant), catalog.schemas.get(tenant).marts
            with connections.tenant(login.user, login.password).connect() as connection:
                connection.execute(
                    f"CREATE TABLE {marts}.cases AS SELECT 'c' || n AS case_id FROM generate_series(1, 7) n"
                )
        (home / "audit").mkdir(exist_ok=True)
        (home / "audit" / "1-2.jsonl").write_text("{}\n")
        (home / "audit" / ".unfinished").write_text("{")
        yield home


def _add(settings: Settings, catalog: Catalog, connections: Connections, key: str) -> None:
    add_tenant(
        settings, catalog, connections, Unasked(key), key=key, server="http://127.0.0.1:9",
        external_id=key.partition(":")[2], credential=ApiKeyCredential("me@example.org", SECRET),
    )  # fmt: skip


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

        # Its roles cannot be made: what was begun is taken away, so that a good one can be restored there.
        failing = shutil.copytree(folder, tmp_path / "failing")
        roles = failing / "globals.sql"
        roles.write_text(roles.read_text() + "CREATE ROLE dagster;\n")
        manifest = json.loads((failing / "manifest.json").read_text())
        manifest["files"][roles.name] = checksum(roles)
        (failing / "manifest.json").write_text(json.dumps(manifest))
        code, refused = run("restore", str(failing), at=other)
        assert 'role "dagster" already exists' in refused["error"]["message"]  # type: ignore[index]
        assert not any((other / name).exists() for name in ("secret.keys", "postgres", "connection.json"))

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


def test_a_restore_with_logins_of_settings_closes_the_server_and_has_what_came_during_the_backup(
    home: Path, explorer: Explorer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    own = Settings(_env_file=None, home=home, database_url=None, postgres_fsync=False)
    dump = Programs.dump

    def dump_later(programs: Programs, database: str, file: Path) -> None:
        if database == "explorer":
            with Catalog.open(own) as catalog:
                _add(own, catalog, prepare(own), "www:late")
        dump(programs, database, file)

    with monkeypatch.context() as patch:
        patch.setattr(Programs, "dump", dump_later)
        made = explorer("backup", str(tmp_path / "backup"), EXPLORER_HOME=str(home))
    assert made.code == 0, made.err

    with throwaway_home() as elsewhere:
        server = EmbeddedPostgres(elsewhere, fsync=False)
        port = server.start().port
        record, passwords = read_record(elsewhere), read_record(home)
        assert record is not None
        assert passwords is not None
        logins = {"postgres": record.password, **passwords.roles}
        url = {user: f"postgresql://{user}:{password}@127.0.0.1:{port}/" for user, password in logins.items()}
        variables = {
            "EXPLORER_DATABASE_URL": url["postgres"] + "postgres",
            "EXPLORER_CATALOG_URL": url["explorer_service"] + "explorer",
            "EXPLORER_CATALOG_OWNER_URL": url["explorer_catalog"] + "explorer",
            "EXPLORER_DAGSTER_DATABASE_URL": url["dagster"] + "dagster",
        }

        def restore(at: Path) -> tuple[int, dict[str, object]]:
            done = explorer("restore", str(tmp_path / "backup"), "--json", EXPLORER_HOME=str(at), **variables)
            return done.code, done.json

        # All that an installation by settings has in its HOME.
        live = tmp_path / "live"
        live.mkdir()
        (live / "audit.key").write_text("live")
        code, refused = restore(live)
        assert (code, refused["error"]["code"]) == (1, "home_in_use")  # type: ignore[index]
        assert (live / "audit.key").read_text() == "live"
        assert not (live / "secret.keys").exists()

        # What a restore that fails half way has made is gone; what was there before is not.
        whole = Programs.restore

        def break_off(programs: Programs, file: Path) -> None:
            whole(programs, file)
            raise BackupUnusable("It broke off.", next_step="Try again.")

        there = "SELECT rolname FROM pg_roles UNION ALL SELECT datname FROM pg_database ORDER BY 1"
        with Login("127.0.0.1", port, "postgres", "postgres", record.password).connect(autocommit=True) as connection:
            connection.execute("CREATE ROLE explorer_somebody")
            before = connection.execute(there).fetchall()
            with monkeypatch.context() as patch:
                patch.setattr(Programs, "restore", break_off)
                code, refused = restore(tmp_path / "broken")
            assert (code, refused["error"]["message"]) == (1, "It broke off.")  # type: ignore[index]
            assert connection.execute(there).fetchall() == before

        code, restored = restore(tmp_path / "new")
        assert code == 0, restored
        settings = Settings(
            _env_file=None, home=tmp_path / "new", **{name[9:].lower(): value for name, value in variables.items()}
        )
        with Catalog.open(settings) as catalog:
            assert {tenant.key for tenant in catalog.tenants.list()} >= {KEY, "www:late"}
        with prepare(settings).admin.connect() as connection:
            for database in ("postgres", "template1", "dagster"):
                can_enter = "SELECT has_database_privilege('public', %s, 'CONNECT')"
                assert connection.execute(can_enter, [database]).fetchone() == (False,)

        code, refused = restore(tmp_path / "second")
        assert "has databases of an installation" in refused["error"]["message"]  # type: ignore[index]
        assert not [path for path in (tmp_path / "second").iterdir() if path.is_file()]


@pytest.mark.parametrize(
    "name", ["../outside", "audit/../../outside", "audit/.hidden", "connection.json", "audit/link"]
)
def test_a_backup_with_other_files_than_ours_is_refused(name: str, tmp_path: Path) -> None:
    folder = tmp_path / "backup"
    (folder / "audit").mkdir(parents=True)
    (tmp_path / "outside").write_text("x")
    (folder / "audit" / "link").symlink_to(tmp_path / "outside")
    usual = ("globals.sql", "explorer.dump", "dagster.dump", "audit/1-2.jsonl")
    for each in (*usual, "connection.json", "audit/.hidden"):
        (folder / each).write_text(each)

    def write(*names: str) -> None:
        files = {each: checksum(folder / each) or "" for each in names}
        write_manifest(folder, Manifest("2026-12-01", "0", "0001", 18, {}, files))

    write(*usual)
    assert set(read_manifest(folder).files) == set(usual)
    write(*usual, name)
    with pytest.raises(BackupUnusable, match="files that no backup has, or links"):
        read_manifest(folder)
    write(*usual[1:])
    with pytest.raises(BackupUnusable, match=r"globals\.sql"):
        read_manifest(folder)


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
    for odd in ("CREATE ROLE dagster \\! id", "ALTER ROLE dagster WITH LOGIN; DROP ROLE x;", "CREATE ROLE dagster :x;"):
        with pytest.raises(BackupUnusable, match="role dagster"):
            list(own_roles([odd]))


def test_roles_of_both_looks_are_kept_as_the_later_one_saw_them() -> None:
    before = ["CREATE ROLE t_0_rw;", "ALTER ROLE dagster WITH LOGIN PASSWORD 'a';", "GRANT dp_catalog TO t_0_rw;"]
    after = ["CREATE ROLE t_1_rw;", "ALTER ROLE dagster WITH LOGIN PASSWORD 'b';", "GRANT dp_catalog TO t_1_rw;"]
    assert united(before, after) == [
        "CREATE ROLE t_0_rw;", "CREATE ROLE t_1_rw;",
        "ALTER ROLE dagster WITH LOGIN PASSWORD 'a';", "ALTER ROLE dagster WITH LOGIN PASSWORD 'b';",
        "GRANT dp_catalog TO t_0_rw;", "GRANT dp_catalog TO t_1_rw;",
    ]  # fmt: skip
