"""Output and exit status of the commands: no traceback, and only the answer on stdout."""

import json
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from demo_commcare import MATERNAL, RunningServer
from explorer.catalog import ApiKeyCredential, Catalog, Identity, Scope, migrate
from explorer.catalog.coordination.request_slots import RequestSlots
from explorer.core.settings import Settings
from explorer.http.errors import Throttled
from explorer.http.limiter import RateLimiter
from explorer.postgres.connections import load_connections
from explorer.providers.commcare.client import CommCareClient
from explorer_cli.supervision.lock import Lock
from tests.conftest import PgServer
from tests.explorer_cli.conftest import ROOT, Answer, Explorer


def refused(answer: Answer, code: str) -> dict[str, str]:
    """The error that a command ended with; it has all three parts, and stdout holds nothing else."""
    assert answer.code != 0
    assert "Traceback" not in answer.out + answer.err
    error = answer.json["error"]
    assert error["code"] == code
    assert error["message"]
    assert error["next_step"]
    return dict(error)


@pytest.mark.parametrize(
    ("arguments", "needed", "says"),
    [
        (["--help"], set(), "doctor"),
        (["tenants", "--help"], {"pydantic"}, "schedule"),
        (["status"], {"pydantic"}, "Nothing runs"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_what_needs_no_database_waits_for_no_heavy_import(
    arguments: list[str], needed: set[str], says: str, home: Path
) -> None:
    """`needed`: by Typer for arguments, and by the settings."""
    heavy = {"dagster", "dbt", "dlt", "mcp", "sqlalchemy", "psycopg", "pydantic", "httpx"}
    code = f"import sys, explorer_cli.main as m; m.run({arguments}); print(sorted({heavy} & set(sys.modules)))"
    env = {**os.environ, "EXPLORER_HOME": str(home)}
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, env=env, capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == str(sorted(needed))
    assert says in done.stdout


def test_an_unknown_setting_is_named_with_its_nearest(explorer: Explorer) -> None:
    error = refused(explorer("status", "--json", EXPLORER_BRIDGE_PROT="1"), "settings_invalid")
    assert "EXPLORER_BRIDGE_PROT" in error["message"]
    assert "EXPLORER_BRIDGE_PORT" in error["next_step"]


@pytest.mark.parametrize("arguments", [("nonsense",), ("sync",), ("tenants", "add", "k", "--server")])
def test_a_command_line_that_cannot_be_read_ends_with_status_2(explorer: Explorer, arguments: tuple[str, ...]) -> None:
    answer = explorer(*arguments, "--json")
    refused(answer, "usage")
    assert answer.code == 2


def test_the_program_ends_with_the_status_of_the_command(home: Path) -> None:
    env = {**os.environ, "EXPLORER_HOME": str(home), "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-m", "explorer_cli", "status", "--json"]
    done = subprocess.run(command, env=env, cwd=home, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert json.loads(done.stdout)["running"] is False
    assert done.stderr == ""


def test_errors_for_people_are_one_block_on_stderr(explorer: Explorer) -> None:
    answer = explorer("tokens", "create", "--name", "n", "--tenant", "k", "--scope", "everything")
    assert answer.code == 1
    assert answer.out == ""
    assert "(scope_unknown)" in answer.err
    assert "What to do" in answer.err
    assert "metadata:read" in answer.err


def test_status_and_down_of_a_platform_that_never_ran(explorer: Explorer) -> None:
    status = explorer("status", "--json")
    assert status.code == 1
    assert (status.json["running"], status.json["healthy"], status.json["processes"]) == (False, False, {})
    for _ in range(2):
        down = explorer("down", "--json")
        assert (down.code, down.json["stopped"]) == (0, [])


def test_a_second_up_is_refused_with_the_pid_of_the_first(explorer: Explorer, home: Path) -> None:
    lock = Lock(home)
    lock.acquire()
    try:
        error = refused(explorer("up", "--json"), "already_running")
    finally:
        lock.release()
    assert "explorer down" in error["next_step"]


@pytest.fixture
def taken_port() -> Iterator[int]:
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server.getsockname()[1]


def test_a_port_in_use_is_named_before_anything_is_started(explorer: Explorer, home: Path, taken_port: int) -> None:
    error = refused(explorer("up", "--json", EXPLORER_BRIDGE_PORT=str(taken_port)), "port_in_use")
    assert str(taken_port) in error["message"]
    assert "EXPLORER_BRIDGE_PORT" in error["next_step"]
    assert not (home / "connection.json").exists()
    # A refused start holds no lock: the next one does not find a running supervisor.
    refused(explorer("up", "--json", EXPLORER_BRIDGE_PORT=str(taken_port)), "port_in_use")


def test_detached_up_passes_the_error_of_the_background_on(explorer: Explorer, taken_port: int) -> None:
    refused(explorer("up", "--detach", "--json", EXPLORER_DAGSTER_PORT=str(taken_port)), "port_in_use")


def test_a_home_that_cannot_be_made_is_an_error(explorer: Explorer, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    error = refused(explorer("status", "--json", EXPLORER_HOME=str(tmp_path / "file" / "home")), "home_not_usable")
    assert "EXPLORER_HOME" in error["next_step"]


def test_doctor_finds_what_is_wrong_and_says_how_to_mend_it(explorer: Explorer, home: Path, taken_port: int) -> None:
    home.chmod(0o777)
    (home / "secret.keys").write_text("k")
    (home / "secret.keys").chmod(0o644)
    answer = explorer("doctor", "--json", EXPLORER_BRIDGE_PORT=str(taken_port))
    assert answer.code == 1
    wrong = {check["check"]: check["next_step"] for check in answer.json["checks"] if check["outcome"] == "wrong"}
    assert set(wrong) == {"state folder", "private files", "ports"}
    assert wrong["state folder"] == f"Run `chmod go-w {home}`."
    assert "chmod -R go-rwx" in wrong["private files"]
    home.chmod(0o700)
    (home / "secret.keys").unlink()
    assert explorer("doctor", "--json", EXPLORER_BRIDGE_PORT="0", EXPLORER_DAGSTER_PORT="0").code == 0


def test_what_nobody_foresaw_is_logged_and_not_shown(
    explorer: Explorer, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def explode(*, as_json: bool) -> int:
        raise ZeroDivisionError("secret details")

    monkeypatch.setattr("explorer_cli.operations.lifecycle.status", explode)
    answer = explorer("status")
    assert (answer.code, answer.out) == (1, "")
    assert "(internal_error)" in answer.err
    assert "secret details" not in answer.err
    assert "ZeroDivisionError: secret details" in (home / "logs" / "explorer.log").read_text()


def test_sentences_with_paths_stay_whole_however_narrow_the_output(explorer: Explorer, home: Path) -> None:
    answer = explorer("status", COLUMNS="30")
    assert answer.out == f"Nothing runs under {home}. Start it with `explorer up`, or `explorer demo`.\n"
    assert str(home) in explorer("doctor", COLUMNS="30", EXPLORER_BRIDGE_PORT="0", EXPLORER_DAGSTER_PORT="0").out


class TestTenantsAndTokens:
    """With a database and a CommCare server. Dagster does not run, so its sensor must register partitions later."""

    @pytest.fixture
    def operator(self, explorer: Explorer, pg_server: PgServer, commcare: RunningServer) -> Explorer:
        migrate(pg_server.connections)

        def run(*args: str, **variables: str) -> Answer:
            common = {"EXPLORER_HOME": str(pg_server.home), "COMMCARE_KEY": commcare.api_key}
            return explorer(*args, **common | variables)

        return run

    def add(self, operator: Explorer, commcare: RunningServer, key: str, domain: str, **variables: str) -> Answer:
        return operator(
            "tenants", "add", key, "--server", commcare.url, "--domain", domain, "--username", commcare.username,
            "--api-key-env", "COMMCARE_KEY", "--json", **variables,
        )  # fmt: skip

    def test_the_life_of_a_tenant_and_its_token(self, operator: Explorer, commcare: RunningServer) -> None:
        key = "cli:nutrition"
        added = self.add(operator, commcare, key, "demo-nutrition")
        assert added.code == 0, added.out + added.err
        assert added.json["tenant"]["key"] == key
        assert added.json["partition_registered"] is False
        assert commcare.api_key not in added.out + added.err
        listed = operator("tenants", "list", "--json").json["tenants"]
        assert [row["schema_state"] for row in listed if row["key"] == key] == ["active"]

        created = operator("tokens", "create", "--name", "cli agent", "--tenant", key)
        assert created.code == 0, created.err
        (token,) = created.out.splitlines()
        assert token.startswith("dex_")
        assert created.err == ""
        (row,) = [row for row in operator("tokens", "list", "--json").json["tokens"] if row["name"] == "cli agent"]
        assert row["grants"] == {key: ["metadata:read", "query:run", "runs:cancel", "runs:launch"]}
        assert token not in operator("tokens", "list").out
        assert operator("tokens", "revoke", "cli agent").code == 0
        refused(operator("tokens", "revoke", "cli agent", "--json"), "unknown_principal")

        refused(operator("tenants", "remove", key, "--purge", "--json"), "confirmation_needed")
        assert operator("tenants", "remove", key, "--purge", "--yes", "--json").json["removed"] == key
        refused(operator("tenants", "remove", key, "--json"), "unknown_tenant")

    def test_many_tenants_come_from_a_file_and_have_turns_of_their_own(
        self, operator: Explorer, commcare: RunningServer, pg_server: PgServer, tmp_path: Path
    ) -> None:
        file, url = tmp_path / "tenants.csv", commcare.url
        file.write_text(
            "key,server,domain,username,api_key_env,cron,requests_per_day\n"
            f"cli:one,{url},demo-nutrition,{commcare.username},COMMCARE_KEY,0 */2 * * *,50\n"
            f"cli:two,{url},demo-maternal-health,{commcare.username},NO_SUCH_VARIABLE,,\n"
        )
        tried = operator("tenants", "import", str(file), "--dry-run", "--json")
        assert [row["outcome"] for row in tried.json["tenants"]] == ["would be added", "failed"]
        assert tried.json["tenants"][1]["code"] == "secret_missing"
        assert [row["line"] for row in tried.json["tenants"]] == [2, 3]
        (unclear := tmp_path / "unclear.csv").write_text(
            f"key,server,domain,stopped\ncli:one,{url},demo-nutrition,perhaps\n"
        )
        (row,) = operator("tenants", "import", str(unclear), "--json").json["tenants"]
        assert (row["code"], "neither yes nor no" in row["why"]) == ("usage", True)
        assert "cli:one" not in operator("tenants", "list", "--json").out
        done = operator("tenants", "import", str(file), "--json")
        assert (done.code, [row["outcome"] for row in done.json["tenants"]]) == (1, ["added", "failed"])
        assert commcare.api_key not in done.out + done.err

        (row,) = [row for row in operator("tenants", "list", "--json").json["tenants"] if row["key"] == "cli:one"]
        (sync,) = row["syncs"]
        assert (sync["cron"], sync["requests_per_day"], sync["failures"]) == ("0 */2 * * *", 50, 0)
        assert sync["next"] is not None
        stopped = operator("tenants", "schedule", "cli:one", "--stop", "--json").json
        assert (stopped["is_stopped"], stopped["next"]) == (True, None)
        target = operator("tenants", "schedule", "cli:one", "--start", "--fresh-within-minutes", "90", "--json").json
        assert (target["fresh_within_s"], target["is_late"]) == (5400, True)
        again = operator("tenants", "schedule", "cli:one", "--reset", "--json").json
        assert again["fresh_within_s"] is None
        assert (again["is_stopped"], again["cron"]) == (False, "0 */6 * * *")
        refused(operator("tenants", "schedule", "cli:one", "--cron", "often", "--json"), "schedule_invalid")
        quota = operator("tenants", "quota", "cli:one", "--runs", "24", "--json").json
        assert (quota["quota"]["runs"], quota["used"]["runs"], quota["exhausted"]) == (24, 0, None)
        assert "any number" in operator("tenants", "quota", "cli:one", "--reset").out
        # As an import leaves it that ends between adding and choosing: the next one repairs it, and it overwrites nothing.
        with Catalog.open(Settings(_env_file=None, home=pg_server.home, database_url=None)) as catalog:
            nothing = {"cron": None, "requests_per_day": None, "is_stopped": False}
            one = catalog.tenants.get("cli:one")
            catalog.syncs.configure(one, "commcare_sync", nothing, actor="test")
            operator("tenants", "import", str(file), "--json")
            assert catalog.syncs.of(one, "commcare_sync").requests_per_day == 50
            catalog.syncs.configure(one, "commcare_sync", {"cron": "0 5 * * *"}, actor="test")
            operator("tenants", "import", str(file), "--json")
            assert catalog.syncs.of(one, "commcare_sync").cron == "0 5 * * *"
        refused(
            operator("tenants", "schedule", "cli:one", "--requests-per-day", str(2**31), "--json"), "schedule_invalid"
        )
        operator("tenants", "remove", "cli:one", "--purge", "--yes")

    def test_people_and_programs_are_shown_and_ended(self, operator: Explorer, pg_server: PgServer) -> None:
        with Catalog.open(Settings(_env_file=None, home=pg_server.home, database_url=None)) as catalog:
            client_id = catalog.oauth_clients.register("A host", ["http://localhost/cb"]).client_id
            person = catalog.identities.sign_in(Identity("www", "7", "cli-jane@example.org"), None, {})
            catalog.oauth_grants.issue_code(
                person.principal_id, client_id, [Scope.QUERY_RUN], "http://localhost/cb", "c" * 43
            )
        people = operator("people", "list", "--json").json["people"]
        (row,) = [row for row in people if row["username"] == "cli-jane@example.org"]
        assert (row["name"], row["clients"], row["blocked_at"]) == (person.name, ["A host"], None)
        assert "cli-jane@example.org" in operator("people", "list", COLUMNS="200").out
        assert operator("people", "revoke", person.name, "--block", "--json").json["grants"] == 1
        assert operator("people", "allow", person.name).code == 0
        refused(operator("people", "revoke", "person:www:nobody", "--json"), "unknown_person")
        clients = operator("clients", "list", "--json").json["clients"]
        (row,) = [row for row in clients if row["client_id"] == client_id]
        assert (row["kind"], row["people"], row["redirect_uris"]) == ("registered", 0, ["http://localhost/cb"])
        assert operator("clients", "block", client_id, "--json").json == {"blocked": client_id, "grants": 0}
        assert operator("clients", "unblock", client_id).code == 0
        refused(operator("clients", "block", "nobody", "--json"), "unknown_client")

    def test_a_server_that_asks_for_no_requests_for_hours_is_told_and_can_be_overruled(
        self, operator: Explorer, commcare: RunningServer, pg_server: PgServer
    ) -> None:
        """Over a real load of the tenant: a 429 with hours, the next load's message, `doctor`, and the command that both name."""
        key = "cli:throttled"
        self.add(operator, commcare, key, MATERNAL)
        commcare.control.fail("/group/v1/", status=429, body="", headers={"Retry-After": "7200"}, times=99)
        with Catalog.open(Settings(_env_file=None, home=pg_server.home)) as catalog:
            tenant = catalog.tenants.get(key)
            service = load_connections(Settings(_env_file=None, home=pg_server.home)).service
            with closing(RequestSlots(service, tenant.server, tenant.external_id)) as slots:
                limiter = RateLimiter(100, slots, lifted_by=f"explorer tenants unblock {key}")
                credential = ApiKeyCredential(commcare.username, commcare.api_key)
                settings = Settings(_env_file=None)
                with CommCareClient(commcare.url, MATERNAL, credential, settings=settings, limiter=limiter) as client:
                    for resource in ("groups", "locations"):
                        with pytest.raises(Throttled) as caught:
                            client.get_json("group/v1/", resource=resource)
                        command = f"explorer tenants unblock {key}"
                        assert command in str(caught.value)
                    found = operator("doctor", "--json").json["checks"]
                    [told] = [check for check in found if check["check"] == "request limits"]
                    assert told["outcome"] == "warning"
                    assert key in told["detail"]
                    assert command in told["next_step"]
                    commcare.control.clear_faults()
                    lifted = operator("tenants", "unblock", key, "--json").json
                    assert lifted["lifted"] is True
                    assert 3000 < lifted["remaining_s"] <= 3600
                    assert client.get_json("group/v1/", resource="groups")["objects"]
            assert "Nothing was blocked" in operator("tenants", "unblock", key).err
            entries = [record.entry for record in catalog.audit.read(tenant=key)]
        written = [(entry.actor, entry.action, entry.outcome) for entry in entries]
        assert written == [("operator", "unblock", "ok")] * 2 + [("operator", "add_tenant", "ok")]
        [told] = [check for check in operator("doctor", "--json").json["checks"] if check["check"] == "request limits"]
        assert told["outcome"] == "ok"
        refused(operator("tenants", "unblock", "no:tenant", "--json"), "unknown_tenant")
        operator("tenants", "remove", key, "--purge", "--yes")

    def test_a_key_that_looks_like_a_picture_is_shown_as_it_is(
        self, operator: Explorer, commcare: RunningServer
    ) -> None:
        key = "cli:m:x"
        added = operator(
            "tenants", "add", key, "--server", commcare.url, "--domain", "demo-nutrition",
            "--username", commcare.username, "--api-key-env", "COMMCARE_KEY",
        )  # fmt: skip
        assert added.err.startswith(f"Added {key}: ")
        assert f"explorer sync {key} --wait" in added.err
        assert key in operator("tenants", "list").out
        again = operator(
            "tenants", "add", key, "--server", commcare.url, "--domain", "demo-nutrition",
            "--username", commcare.username, "--api-key-env", "COMMCARE_KEY",
        )  # fmt: skip
        assert key in again.err
        assert f"Removed {key}." in operator("tenants", "remove", key, "--purge", "--yes").err

    def test_a_refused_credential_creates_nothing(self, operator: Explorer, commcare: RunningServer) -> None:
        wrong = self.add(operator, commcare, "cli:refused", "demo-nutrition", COMMCARE_KEY="0" * 40)
        refused(wrong, "commcare_credentials_invalid")
        refused(self.add(operator, commcare, "cli:refused", "no-such-domain"), "commcare_domain_unknown")
        assert "cli:refused" not in operator("tenants", "list", "--json").out

    def test_secrets_come_from_variables_that_are_set(self, operator: Explorer, commcare: RunningServer) -> None:
        error = refused(self.add(operator, commcare, "cli:x", "demo-nutrition", COMMCARE_KEY=""), "secret_missing")
        assert "COMMCARE_KEY" in error["message"]
        half = operator(
            "tenants", "add", "cli:x", "--server", commcare.url, "--domain", "d", "--username", "u", "--json"
        )
        assert "--api-key-env" in refused(half, "usage")["next_step"]

    def test_chores(self, operator: Explorer, pg_server: PgServer) -> None:
        facts = operator("db", "upgrade", "--json")
        assert facts.json["database"]["name"] == "explorer"
        before = (pg_server.home / "secret.keys").read_text()
        assert operator("secrets", "rotate", "--json").json.keys() == {"reencrypted"}
        assert (pg_server.home / "secret.keys").read_text() != before
