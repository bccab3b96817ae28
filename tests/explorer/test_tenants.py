"""Adding and removing tenants against a real server: the state afterwards, also after failures in between."""

import os
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from uuid import uuid4

import psycopg
import pytest

from explorer import tenants
from explorer.catalog import (
    ApiKeyCredential,
    Catalog,
    Credential,
    CredentialInvalid,
    ExternalIdTaken,
    FieldsCredential,
    Keyring,
    KeyringMismatch,
    OAuthCredential,
    ProvisioningKind,
    ProvisioningRequest,
    SchemaStateConflict,
    ServerInvalid,
    State,
    Tenant,
    TenantExists,
    TenantKeyInvalid,
    TenantKeyRetired,
    TenantStatus,
    migrate,
)
from explorer.core.errors import ExplorerError, UnknownTenant
from explorer.core.settings import Settings
from explorer.postgres.connections import Connections
from explorer.postgres.run_lock import Waiting, run_lock
from explorer.providers.base import Access
from explorer.providers.commcare.provider import CommCare
from explorer.providers.commcare.servers import DomainInvalid
from explorer.providers.commcare.structure_diff import structure_diff
from explorer.provisioning import carry_out
from tests.conftest import PgServer

API_KEY = ApiKeyCredential("user@example.org", "a-key")
GRANTED = Access("user@example.org", "A project")
World = dict[str, list[Any]]


class NoAccess(ExplorerError):
    code = "no_access"


def granted(server: str, domain: str, credential: Credential, *, settings: Settings, refresh: object) -> Access:
    return GRANTED


class Checked(CommCare):
    """CommCare whose check of access is the test's own."""

    def __init__(self, verify: Callable[..., Access]) -> None:
        self.verify_access = verify  # type: ignore[method-assign]


@dataclass(frozen=True)
class Platform:
    """The three things every call needs, and the calls."""

    settings: Settings
    catalog: Catalog
    connections: Connections

    def add(self, name: str, verify: Callable[..., Access] = granted, **changes: Any) -> Tenant:
        wanted = {
            "key": f"t:{name}",
            "server": "www",
            "external_id": name,
            "credential": API_KEY,
            **changes,
        }
        return tenants.add_tenant(self.settings, self.catalog, self.connections, Checked(verify), **wanted)

    def remove(self, tenant: Tenant, *, purge: bool) -> Tenant:
        return tenants.remove_tenant(self.settings, self.catalog, self.connections, tenant.key, purge=purge)

    def provision(self, tenant: Tenant) -> str:
        return tenants.provision_schema(self.settings, self.catalog, self.connections, tenant).prefix

    def teardown(self, tenant: Tenant) -> State:
        return tenants.teardown_schema(self.settings, self.catalog, self.connections, tenant).state

    def world(self) -> World:
        """Everything that adding a tenant makes, on both sides."""
        queries = {
            "roles": "SELECT rolname FROM pg_roles WHERE rolname ~ '^t_[0-9a-f]{8}_' ORDER BY 1",
            "schemas": "SELECT nspname FROM pg_namespace WHERE nspname ~ '^t_[0-9a-f]{8}_' ORDER BY 1",
            "tenants": "SELECT * FROM catalog.tenants ORDER BY 1",
            "credentials": "SELECT * FROM catalog.credentials ORDER BY 1",
            "states": "SELECT tenant_id, state, state <> 'absent' AND prefix IS NOT NULL FROM catalog.schemas ORDER BY 1",
        }
        with self.connections.admin.connect() as conn:
            return {name: conn.execute(query).fetchall() for name, query in queries.items()}  # type: ignore[call-overload]

    def run(self, tenant: Tenant, role: str, statement: str) -> list[Any]:
        """Run SQL as one of the tenant's logins."""
        login = getattr(self.catalog.schemas, f"{role}_login")(tenant)
        with self.connections.tenant(login.user, login.password).connect() as conn:
            cursor = conn.execute(statement.replace("MARTS", self.catalog.schemas.get(tenant).marts))
            return cursor.fetchall() if cursor.description else []

    def fill(self, tenant: Tenant) -> None:
        self.run(tenant, "rw", "CREATE TABLE MARTS.cases AS SELECT 42 AS n")

    def read(self, tenant: Tenant) -> list[Any]:
        return self.run(tenant, "ro", "SELECT n FROM MARTS.cases")


