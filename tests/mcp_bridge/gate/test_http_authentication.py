"""The bridge's HTTP addresses: the answer for each caller, time limits, and the end of a stream."""

import asyncio
import json
import socket
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from itertools import product
from pathlib import Path

import httpx
import pytest

from mcp_bridge.gate.http_connections import MAX_WAITING
from tests.mcp_bridge.gate.test_access import INITIALIZE, LISTING
from tests.mcp_bridge.stage import Stage, ask, http_bridge, http_client

ACCEPT = {"Accept": "application/json, text/event-stream"}
MODERN = {"MCP-Protocol-Version": "2026-07-28", "Mcp-Method": "tools/list"}


def request(url: str, method: str, path: str, **headers: str) -> httpx.Response:
    body = {"content": json.dumps(INITIALIZE).encode()} if method in ("POST", "PUT", "PATCH") else {}
    sent = {**ACCEPT, "Content-Type": "application/json", **headers}
    return httpx.request(method, f"{url}{path}", headers=sent, trust_env=False, timeout=30, **body)  # type: ignore[arg-type]


@pytest.mark.parametrize("path", ["/mcp", "/mcp/", "/mcp//"])
def test_a_stroke_at_the_end_changes_nothing(bridge_url: str, token: str, path: str) -> None:
    answer = request(bridge_url, "POST", path, Authorization=f"Bearer {token}")
    assert answer.status_code == 200
    assert "data-explorer" in answer.text
    assert request(bridge_url, "GET", path.replace("mcp", "healthz")).json() == {"status": "ok"}


def test_a_public_address_is_taken_as_clients_write_it(stage: Stage, tmp_path: Path) -> None:
    """Clients send names in small letters, and no port where it is the scheme's own."""
    with http_bridge(stage, tmp_path, EXPLORER_BRIDGE_PUBLIC_URL="https://Data.Example.org:443/") as url:
        own, page = "data.example.org", "https://data.example.org"
        for host, origin, status in (
            (own, page, 200),
            (f"{own}:443", page, 200),
            (own, "https://other.example.org", 403),
            (own, "null", 403),
            ("other.example.org", page, 421),
            (f"{own}:444", page, 421),
        ):
            assert request(url, "GET", "/healthz", Host=host, Origin=origin).status_code == status, (host, origin)


def test_every_refusal_is_json_that_says_what_to_do(bridge_url: str, token: str) -> None:
    methods = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS")
    paths = (
        "/", "/mcp", "/mcp/x", "/sse", "/register", "/token", "/authorize", "/healthz", "/MCP", "/mcp%2F",
        "/.well-known/oauth-authorization-server", "/.well-known/oauth-protected-resource/mcp",
    )  # fmt: skip
    for method, path, sent in product(methods, paths, ({}, {"Authorization": f"Bearer {token}"})):
        answer = request(bridge_url, method, path, **sent)
        assert answer.status_code < 500, (method, path)
        assert not answer.is_redirect, (method, path)
        if method != "HEAD" and answer.status_code >= 400 and answer.headers["content-type"] == "application/json":
            body = answer.json()
            assert body.get("error_description") or body["error"]["message"], (method, path)
        elif method != "HEAD":
            assert answer.is_success, (method, path, answer.text)
        if answer.status_code == 405:
            assert answer.headers["allow"]


def test_no_sign_in_is_advertised_and_the_401_says_how_to_get_a_token(bridge_url: str) -> None:
    for sent in ({}, {"Authorization": "Bearer dex_nonsense"}):
        answer = request(bridge_url, "POST", "/mcp", **sent)
        assert answer.status_code == 401
        challenge = answer.headers["WWW-Authenticate"]
        assert challenge.startswith("Bearer ")
        assert "resource_metadata" not in challenge
        assert "explorer tokens create" in challenge
        assert "explorer tokens create" in answer.json()["error_description"]
    for path in ("/.well-known/oauth-protected-resource/mcp", "/.well-known/oauth-protected-resource"):
        answer = request(bridge_url, "GET", path)
        assert (answer.status_code, answer.json()["error"]) == (404, "not_found")
        assert "no sign-in" in answer.json()["error_description"]


