"""A link to an export: whose it is, when it is dead, and that a file that broke off never looks whole."""

import csv
import hashlib
import io
import json
import socket
import time
from collections.abc import Iterator
from typing import Any
from urllib.parse import urlsplit

import httpx
import pyarrow.parquet as pq
import pytest
from mcp.client import Client

from explorer.catalog import PersonalDataPolicy, Scope, State
from explorer.personal_data import set_policy
from mcp_bridge.answers.envelope import compact_json
from tests.mcp_bridge.o200k import o200k
from tests.mcp_bridge.stage import Stage, ask, envelope, http_bridge, on_http, refused

KEY = "demo:export"


@pytest.fixture(scope="module")
def bridge(stage: Stage, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    login = stage.catalog.schemas.rw_login(stage.tenants[KEY])
    marts = stage.catalog.schemas.get(stage.tenants[KEY]).marts
    with stage.connections.tenant(login.user, login.password).connect() as connection:
        connection.execute(
            f"SET search_path = {marts}; CREATE TABLE big AS SELECT g AS id, repeat(md5(g::text), 8) AS words"
            " FROM generate_series(1, 60000) AS g".encode()
        )
    stage.recorded(KEY, "run-1", {"big": 60000, "cases": 3})
    settings = {"EXPLORER_EXPORT_TIMEOUT_S": "10", "EXPLORER_EXPORT_MAX_ROWS": "150000"}
    with http_bridge(stage, tmp_path_factory.mktemp("exports"), **settings) as url:
        yield url


@pytest.fixture(scope="module")
def mine(stage: Stage, bridge: str) -> str:
    return stage.token("exporter", KEY)


def link(bridge: str, token: str, sql: str, format_: str = "csv") -> dict[str, Any]:
    """The answer with a link."""

    async def work(client: Client) -> dict[str, Any]:
        return await ask(client, "export_query", tenant=KEY, sql=sql, format=format_)

    return on_http(bridge, token, work)


def got(url: str, **headers: str) -> httpx.Response:
    return httpx.get(url, headers=headers, trust_env=False, verify=False, timeout=30)


def last_entry(stage: Stage, principal: str) -> Any:
    return stage.catalog.audit.read(actor=principal, limit=1)[0].entry


def test_a_link_serves_one_whole_file_without_a_token_and_tells_what_it_is(
    stage: Stage, bridge: str, mine: str
) -> None:
    made = link(bridge, mine, "SELECT * FROM cases ORDER BY case_id", "parquet")
    assert made["columns"][-1] == "date_opened timestamptz"
    answer = got(made["url"])
    assert answer.status_code == 200, answer.text
    assert answer.headers["content-disposition"] == f'attachment; filename="{made["file_name"]}"'
    assert (answer.headers["cache-control"], answer.headers["referrer-policy"]) == ("no-store, private", "no-referrer")
    table = pq.read_table(io.BytesIO(answer.content))
    assert table.column("case_id").to_pylist() == ["c1", "c2", "c3"]
    about = json.loads(table.schema.metadata[b"explorer.provenance"])
    assert (about["tenant"], about["sources"][0]["run_id"]) == (KEY, "run-1")
    told = got(f"{made['url']}?provenance").json()
    assert (told["is_whole"], told["rows"]) == (True, 3)
    assert told["sha256"] == hashlib.sha256(answer.content).hexdigest()
    # Whoever finds the link later gets nothing of it.
    replayed = got(made["url"])
    assert (replayed.status_code, replayed.json()["error"]) == (410, "export_link_ended")
    entry = last_entry(stage, "exporter")
    assert (entry.action, entry.outcome, entry.detail["rows"], entry.detail["whole"]) == ("export", "ok", 3, True)
    assert "SELECT" not in str(entry.detail)
    with stage.connections.service.connect() as connection:
        rows = connection.execute("SELECT * FROM catalog.exports").fetchall()
    assert mine not in str(rows)
    assert b"SELECT" not in b"".join(cell for row in rows for cell in row if isinstance(cell, bytes))


def test_any_number_of_rows_costs_few_tokens_and_is_counted(stage: Stage, bridge: str) -> None:
    token = stage.token("exporter-of-many", KEY)

    async def work(client: Client) -> Any:
        return await client.call_tool("export_query", {"tenant": KEY, "sql": "SELECT id, words FROM big"})

    answer = on_http(bridge, token, work)
    # All that a host may hand to the model.
    assert o200k(compact_json([part.model_dump(exclude_none=True) for part in answer.content])) <= 600
    assert answer.content[1].uri == envelope(answer)["data"]["url"]
    with httpx.stream("GET", envelope(answer)["data"]["url"], trust_env=False, verify=False, timeout=60) as response:
        assert response.headers["transfer-encoding"] == "chunked"
        lines = sum(1 for line in response.iter_lines() if line)
    assert lines == 60_001
    used = last_entry(stage, "exporter-of-many").detail
    assert (used["rows"], used["bytes"] > 60_000 * 256) == (60_000, True)

    async def left(client: Client) -> Any:
        return envelope(await client.call_tool("query", {"tenant": KEY, "sql": "SELECT 1"}))["budget"]

    assert on_http(bridge, token, left)["rows"] == 50_000_000 - 60_001


def test_nobody_gets_in_by_guessing_or_with_anothers_token(stage: Stage, bridge: str, mine: str) -> None:
    url = link(bridge, mine, "SELECT 1 AS one")["url"]
    link_of, place = url.rpartition("/")[2], url.rpartition("/")[0]
    for guess in ("x", "dxe_", f"{link_of}x", link_of[:-1], link_of.swapcase(), "dxe_é", "../mcp", f"{link_of}/..%2f"):
        assert got(f"{place}/{guess}").status_code in (401, 404), guess
    assert httpx.post(url, trust_env=False, verify=False).status_code == 405
    assert got(url, Host="evil.example").status_code in (403, 421)
    another = stage.token("another-exporter", KEY)
    answer = got(url, Authorization=f"Bearer {another}")
    assert (answer.status_code, answer.json()["error"]) == (403, "export_link_of_another")
    assert got(url, Authorization=f"Bearer {mine}").status_code == 200


@pytest.mark.parametrize("why", ["revoked", "expired", "scope"])
def test_a_link_dies_with_the_right_of_whoever_asked(stage: Stage, bridge: str, why: str) -> None:
    name = f"exporter-{why}"
    token = stage.token(name, KEY)
    url = link(bridge, token, "SELECT 1 AS one")["url"]
    with stage.connections.admin.to(
        user=stage.connections.admin.user, password=stage.connections.admin.password, dbname="explorer"
    ).connect(autocommit=True) as connection:
        if why == "revoked":
            stage.catalog.principals.revoke(name)
        elif why == "expired":
            connection.execute(
                "UPDATE catalog.exports SET expires_at = now() - interval '1 s' WHERE link_hash = %s",
                [hashlib.sha256(url.rpartition("/")[2].encode()).digest()],
            )
        else:
            connection.execute(
                "UPDATE catalog.grants SET scopes = %s WHERE principal_id = (SELECT id FROM catalog.principals WHERE name = %s)",
                [[Scope.METADATA_READ], name],
            )
    for address in (url, f"{url}?provenance"):
        answer = got(address)
        assert answer.status_code == (403 if why == "scope" else 410), answer.text
        assert answer.json()["next_step"]
    assert "export_query" in got(url).text or why == "scope"


def test_a_link_is_of_one_version_of_the_tables(stage: Stage, bridge: str, mine: str) -> None:
    url = link(bridge, mine, "SELECT case_name FROM cases")["url"]
    stage.recorded(KEY, "run-2", {"cases": 3})
    answer = got(url)
    assert (answer.status_code, answer.json()["error"]) == (409, "data_changed")
    assert "cases by run run-2" in answer.json()["error_description"]
    assert "export_query" in answer.json()["next_step"]


def test_errors_come_before_the_link_or_with_a_status(bridge: str, mine: str) -> None:
    async def work(client: Client) -> list[str]:
        statements = ("SELECT nothing FROM cases", "SELECT * FROM pg_shadow", "DELETE FROM cases")
        return [(await refused(client, "export_query", tenant=KEY, sql=sql))["code"] for sql in statements]

    assert on_http(bridge, mine, work) == ["unknown_column", "unknown_relation", "not_a_select"]
    answer = got(link(bridge, mine, "SELECT 1 / (id - 1) FROM big ORDER BY id")["url"])
    assert (answer.status_code, answer.json()["error"]) == (422, "query_failed")
    odd = got(link(bridge, mine, "SELECT 'NaN'::numeric AS odd", "parquet")["url"])
    assert (odd.status_code, odd.json()["error"]) == (422, "value_not_exact")


def read_to_its_end(url: str) -> None:
    with httpx.stream("GET", url, trust_env=False, verify=False, timeout=60) as response:
        assert response.status_code == 200
        for _ in response.iter_raw():
            pass


def test_a_file_that_breaks_off_does_not_look_whole(stage: Stage, bridge: str, mine: str) -> None:
    fails_late = link(bridge, mine, "SELECT id, words, 1 / (id - 50000) AS x FROM big")["url"]
    too_long = link(bridge, mine, "SELECT a.words, b.words AS w FROM big a CROSS JOIN big b")["url"]
    for url in (fails_late, too_long):
        with pytest.raises(httpx.RemoteProtocolError):
            read_to_its_end(url)
        assert got(f"{url}?provenance").json()["is_whole"] is False
    # Nothing hinders another try, but not for ever.
    entry = last_entry(stage, "exporter")
    assert (entry.outcome, entry.code, entry.detail["whole"]) == ("error", "export_too_large", False)
    where = urlsplit(too_long)
    with socket.create_connection((where.hostname, where.port)) as old:
        old.sendall(f"GET {where.path} HTTP/1.0\r\nHost: {where.netloc}\r\n\r\n".encode())
        assert b"505" in old.recv(100)


def test_exports_obey_the_policy_for_personal_data(stage: Stage, bridge: str, mine: str) -> None:
    everything = "SELECT * FROM cases ORDER BY case_id"

    def under(policy: PersonalDataPolicy | None) -> None:
        set_policy(stage.settings, stage.catalog, stage.connections, stage.tenants[KEY], policy)

    async def refusal(client: Client) -> str:
        return str((await refused(client, "export_query", tenant=KEY, sql=everything))["code"])

    made = link(bridge, mine, everything)
    assert "case_name text (personal data: cases.case_name)" in made["columns"]
    try:
        # A link that was made before obeys too.
        under("refuse")
        answer = got(made["url"])
        assert (answer.status_code, answer.json()["error"]) == (409, "personal_data_refused")
        assert on_http(bridge, mine, refusal) == "personal_data_refused"
        under("mask")
        masked = link(bridge, mine, everything)
        assert "case_name text (masked)" in masked["columns"]
        for url in (made["url"], masked["url"]):
            rows = list(csv.DictReader(io.StringIO(got(url).text)))
            assert [row["case_name"] for row in rows] == ["***"] * 3
            about = got(f"{url}?provenance").json()
            assert next(each for each in about["columns"] if each["name"] == "case_name")["masked"] is True
        assert about["statement_sha256"] == hashlib.sha256(everything.encode()).hexdigest()
    finally:
        under(None)


def running(stage: Stage) -> int:
    """How many statements of the tenant's reader are at work."""
    reader = stage.catalog.schemas.get(stage.tenants[KEY]).prefix
    with stage.connections.admin.connect() as connection:
        found = connection.execute(
            "SELECT count(*) FROM pg_stat_activity WHERE usename = %s AND state = 'active'", [f"{reader}_ro"]
        ).fetchone()
    assert found is not None
    return int(found[0])


def until(is_so: Any) -> None:
    deadline = time.monotonic() + 30
    while not is_so():
        assert time.monotonic() < deadline
        time.sleep(0.1)


def test_who_leaves_or_does_not_read_stops_the_statement(stage: Stage, bridge: str, mine: str) -> None:
    everything = "SELECT a.words, b.words AS w FROM big a CROSS JOIN big b"
    with httpx.stream(
        "GET", link(bridge, mine, everything)["url"], trust_env=False, verify=False, timeout=60
    ) as response:
        parts = response.iter_raw()
        next(parts)
        assert running(stage) == 1
    until(lambda: running(stage) == 0)
    assert last_entry(stage, "exporter").outcome == "cancelled"
    # Back-pressure: nothing is taken from the database for a client that does not read, until its time is over.
    where = urlsplit(link(bridge, mine, everything)["url"])
    with socket.socket() as lazy:
        lazy.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        lazy.connect((where.hostname, where.port))
        lazy.sendall(f"GET {where.path} HTTP/1.1\r\nHost: {where.netloc}\r\n\r\n".encode())
        until(lambda: running(stage) == 1)
        until(lambda: running(stage) == 0)
    until(lambda: last_entry(stage, "exporter").outcome in ("error", "cancelled"))
    entry = last_entry(stage, "exporter")
    assert entry.code == "timeout"
    assert entry.detail["bytes"] < 20_000_000


def test_after_a_teardown_no_link_leads_anywhere(stage: Stage, bridge: str, mine: str) -> None:
    url = link(bridge, mine, "SELECT case_name FROM cases")["url"]
    stage.catalog.schemas.transition(stage.tenants[KEY], {State.ACTIVE}, State.TEARDOWN)
    stage.catalog.schemas.transition(stage.tenants[KEY], {State.TEARDOWN}, State.ABSENT)
    assert got(url).status_code == 409
    with stage.connections.service.connect() as connection:
        connection.execute("UPDATE catalog.tenants SET status = 'removed' WHERE key = %s", [KEY])
    assert got(url).status_code == 410
