"""`explorer audit`, and what is in the trail: whatever changes rights by the command line."""

import json
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from demo_commcare import RunningServer
from explorer.catalog import AuditEntry, Catalog, HeadKey, migrate
from explorer.core.settings import Settings
from explorer_cli.operations.audit import Sealing
from tests.conftest import PgServer
from tests.explorer_cli.conftest import Answer, Explorer

KEY = "audit:door"


class Operated:
    """The command line on the test server, and what it has written since."""

    def __init__(self, explorer: Explorer, server: PgServer, catalog: Catalog, variables: dict[str, str]) -> None:
        self.catalog, self._explorer = catalog, explorer
        self._variables = {"EXPLORER_HOME": str(server.home), **variables}
        self.start = catalog.audit.head().id

    def run(self, *arguments: str, **variables: str) -> Answer:
        return self._explorer(*arguments, **self._variables, **variables)

    def written(self) -> list[AuditEntry]:
        return [record.entry for record in reversed(self.catalog.audit.read()) if record.id > self.start]


@pytest.fixture
def operated(explorer: Explorer, pg_server: PgServer, commcare: RunningServer) -> Iterator[Operated]:
    migrate(pg_server.connections)
    with Catalog.open(pg_server.settings) as catalog:
        yield Operated(explorer, pg_server, catalog, {"COMMCARE_KEY": commcare.api_key})


def test_each_door_of_the_command_line_is_in_the_trail(operated: Operated, commcare: RunningServer) -> None:
    done = [
        operated.run(
            "tenants", "add", KEY, "--server", commcare.url, "--domain", "demo-nutrition", "--username", commcare.username,
            "--api-key-env", "COMMCARE_KEY",
        ),
        operated.run("tokens", "create", "--name", "door", "--tenant", KEY, "--scope", "query:run"),
        operated.run("tokens", "revoke", "door"),
        operated.run("secrets", "rotate"),
        operated.run("tenants", "remove", KEY),
        operated.run("tenants", "remove", KEY, "--purge", "--yes"),
    ]  # fmt: skip
    assert [answer.code for answer in done] == [0] * len(done)
    refused = [operated.run("tokens", "revoke", "door"), operated.run("tenants", "remove", KEY)]
    assert [answer.code for answer in refused] == [1, 1]
    written = operated.written()
    assert [(entry.actor, entry.action, entry.tenant_key) for entry in written] == [
        ("operator", "add_tenant", KEY),
        ("operator", "create_token", KEY),
        ("operator", "revoke_token", None),
        ("operator", "rotate_keys", None),
        ("operator", "remove_tenant", KEY),
        ("operator", "purge_tenant", KEY),
    ]
    assert written[1].detail == {
        "principal": "door",
        "tenants": [KEY],
        "scopes": ["query:run"],
        "expires_at": None,
        "toolsets": [],
    }
    assert commcare.api_key not in json.dumps([entry.detail for entry in written])


def test_verify_compares_the_logs_that_it_is_given(operated: Operated, pg_server: PgServer, tmp_path: Path) -> None:
    operated.catalog.audit.append(AuditEntry("somebody", "query", None, "ok"))
    key, head = HeadKey.load(pg_server.settings), operated.catalog.audit.head()
    log = tmp_path / "bridge.log"
    log.write_text(f"2026-11-30 INFO explorer.audit: {key.sign(head).as_line()}\nsomething else\n")
    whole = operated.run("audit", "verify", "--log", str(log), "--json")
    assert (whole.code, whole.json["heads_compared"], whole.json["head"]) == (0, 1, head.id)
    other = key.sign(type(head)(head.id, b"\1" * 32)).as_line()
    log.write_text(other)
    broken = operated.run("audit", "verify", "--log", str(log), "--json")
    assert (broken.code, broken.json["error"]["code"]) == (1, "audit_broken")
    assert broken.json["error"]["details"] == {"entry": head.id}
    assert operated.run("audit", "verify", "--log", "nowhere", "--json").json["error"]["code"] == "usage"


def test_an_export_is_followed_again_and_is_in_the_trail_itself(operated: Operated, tmp_path: Path) -> None:
    operated.catalog.audit.append(AuditEntry("somebody", "query", "t:1", "ok", detail={"rows": 3}))
    file = tmp_path / "export.jsonl"
    assert operated.run("audit", "export", "--after", str(operated.start), "--output", str(file)).code == 0
    assert file.stat().st_mode & 0o777 == 0o600
    (line,) = [json.loads(text) for text in file.read_text().splitlines()]
    assert (line["actor"], line["detail"], line["id"]) == ("somebody", {"rows": 3}, operated.start + 1)
    assert operated.run("audit", "verify", "--file", str(file), "--json").json["entries_in_files"] == 1
    assert operated.written()[-1].action == "export_audit"
    assert (
        operated.run("audit", "export", "--after", str(operated.start)).out.splitlines()[0] == file.read_text().strip()
    )
    again = operated.run("audit", "export", "--output", str(file))
    assert again.code == 1
    assert "File exists" in again.err
    file.write_text(file.read_text().replace('"rows":3', '"rows":4').replace('"rows": 3', '"rows": 4'))
    assert operated.run("audit", "verify", "--file", str(file), "--json").json["error"]["code"] == "audit_broken"


def test_sealing_goes_on_at_intervals_whatever_failed(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    sealing = Sealing(Settings(_env_file=None, home=tmp_path, audit_retention_days=30), interval_s=0.01)
    sealing.begin()
    deadline = time.monotonic() + 60
    while len(caplog.records) < 2:
        assert time.monotonic() < deadline
        time.sleep(0.01)
    sealing.end()
    assert {record.name for record in caplog.records} == {"explorer_cli"}
    assert "old entries stay in the database" in caplog.text


def test_seal_needs_an_age(operated: Operated) -> None:
    assert operated.run("audit", "seal", "--json").json["error"]["code"] == "usage"
    assert operated.run("audit", "seal", "--days", "30", "--json").json == {"files": []}
    assert operated.run("audit", "seal", EXPLORER_AUDIT_RETENTION_DAYS="30").code == 0