@pytest.mark.parametrize(
    "path", ["/mcp", "/healthz", "/readyz", "/.well-known/oauth-protected-resource/mcp", "/nothing"]
)
@pytest.mark.parametrize(
    "headers", [{"Host": "evil.example"}, {"Origin": "http://evil.example"}, {"Host": "127.0.0.1"}]
)
def test_a_foreign_host_or_origin_gets_nothing_anywhere(
    bridge_url: str, token: str, path: str, headers: dict[str, str]
) -> None:
    answer = request(bridge_url, "GET", path, Authorization=f"Bearer {token}", **headers)
    assert answer.status_code in (403, 421)
    assert answer.json()["error"] == "forbidden"


def test_readiness_tells_of_database_and_dagster(bridge_url: str) -> None:
    assert request(bridge_url, "GET", "/readyz").json() == {"status": "ready", "database": "ok", "dagster": "ok"}


def test_a_stream_that_wants_to_be_gone_on_with_is_a_new_one(bridge_url: str, token: str) -> None:
    headers = {**ACCEPT, "Authorization": f"Bearer {token}"}
    with httpx.Client(base_url=bridge_url, headers=headers, trust_env=False, timeout=30) as client:
        session = client.post("/mcp", json=INITIALIZE).headers["mcp-session-id"]
        of_session = {"Mcp-Session-Id": session, "MCP-Protocol-Version": "2025-11-25"}
        with client.stream("GET", "/mcp", headers={**of_session, "Last-Event-ID": "7"}) as stream:
            assert stream.status_code == 200
            assert stream.headers["content-type"].startswith("text/event-stream")
        for sent in ({}, {"Mcp-Session-Id": "unknown"}, MODERN):
            assert client.get("/mcp", headers={**sent, "Last-Event-ID": "7"}).status_code in (400, 404, 405)


def test_a_stream_ends_soon_after_its_token_was_revoked(stage: Stage, bridge_url: str) -> None:
    token = stage.token("streaming", "demo:one")
    headers = {**ACCEPT, "Authorization": f"Bearer {token}"}
    with httpx.Client(base_url=bridge_url, headers=headers, trust_env=False, timeout=60) as client:
        session = client.post("/mcp", json=INITIALIZE).headers["mcp-session-id"]
        with client.stream("GET", "/mcp", headers={"Mcp-Session-Id": session}) as stream:
            assert stream.status_code == 200
            told = stream.iter_bytes()
            # It outlives the checks as long as the token is good.
            started = time.monotonic()
            while time.monotonic() - started < 12:
                next(told)
            stage.catalog.principals.revoke("streaming")
            started = time.monotonic()
            for _ in told:
                assert time.monotonic() - started < 30
        assert client.post("/mcp", json=INITIALIZE).status_code == 401


def test_a_message_to_a_session_that_ends_in_the_same_moment_is_no_fault(
    stage: Stage, token: str, tmp_path: Path
) -> None:
    async def main(url: str) -> set[int]:
        headers = {**ACCEPT, "Authorization": f"Bearer {token}"}
        told = {"jsonrpc": "2.0", "method": "notifications/cancelled", "params": {"requestId": 7}}
        statuses = set()
        async with httpx.AsyncClient(base_url=url, headers=headers, trust_env=False, timeout=30) as client:
            for _ in range(30):
                session = (await client.post("/mcp", json=INITIALIZE)).headers["mcp-session-id"]
                of_session = {"Mcp-Session-Id": session, "MCP-Protocol-Version": "2025-11-25"}
                sent = [client.post("/mcp", json=told, headers=of_session) for _ in range(4)]
                answers = await asyncio.gather(*sent, client.delete("/mcp", headers=of_session))
                statuses |= {answer.status_code for answer in answers}
        return statuses

    # Leaving fails when there is a traceback in the log.
    with http_bridge(stage, tmp_path) as url:
        assert asyncio.run(main(url)) <= {200, 202, 404}