@pytest.fixture(scope="module")
def platform(pg_server: PgServer, connections: Connections) -> Iterator[Platform]:
    migrate(connections)
    with Catalog.open(pg_server.settings) as catalog:
        yield Platform(pg_server.settings, catalog, connections)


@pytest.fixture
def name() -> str:
    return f"d-{uuid4().hex[:12]}"


def test_a_new_tenant_can_load_and_be_read(platform: Platform, name: str) -> None:
    tenant = platform.add(name)
    assert (tenant.key, tenant.server, tenant.external_id) == (f"t:{name}", "https://www.commcarehq.org", name)
    assert (tenant.display_name, tenant.status) == ("A project", TenantStatus.ACTIVE)
    assert platform.catalog.tenants.get(tenant.key) == tenant
    assert platform.catalog.credentials.load(tenant) == API_KEY
    assert platform.catalog.schemas.get(tenant).state is State.ACTIVE
    platform.fill(tenant)
    assert platform.read(tenant) == [(42,)]
    with pytest.raises(psycopg.Error):
        platform.run(tenant, "ro", "CREATE TABLE MARTS.mine (a int)")


@pytest.mark.parametrize(
    ("changes", "error"),
    [
        ({"key": "a b"}, TenantKeyInvalid),
        ({"server": "http://hq.example.org"}, ServerInvalid),
        ({"external_id": "a/b"}, DomainInvalid),
        ({"credential": ApiKeyCredential("user", "")}, CredentialInvalid),
        ({"credential": FieldsCredential("token", {"token": "t"})}, CredentialInvalid),
    ],
)
def test_what_cannot_be_right_is_refused_before_the_server_is_asked(
    platform: Platform, name: str, changes: dict[str, Any], error: type[ExplorerError]
) -> None:
    def asked(*_: object, **__: object) -> Access:
        raise AssertionError

    before = platform.world()
    with pytest.raises(error):
        platform.add(name, verify=asked, **changes)
    assert platform.world() == before


def test_nothing_is_made_while_access_is_not_certain(platform: Platform, name: str) -> None:
    before = platform.world()

    def refused(*_: object, **__: object) -> Access:
        assert platform.world() == before
        raise NoAccess("No.", next_step="Ask.")

    with pytest.raises(NoAccess):
        platform.add(name, verify=refused)
    assert platform.world() == before


def test_tokens_refreshed_while_access_is_checked_are_the_ones_kept(platform: Platform, name: str) -> None:
    given = OAuthCredential("id", "", "https://www.commcarehq.org/oauth/token/", "", "refresh-1")

    def verify(
        _: str, __: str, credential: OAuthCredential, *, settings: Settings, refresh: Callable[..., Any]
    ) -> Access:
        assert credential.expires_at is not None
        assert (
            refresh("", lambda old: replace(old, access_token="access-2", refresh_token="refresh-2")).access_token
            == "access-2"
        )
        return GRANTED

    kept = platform.catalog.credentials.load(platform.add(name, credential=given, verify=verify))
    assert isinstance(kept, OAuthCredential)
    assert (kept.access_token, kept.refresh_token) == ("access-2", "refresh-2")


def failing(
    monkeypatch: pytest.MonkeyPatch, owner: object, function: str, *, error: BaseException, do_it: bool
) -> None:
    real = getattr(owner, function)

    def fail(*args: Any, **kwargs: Any) -> None:
        if do_it:
            real(*args, **kwargs)
        raise error

    monkeypatch.setattr(owner, function, fail)


@pytest.mark.parametrize(
    ("step", "do_it", "known", "error"),
    [
        ("start", False, False, NoAccess("Broken.", next_step="Mend it.")),
        ("start", True, False, NoAccess("Broken.", next_step="Mend it.")),
        ("provision", False, False, NoAccess("Broken.", next_step="Mend it.")),
        ("provision", True, False, KeyboardInterrupt()),
        ("provision", True, True, KeyboardInterrupt()),
        ("complete", False, False, KeyboardInterrupt()),
        ("complete", False, True, NoAccess("Broken.", next_step="Mend it.")),
    ],
)
def test_a_failure_at_any_step_leaves_nothing(
    platform: Platform,
    name: str,
    monkeypatch: pytest.MonkeyPatch,
    step: str,
    do_it: bool,
    known: bool,
    error: BaseException,
) -> None:
    if known:
        platform.remove(platform.add(name), purge=True)
    before = platform.world()
    owner = {"provision": tenants, "start": platform.catalog.schemas, "complete": platform.catalog.registration}[step]
    with monkeypatch.context() as patched:
        failing(patched, owner, step, error=error, do_it=do_it)
        with pytest.raises(type(error)):
            platform.add(name)
    assert platform.world() == before
    assert platform.add(name).status is TenantStatus.ACTIVE


