import stat
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from cryptography.fernet import Fernet
from pydantic import SecretStr

from explorer.catalog import Catalog, Keyring, KeyringInvalid, KeyringMismatch, KeyringMissing, Tenant
from explorer.core.settings import Settings
from explorer.postgres.connections import Connections
from tests.conftest import PgServer
from tests.explorer.catalog.conftest import API_KEY


def settings(home: Path, keys: str | None = None) -> Settings:
    return Settings(_env_file=None, home=home, secret_keys=SecretStr(keys) if keys is not None else None)


def stored(connections: Connections, tenant: Tenant) -> tuple[bytes, bytes]:
    with connections.admin.connect() as conn:
        row = conn.execute(
            "SELECT ciphertext, passwords FROM catalog.credentials JOIN catalog.schemas USING (tenant_id) WHERE tenant_id = %s",
            [tenant.id],
        ).fetchone()
    assert row is not None
    return row


def test_loading_keys_makes_none(tmp_path: Path) -> None:
    with pytest.raises(KeyringMissing, match=r"no .*secret\.keys") as refused:
        Keyring.load(settings(tmp_path))
    assert "EXPLORER_SECRET_KEYS" in refused.value.next_step
    assert list(tmp_path.iterdir()) == []


def test_the_key_file_is_made_once_and_private(tmp_path: Path) -> None:
    def made(_: int) -> Keyring:
        Keyring.make(settings(tmp_path))
        return Keyring.load(settings(tmp_path))

    with ThreadPoolExecutor(4) as pool:
        keyrings = list(pool.map(made, range(4)))
    sealed = keyrings[0].encrypt("test", b"text")
    assert [keyring.decrypt("test", sealed) for keyring in keyrings] == [b"text"] * 4
    assert stat.S_IMODE((tmp_path / "secret.keys").stat().st_mode) == 0o600
    assert [path.name for path in tmp_path.iterdir()] == ["secret.keys"]


def test_keys_from_the_settings_leave_no_file(tmp_path: Path) -> None:
    new, old = Fernet.generate_key().decode(), Fernet.generate_key().decode()
    Keyring.make(settings(tmp_path, old))
    sealed = Keyring.load(settings(tmp_path, old)).encrypt("test", b"text")
    keyring = Keyring.load(settings(tmp_path, f"{new}, {old}"))
    assert keyring.decrypt("test", sealed) == b"text"
    assert Fernet(new).decrypt(keyring.encrypt("test", b"text"))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("keys", ["", ",", "hunter2", f"{'A' * 43},hunter2"])
def test_what_is_no_key_is_refused_and_not_repeated(tmp_path: Path, keys: str) -> None:
    with pytest.raises(KeyringInvalid) as refused:
        Keyring.load(settings(tmp_path, keys))
    assert "hunter2" not in str(refused.value)


def test_a_damaged_or_unreadable_key_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "secret.keys").write_bytes(b"\xff\xfe")
    with pytest.raises(KeyringInvalid, match="cannot be read"):
        Keyring.load(settings(tmp_path))
    (tmp_path / "file").touch()
    for refuse in (Keyring.load, Keyring.make):
        with pytest.raises(KeyringInvalid, match="cannot be read"):
            refuse(settings(tmp_path / "file"))


def test_a_keyring_does_not_show_its_keys(tmp_path: Path) -> None:
    Keyring.make(settings(tmp_path))
    keyring = Keyring.load(settings(tmp_path))
    assert (tmp_path / "secret.keys").read_text().strip() not in repr(keyring)


def test_another_key_is_a_typed_error_that_says_what_to_do(
    catalog: Catalog, connections: Connections, tenant: Tenant
) -> None:
    stranger = Catalog(connections.service, Keyring(Fernet.generate_key().decode()))
    for call in (stranger.credentials.load, stranger.schemas.ro_login):
        with pytest.raises(KeyringMismatch) as refused:
            call(tenant)
        assert "secret.keys" in refused.value.next_step
    with pytest.raises(KeyringMismatch):
        stranger.rotate_keys()
    assert catalog.credentials.load(tenant) == API_KEY
    stranger.close()


def test_secrets_moved_to_another_tenant_do_not_decrypt(
    catalog: Catalog, connections: Connections, make_tenant: Callable[..., Tenant]
) -> None:
    mine, theirs = make_tenant(), make_tenant()
    with connections.service.connect() as conn:
        conn.execute(
            "UPDATE catalog.credentials SET ciphertext = (SELECT ciphertext FROM catalog.credentials WHERE tenant_id = %s)"
            " WHERE tenant_id = %s",
            [theirs.id, mine.id],
        )
    with pytest.raises(KeyringMismatch, match="another place"):
        catalog.credentials.load(mine)
    catalog.credentials.save(mine, API_KEY)


def test_nothing_secret_is_stored_in_the_clear(connections: Connections, tenant: Tenant) -> None:
    credential, passwords = stored(connections, tenant)
    assert API_KEY.api_key.encode() not in credential
    assert b"rw-password" not in passwords


def test_rotation_reaches_every_secret_and_running_processes(
    catalog: Catalog, connections: Connections, pg_server: PgServer, tenant: Tenant
) -> None:
    with Catalog.open(pg_server.settings) as running:
        assert running.credentials.load(tenant) == API_KEY
        before = stored(connections, tenant)
        assert catalog.rotate_keys() >= 2
        newest = (pg_server.home / "secret.keys").read_text().split()[0]
        credential, passwords = stored(connections, tenant)
        assert (credential, passwords) != before
        assert Fernet(newest).decrypt(credential)
        assert Fernet(newest).decrypt(passwords)
        assert running.credentials.load(tenant) == API_KEY
        assert running.schemas.rw_login(tenant).password == "rw-password"
        running.credentials.save(tenant, API_KEY)
        assert Fernet(newest).decrypt(stored(connections, tenant)[0])
    assert stat.S_IMODE((pg_server.home / "secret.keys").stat().st_mode) == 0o600


def test_concurrent_rotations_lose_nothing(catalog: Catalog, pg_server: PgServer, tenant: Tenant) -> None:
    catalogs = [Catalog.open(pg_server.settings) for _ in range(3)]
    with ThreadPoolExecutor(3) as pool:
        list(pool.map(Catalog.rotate_keys, catalogs))
    for opened in catalogs:
        assert opened.credentials.load(tenant) == API_KEY
        opened.close()


def test_a_rotation_that_meets_a_foreign_secret_changes_nothing(
    catalog: Catalog, connections: Connections, pg_server: PgServer, tenant: Tenant, make_tenant: Callable[..., Tenant]
) -> None:
    broken = make_tenant()
    before, keys = stored(connections, tenant), (pg_server.home / "secret.keys").read_text()
    foreign = Keyring(Fernet.generate_key().decode()).encrypt(f"credential:{broken.id}", b"{}")
    with connections.service.connect() as conn:
        conn.execute("UPDATE catalog.credentials SET ciphertext = %s WHERE tenant_id = %s", [foreign, broken.id])
    try:
        with pytest.raises(KeyringMismatch):
            catalog.rotate_keys()
        assert stored(connections, tenant) == before
        assert (pg_server.home / "secret.keys").read_text() == keys
    finally:
        catalog.credentials.save(broken, API_KEY)