def test_hosts_may_keep_the_list_of_tools(bridge_url: str, token: str) -> None:
    answer = httpx.post(
        f"{bridge_url}/mcp",
        json=LISTING,
        headers={**ACCEPT, **MODERN, "Authorization": f"Bearer {token}"},
        trust_env=False,
        timeout=30,
    )
    result = answer.json()["result"]
    assert result["ttlMs"] >= 60_000
    assert result["cacheScope"] == "private"


@contextmanager
def connected(url: str) -> Iterator[socket.socket]:
    host, _, port = url.removeprefix("http://").partition(":")
    with socket.create_connection((host, int(port)), timeout=40) as connection:
        yield connection


def hung_up(connection: socket.socket) -> bool:
    """Whether the other side has ended the connection; waits at most its timeout."""
    try:
        while connection.recv(65536):
            pass
    except ConnectionError:
        return True
    except TimeoutError:
        return False
    return True


def test_half_open_connections_are_few_and_do_not_last(bridge_url: str, token: str) -> None:
    """600 of them: nobody else notices, and they are gone in a bounded time."""
    with ExitStack() as stack:
        opened = [stack.enter_context(connected(bridge_url)) for _ in range(600)]
        for number, connection in enumerate(opened):
            try:
                connection.sendall(b"POST /mcp HTTP/1.1\r\nHost: x\r\n"[: number % 30])
            except ConnectionError:
                continue

        async def served() -> int:
            async with http_client(bridge_url, token) as client:
                return len((await ask(client, "list_tables"))["tables"])

        assert asyncio.run(served()) == 3
        for connection in opened[: len(opened) - MAX_WAITING - 10]:
            connection.settimeout(5)
            assert hung_up(connection)
        started = time.monotonic()
        assert all(hung_up(connection) for connection in opened)
        assert time.monotonic() - started < 35


def test_who_is_slow_or_too_long_is_hung_up_on(bridge_url: str, token: str) -> None:
    head = f"POST /mcp HTTP/1.1\r\nHost: {bridge_url.removeprefix('http://')}\r\nContent-Type: application/json\r\n".encode()
    bearer = f"Authorization: Bearer {token}\r\n".encode()
    started = time.monotonic()
    with ExitStack() as stack:
        slow_head, slow_body, no_token, long_head = (stack.enter_context(connected(bridge_url)) for _ in range(4))
        slow_head.sendall(head)
        slow_body.sendall(head + bearer + b"Content-Length: 1000\r\n\r\n{")
        no_token.sendall(head + b"Content-Length: 1000\r\n\r\n{")
        long_head.sendall(head + b"X-Long: " + b"a" * 100_000)
        assert b" 401 " in no_token.recv(100)
        assert b" 400 " in long_head.recv(100)
        assert hung_up(slow_head)
        assert b" 408 " in slow_body.recv(100)
        assert hung_up(slow_body)
    assert time.monotonic() - started < 38


def test_a_token_that_is_revoked_while_the_body_comes_is_not_good(bridge_url: str, stage: Stage) -> None:
    token = stage.token("slow-body", "demo:one")
    body = json.dumps({"jsonrpc": "2.0", "id": 1, "method": "tools/list"}).encode()
    head = f"POST /mcp HTTP/1.1\r\nHost: {bridge_url.removeprefix('http://')}\r\nAuthorization: Bearer {token}\r\n"
    more = f"Content-Type: application/json\r\nAccept: {ACCEPT['Accept']}\r\nContent-Length: {len(body)}\r\n\r\n"
    with connected(bridge_url) as client:
        client.sendall(head.encode() + more.encode() + body[:10])
        time.sleep(1.5)
        stage.catalog.principals.revoke("slow-body")
        client.sendall(body[10:])
        assert b" 401 " in client.recv(100)


def test_a_body_that_is_too_large_is_refused(bridge_url: str, token: str) -> None:
    headers = {**ACCEPT, "Authorization": f"Bearer {token}", "Content-Type": "application/json"}
    answer = httpx.post(f"{bridge_url}/mcp", content=b" " * (5 << 20), headers=headers, trust_env=False, timeout=30)
    assert (answer.status_code, answer.json()["error"]) == (413, "too_large")