def test_a_half_made_database_side_is_taken_back(
    platform: Platform, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The server itself refuses in the middle of provisioning."""
    before = platform.world()
    real = tenants.provision

    def refused(conn: Any, prefix: str, **passwords: Any) -> None:
        real(conn, prefix, **passwords)
        conn.execute("SELECT 1/0")

    with monkeypatch.context() as patched:
        patched.setattr(tenants, "provision", refused)
        with pytest.raises(psycopg.errors.DivisionByZero):
            platform.add(name)
    assert platform.world() == before


def test_what_a_killed_process_left_is_cleared_by_the_next_add(
    platform: Platform, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = platform.world()
    child = os.fork()
    if child == 0:
        monkeypatch.setattr(platform.catalog.registration, "complete", lambda *_: os._exit(9))
        try:
            platform.add(name)
        finally:
            os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 9
    left = platform.world()
    assert len(left["roles"]) == len(before["roles"]) + 2
    assert [row[7] for row in left["tenants"] if row not in before["tenants"]] == ["provisioning"]
    with pytest.raises(UnknownTenant):
        platform.catalog.tenants.get(f"t:{name}")
    other = platform.add(f"{name}-other")
    after = platform.world()
    assert len(after["roles"]) == len(left["roles"])
    assert {row[1] for row in after["tenants"]} - {row[1] for row in before["tenants"]} == {other.key}


def test_of_several_that_add_one_tenant_at_once_one_wins(platform: Platform, name: str) -> None:
    together = threading.Barrier(3)

    def verify(*_: object, **__: object) -> Access:
        together.wait(timeout=60)
        return GRANTED

    def add(_: int) -> str:
        with Catalog.open(platform.settings) as catalog:
            try:
                return replace(platform, catalog=catalog).add(name, verify=verify).key
            except TenantExists as error:
                return error.code

    roles = len(platform.world()["roles"])
    with ThreadPoolExecutor(3) as pool:
        answers = list(pool.map(add, range(3)))
    assert sorted(answers) == sorted([f"t:{name}", "tenant_exists", "tenant_exists"])
    assert len(platform.world()["roles"]) == roles + 2


def test_one_project_space_has_one_key(platform: Platform, name: str) -> None:
    platform.add(name)
    before = platform.world()
    with pytest.raises(TenantExists):
        platform.add(name)
    with pytest.raises(TenantExists):
        platform.add(f"{name}-2", key=f"T:{name.upper()}")
    for spelling in (name, name.upper(), name.replace("-", "_")):
        with pytest.raises(ExternalIdTaken) as refused:
            platform.add(spelling, key=f"other:{name}")
        assert f"t:{name}" in refused.value.message
    assert platform.world() == before
    assert platform.add(name, key=f"eu:{name}", server="eu").server == "https://eu.commcarehq.org"


def test_a_removed_tenant_is_hidden_and_comes_back_with_its_data(platform: Platform, name: str) -> None:
    tenant = platform.add(name)
    platform.fill(tenant)
    token = platform.catalog.principals.create_token(name, [tenant])
    assert platform.remove(tenant, purge=False).status is TenantStatus.REMOVED
    with pytest.raises(UnknownTenant):
        platform.catalog.tenants.get(tenant.key)
    assert tenant.key not in {found.key for found in platform.catalog.tenants.list()}
    assert tenant.key in {found.key for found in platform.catalog.tenants.list(include_removed=True)}
    with pytest.raises(UnknownTenant):
        platform.remove(tenant, purge=False)
    with pytest.raises(TenantKeyRetired):
        platform.add(f"{name}-other", key=tenant.key)
    again = platform.add(name, credential=ApiKeyCredential("user@example.org", "key-2"))
    assert again == tenant
    assert platform.read(again) == [(42,)]
    assert platform.catalog.credentials.load(again) == ApiKeyCredential("user@example.org", "key-2")
    principal = platform.catalog.principals.verify(token)
    assert principal is not None
    assert set(principal.grants) == {tenant.key}


def test_a_failure_to_revive_leaves_the_data(platform: Platform, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    tenant = platform.add(name)
    platform.fill(tenant)
    platform.remove(tenant, purge=False)
    before = platform.world()
    with monkeypatch.context() as patched:
        failing(patched, platform.catalog.registration, "complete", error=OSError(), do_it=False)
        with pytest.raises(OSError):  # noqa: PT011
            platform.add(name)
    assert platform.world() == before
    assert platform.read(platform.add(name)) == [(42,)]


def test_a_tenant_whose_keys_are_lost_comes_back_with_its_data(platform: Platform, name: str) -> None:
    tenant = platform.add(name)
    platform.fill(tenant)
    renewed = Catalog(platform.connections.service, Keyring("B" * 43))
    with pytest.raises(KeyringMismatch, match="cannot be decrypted"):
        renewed.schemas.ro_login(tenant)
    elsewhere = replace(platform, catalog=renewed)
    elsewhere.remove(tenant, purge=False)
    assert elsewhere.read(elsewhere.add(name)) == [(42,)]
    elsewhere.remove(tenant, purge=True)
    renewed.close()


def test_purging_leaves_history_only(platform: Platform, name: str) -> None:
    empty = platform.world()
    tenant = platform.add(name)
    platform.fill(tenant)
    platform.catalog.discovered.save(tenant, {"apps": [{"id": "a"}]}, diff=structure_diff)
    platform.catalog.principals.create_token(name, [tenant])
    prefix = platform.catalog.schemas.get(tenant).prefix
    work = [platform.settings.home / part / prefix for part in ("dlt", "dbt")]
    for folder in work:
        (folder / "pending").mkdir(parents=True)
    platform.remove(tenant, purge=True)
    after = platform.world()
    assert (after["roles"], after["schemas"], after["credentials"]) == (
        empty["roles"],
        empty["schemas"],
        empty["credentials"],
    )
    assert not any(map(Path.exists, work))
    latest = platform.catalog.discovered.latest(tenant)
    assert latest is not None
    assert latest.structure == {"apps": [{"id": "a"}]}
    again = platform.add(name)
    assert again.id == tenant.id
    assert platform.catalog.schemas.get(again).prefix != prefix
    assert {s.name: s.grants for s in platform.catalog.principals.list()}[name] == {}


def test_a_tenant_removed_earlier_can_still_be_purged(platform: Platform, name: str) -> None:
    empty = platform.world()
    tenant = platform.add(name)
    platform.remove(tenant, purge=False)
    platform.remove(tenant, purge=True)
    assert platform.world()["roles"] == empty["roles"]
    platform.remove(tenant, purge=True)


def test_a_tenant_at_work_is_not_purged_or_torn_down(platform: Platform, name: str) -> None:
    tenant = platform.add(name)
    platform.catalog.schemas.transition(tenant, {State.ACTIVE}, State.MATERIALIZING, run_id="run-1")
    before = platform.world()
    with pytest.raises(SchemaStateConflict, match="run-1"):
        platform.remove(tenant, purge=True)
    with pytest.raises(SchemaStateConflict, match="run-1"):
        platform.teardown(tenant)
    assert platform.world() == before
    assert platform.catalog.tenants.get(tenant.key).status is TenantStatus.ACTIVE


def test_schemas_go_and_come_back_empty_under_another_name(platform: Platform, name: str) -> None:
    tenant = platform.add(name)
    platform.fill(tenant)
    prefix = platform.catalog.schemas.get(tenant).prefix
    assert platform.provision(tenant) == prefix
    assert platform.read(tenant) == [(42,)]
    assert platform.teardown(tenant) is State.ABSENT
    assert platform.teardown(tenant) is State.ABSENT
    assert not [row for row in platform.world()["roles"] if row[0].startswith(prefix)]
    assert platform.catalog.credentials.load(tenant) == API_KEY
    assert platform.provision(tenant) != prefix
    platform.fill(tenant)
    platform.remove(tenant, purge=False)
    with pytest.raises(UnknownTenant):
        platform.provision(tenant)


def test_the_job_does_once_what_it_is_asked_and_takes_over_from_a_dead_worker(platform: Platform, name: str) -> None:
    """While something is open, nothing else is asked for; how it ended is in the request and in the audit trail."""
    tenant, store = platform.add(name), platform.catalog.provisioning

    def read(request: ProvisioningRequest) -> ProvisioningRequest:
        found = store.get(request.id)
        assert found is not None
        return found

    def carried_out(request: ProvisioningRequest, run_id: str) -> ProvisioningRequest:
        carry_out(platform.settings, platform.catalog, platform.connections, request.id, run_id=run_id)
        return read(request)

    asked = store.ask(ProvisioningKind.TEARDOWN, tenant, "jane")
    assert store.ask(ProvisioningKind.PROVISION, tenant, "joe") == asked == store.open(tenant)
    store.begin(asked.id, "a worker that died")
    done = carried_out(asked, "run-1")
    assert (done.has_ended, done.failure, done.run_id, done.actor) == (True, None, "run-1", "jane")
    assert platform.catalog.schemas.get(tenant).state is State.ABSENT
    platform.provision(tenant)
    assert carried_out(asked, "run-2") == done
    assert platform.catalog.schemas.get(tenant).state is State.ACTIVE
    platform.catalog.schemas.transition(tenant, {State.ACTIVE}, State.MATERIALIZING, run_id="at-work")
    refused = store.ask(ProvisioningKind.TEARDOWN, tenant, "joe")
    with pytest.raises(SchemaStateConflict):
        carried_out(refused, "run-3")
    failure = read(refused).failure or {}
    assert failure["code"] == "schema_state_conflict"
    assert "at-work" in failure["message"]
    assert store.open(tenant) is None
    entries = [record.entry for record in platform.catalog.audit.read(tenant=tenant.key)]
    assert [(entry.actor, entry.outcome, entry.code) for entry in entries if entry.action == "provisioning"] == [
        ("joe", "error", "schema_state_conflict"),
        ("jane", "ok", None),
    ]


def test_who_registers_chooses_the_schedules_of_what_the_job_makes_for_them(
    platform: Platform, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also when its worker died after the tenant was made. A tenant that was there before keeps its own."""
    monkeypatch.setattr("explorer.provisioning.provider_named", lambda _: Checked(granted))
    place = {"provider": "commcare", "server": "https://www.commcarehq.org"}

    def chosen(name: str, follows: str, worker: Callable[[], object] = lambda: None) -> tuple[str | None, bool]:
        wish, store = {**place, "external_id": name, "follows": follows}, platform.catalog.provisioning
        asked = store.ask_to_register(f"t:{name}", wish, API_KEY, "jane")
        assert asked is not None
        worker()
        carry_out(platform.settings, platform.catalog, platform.connections, asked.id, run_id="run")
        sync = platform.catalog.syncs.of(platform.catalog.tenants.get(f"t:{name}"), "commcare_sync")
        return sync.cron, sync.is_stopped

    assert chosen(name, "none") == (None, True)
    assert chosen(name, "daily") == (None, True)
    assert chosen(f"{name}-2", "daily", lambda: platform.add(f"{name}-2")) == ("0 2 * * *", False)
    assert chosen(f"{name}-3", "usual") == (None, False)


def test_a_failed_provisioning_can_be_tried_again(
    platform: Platform, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    tenant = platform.add(name)
    platform.teardown(tenant)
    before = platform.world()
    with monkeypatch.context() as patched:
        failing(patched, tenants, "provision", error=OSError(), do_it=True)
        with pytest.raises(OSError):  # noqa: PT011
            platform.provision(tenant)
    assert platform.world() == before
    platform.provision(tenant)
    assert platform.catalog.schemas.get(tenant).state is State.ACTIVE


def test_a_failed_teardown_says_so_and_is_finished_later(
    platform: Platform, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    tenant = platform.add(name)
    marts = platform.catalog.schemas.get(tenant).marts
    platform.fill(tenant)
    with platform.connections.admin.connect(autocommit=True) as conn:
        conn.execute(f"CREATE VIEW public.{marts}_of_another AS SELECT * FROM {marts}.cases")
        try:
            with pytest.raises(ExplorerError):
                platform.teardown(tenant)
        finally:
            conn.execute(f"DROP VIEW public.{marts}_of_another")
    failed = platform.catalog.schemas.get(tenant)
    assert failed.state is State.TEARDOWN
    assert failed.last_error
    assert platform.teardown(tenant) is State.ABSENT


def expire(platform: Platform, tenant: Tenant, is_idle: Callable[[], bool] = lambda: True) -> bool:
    seen = platform.catalog.schemas.get(tenant)
    return tenants.expire_schema(platform.settings, platform.catalog, platform.connections, tenant, seen, is_idle)


def refresh(platform: Platform, tenant: Tenant, run_id: str) -> None:
    """What a step of a run does with the tenant's tables: under its lock, with the mark, one row of its own."""
    schemas = platform.catalog.schemas
    schema, login = schemas.get(tenant), schemas.rw_login(tenant)
    database = platform.connections.tenant(login.user, login.password)
    with run_lock(
        database, tenant.key, schema.prefix, holder=run_id, waiting=Waiting(5.0, lambda _: None)
    ) as connection:
        schemas.transition(tenant, {State.ACTIVE}, State.MATERIALIZING, run_id=run_id)
        connection.execute(f"CREATE TABLE IF NOT EXISTS {schema.raw}.fresh (run text)".encode())
        connection.execute(f"INSERT INTO {schema.raw}.fresh VALUES (%s)".encode(), [run_id])
        schemas.transition(tenant, {State.MATERIALIZING}, State.ACTIVE, run_id=run_id)


def test_schemas_that_nobody_asks_go_and_the_next_run_makes_them_again(platform: Platform, name: str) -> None:
    tenant, schemas = platform.add(name), platform.catalog.schemas
    before = schemas.get(tenant)
    assert not expire(platform, tenant, lambda: False)
    assert schemas.get(tenant) == before
    assert expire(platform, tenant)
    gone = schemas.get(tenant)
    assert (gone.state, gone.is_gone_for_now) == (State.ABSENT, True)
    assert platform.catalog.tenants.get(tenant.key) == tenant
    entry = platform.catalog.audit.read(tenant=tenant.key)[0].entry
    assert (entry.actor, entry.action) == (tenants.EXPIRY, "expire_schema")
    last = platform.catalog.audit.last_of(tenant.key, but_by=tenants.EXPIRY)
    assert last is not None
    assert last < gone.state_changed_at
    assert not expire(platform, tenant)
    platform.provision(tenant)
    assert not schemas.get(tenant).is_gone_for_now
    # What somebody tore down is not made again by a run.
    platform.teardown(tenant)
    assert not schemas.get(tenant).is_gone_for_now


def test_a_refresh_that_races_the_expiry_loses_nothing(platform: Platform, name: str) -> None:
    """Whoever comes first: a refresh that was told to have succeeded finds its row, or it is told that it has not."""
    tenant, schemas = platform.add(name), platform.catalog.schemas
    outcomes = set()
    for number in range(8):
        run_id, both = f"run-{number}", threading.Barrier(2)

        def loaded(run_id: str = run_id, both: threading.Barrier = both, number: int = number) -> bool:
            both.wait()
            time.sleep(0.01 * (number % 4))
            try:
                refresh(platform, tenant, run_id)
            except (ExplorerError, psycopg.Error):
                return False
            return True

        def expired(both: threading.Barrier = both) -> bool:
            seen = schemas.get(tenant)
            both.wait()
            return tenants.expire_schema(
                platform.settings, platform.catalog, platform.connections, tenant, seen, lambda: True
            )

        with ThreadPoolExecutor(2) as pool:
            was_loaded, was_expired = [each.result() for each in (pool.submit(loaded), pool.submit(expired))]
        assert not (was_loaded and was_expired), run_id
        outcomes.add((was_loaded, was_expired))
        if was_expired:
            platform.provision(tenant)
        else:
            raw = schemas.get(tenant).raw
            assert (run_id,) in platform.run(tenant, "rw", f"SELECT run FROM {raw}.fresh")
    assert outcomes <= {(True, False), (False, True)}
