"""Bridges on one catalog behave as one: whatever begins at one goes on at another, and one that is killed takes nothing along."""

import asyncio
from contextlib import AsyncExitStack
from itertools import pairwise
from typing import Any

import httpx
from mcp.client import Client
from mcp_types.version import LATEST_MODERN_VERSION

from demo_commcare import MATERNAL
from demo_commcare.sign_in.accounts import DATA_OFFICER
from explorer.catalog.audit.verification import verify
from mcp_bridge.clients.dagster.client import DagsterClient
from tests.demo_browser import Browser
from tests.mcp_bridge.replicas.conftest import BRIDGES, Replicas
from tests.mcp_bridge.runs.test_launches import idle
from tests.mcp_bridge.sign_in.house import FakeJwt, FakeMembership, FakeProvider, House, Person, answer_in, exchange
from tests.mcp_bridge.stage import Stage, ask, envelope, http_client, on_http, refused

EACH = set(range(BRIDGES))
SQL = "select case_id from cases order by case_id"
# Some seconds of work.
SLOW = "select count(*) from generate_series(1, 9000) a, generate_series(1, 9000) b"
HEADERS = {
    "Accept": "application/json, text/event-stream",
    "MCP-Protocol-Version": LATEST_MODERN_VERSION,
    "Mcp-Method": "tools/call",
    "Mcp-Name": "query",
}
META = {
    "io.modelcontextprotocol/protocolVersion": LATEST_MODERN_VERSION,
    "io.modelcontextprotocol/clientInfo": {"name": "test", "version": "1"},
    "io.modelcontextprotocol/clientCapabilities": {},
}
CALL = {
    "jsonrpc": "2.0",
    "id": 1,
    "method": "tools/call",
    "params": {"name": "query", "arguments": {"sql": SLOW}, "_meta": META},
}


def status(url: str, token: str) -> int:
    """What a bridge answers to a token."""
    return httpx.get(
        f"{url}/mcp", headers={"Authorization": f"Bearer {token}"}, trust_env=False, verify=False
    ).status_code


def test_a_sign_in_goes_through_all_of_them(replicas: Replicas) -> None:
    """Each of its requests is served by another bridge than the one before; the token is good, and then revoked, at all. One of
    them has an empty HOME, and leaves it empty."""
    stage, front = replicas.stage, replicas.front
    tenants = {replicas.tenant.key: replicas.tenant}
    house = House(stage.catalog, tenants, FakeProvider(), FakeMembership(), FakeJwt(), {}, front.url)
    person, client_id = Person(house), house.client()
    away = person.sends(person.asks(client_id), provider="demo")
    back = Browser(replicas.server).comes_from(away.headers["location"], DATA_OFFICER, MATERNAL)
    returned = person.goes(back)
    assert returned.status_code == 303, returned.text
    code = answer_in(person.sends(person.goes(returned.headers["location"]), decision="connect"))["code"]
    given = exchange(house, client_id, code)
    assert given.status_code == 200, given.text
    began = front.bridges_of("/oauth/")
    assert set(began) == EACH
    assert all(one != other for one, other in pairwise(began))
    token = given.json()["access_token"]

    async def tenants_at(client: Client) -> list[str]:
        return [tenant["key"] for tenant in (await ask(client, "list_tenants"))["tenants"]]

    assert [on_http(url, token, tenants_at) for url in replicas.urls] == [[replicas.tenant.key]] * BRIDGES
    revoked = httpx.post(
        f"{front.url}/oauth/revoke", data={"token": token, "client_id": client_id}, trust_env=False, verify=False
    )
    assert revoked.status_code == 200, revoked.text
    assert [status(url, token) for url in replicas.urls] == [401] * BRIDGES
    assert not list((replicas.bridges[-1].folder / "home").rglob("*"))


def test_a_token_is_good_everywhere_and_revoked_everywhere(replicas: Replicas) -> None:
    stage = replicas.stage
    token = stage.token("of-all", "demo:one")
    for url in replicas.urls:
        on_http(url, token, lambda client: ask(client, "query", sql="select 1 as one"))
    stage.catalog.principals.revoke("of-all")
    assert [status(url, token) for url in replicas.urls] == [401] * BRIDGES


def test_cursors_of_one_are_read_at_the_others(replicas: Replicas) -> None:
    """Through the proxy, so each page comes from the next bridge; with a session of the older protocol from its own."""
    token = replicas.stage.token("pages-of-replicas", "demo:one")

    async def rows(client: Client) -> list[str]:
        found: list[str] = []
        cursor: dict[str, Any] = {}
        while True:
            page = await ask(client, "query", sql=SQL, limit=1, **cursor)
            found += [row[0] for row in page["rows"]]
            if page["next_cursor"] is None:
                return found
            cursor = {"cursor": page["next_cursor"]}

    async def tables(client: Client) -> list[str]:
        first = await ask(client, "list_tables", limit=2)
        second = await ask(client, "list_tables", limit=2, cursor=first["next_cursor"])
        return [table["name"] for table in first["tables"] + second["tables"]]

    replicas.front.served.clear()
    assert on_http(replicas.front.url, token, rows) == ["c1", "c2", "c3"]
    assert sorted(on_http(replicas.front.url, token, tables)) == ["case_child", "cases", "users"]
    assert set(replicas.front.bridges_of("/mcp")) == EACH
    replicas.front.served.clear()
    assert on_http(replicas.front.url, token, rows, mode="legacy") == ["c1", "c2", "c3"]
    assert len(set(replicas.front.bridges_of("/mcp"))) == 1


def test_a_budget_is_one(replicas: Replicas) -> None:
    """Calls one after the other are counted exactly. At once each bridge knows of its own calls in flight, so the others' can
    pass: of a budget of 6 at most 6 at each."""
    stage = replicas.stage
    stage.catalog.limits.set(stage.tenants["demo:budgets"], {"calls": 6})

    async def succeeds(client: Client) -> bool:
        return bool(envelope(await client.call_tool("query", {"sql": "select 1 as one"}))["success"])

    async def in_turn(client: Client) -> list[bool]:
        return [await succeeds(client) for _ in range(8)]

    async def at_once(token: str) -> list[bool]:
        async with AsyncExitStack() as stack:
            clients = [await stack.enter_async_context(http_client(url, token)) for url in replicas.urls]
            return await asyncio.gather(*(succeeds(client) for client in clients for _ in range(8)))

    try:
        assert on_http(replicas.front.url, stage.token("in-turn", "demo:budgets"), in_turn) == [True] * 6 + [False] * 2
        crowd = stage.token("at-once", "demo:budgets")
        assert 6 <= sum(asyncio.run(at_once(crowd))) <= 6 * BRIDGES
        for url in replicas.urls:
            error = on_http(url, crowd, lambda client: refused(client, "query", sql="select 1 as one"))
            assert error["code"] == "budget_exhausted"
    finally:
        stage.catalog.limits.clear(stage.tenants["demo:budgets"])


def test_what_was_used_at_one_is_used_up_at_all(replicas: Replicas) -> None:
    """Rows of 3 calls, each at another bridge: what is left is exact after each, and the fourth is refused wherever it comes."""
    stage, key = replicas.stage, "demo:budgets"
    stage.catalog.limits.set(stage.tenants[key], {"rows": 8})
    token = stage.token("rows-at-all", key)

    async def left(client: Client) -> int:
        answer = envelope(await client.call_tool("query", {"sql": SQL}))
        return int(answer["budget"]["rows"])

    try:
        # The last one passes what is left by a row: what a call returns is known when it has ended.
        assert [on_http(url, token, left) for url in replicas.urls] == [5, 2, 0]
        for url in replicas.urls:
            error = on_http(url, token, lambda client: refused(client, "query", sql=SQL))
            assert (error["code"], error["details"]["exhausted"]) == ("budget_exhausted", "rows")
    finally:
        stage.catalog.limits.clear(stage.tenants[key])


def test_limits_of_the_sign_in_are_one(replicas: Replicas) -> None:
    """20 programs of one address register themselves in a minute, at whichever bridge."""

    def registers(number: int) -> int:
        wanted, address = {"redirect_uris": ["http://127.0.0.1/callback"]}, {"X-Forwarded-For": "198.51.100.7"}
        url = f"{replicas.urls[number % BRIDGES]}/oauth/register"
        host = {"Host": httpx.URL(replicas.front.url).netloc.decode()}
        return httpx.post(url, json=wanted, headers=address | host, trust_env=False, verify=False).status_code

    assert [registers(number) for number in range(20)] == [201] * 20
    assert [registers(number) for number in range(BRIDGES)] == [429] * BRIDGES


def test_one_key_is_one_run(replicas: Replicas, dagster_url: str) -> None:
    token, key = replicas.stage.token("one-key", "demo:slow-launch"), "demo:slow-launch"

    async def main() -> list[dict[str, Any]]:
        async with DagsterClient(dagster_url) as dagster, AsyncExitStack() as stack:
            before = len(await idle(dagster, key))
            clients = [await stack.enter_async_context(http_client(url, token)) for url in replicas.urls]
            asked = [ask(client, "run_materialization", wait_s=0, idempotency_key="of-all") for client in clients * 2]
            answers = await asyncio.gather(*asked)
            assert len(await idle(dagster, key)) == before + 1
            return answers

    answers = asyncio.run(main())
    assert len({answer["run_id"] for answer in answers}) == 1
    assert sum(answer["launched"] for answer in answers) == 1


def sessions(stage: Stage, key: str) -> set[int]:
    """The backends of the tenant's reader."""
    role = stage.catalog.schemas.get(stage.tenants[key]).ro
    with stage.connections.admin.connect(autocommit=True) as admin:
        return {pid for (pid,) in admin.execute("SELECT pid FROM pg_stat_activity WHERE usename = %s", [role])}


async def until_gone(stage: Stage, key: str, backends: set[int]) -> None:
    async with asyncio.timeout(20):
        while await asyncio.to_thread(sessions, stage, key) & backends:
            await asyncio.sleep(0.1)


def test_one_that_is_killed_loses_its_calls_in_flight_alone(replicas: Replicas) -> None:
    """It held three of the role's four places: the others' calls get them. What it kept ends with it, and a session of the older
    protocol begins anew at another bridge."""
    stage, key = replicas.stage, "demo:crowded"
    token, victim = stage.token("survivors", key), replicas.bridges[0]

    async def lost() -> list[bool]:
        async with httpx.AsyncClient(trust_env=False, verify=False, timeout=60) as client:
            headers = HEADERS | {"Authorization": f"Bearer {token}"}
            calls = [client.post(f"{victim.url}/mcp", headers=headers, json=CALL) for _ in range(3)]
            found = await asyncio.gather(*calls, return_exceptions=True)
            return [isinstance(each, httpx.TransportError) for each in found]

    async def served(client: Client) -> list[Any]:
        asked = [ask(client, "query", sql=f"select {number} as n") for number in range(20)]
        return [page["rows"][0][0] for page in await asyncio.gather(*asked)]

    async def main() -> None:
        dying = asyncio.create_task(lost())
        async with asyncio.timeout(60):
            while len(held := await asyncio.to_thread(sessions, stage, key)) < 3:
                await asyncio.sleep(0.05)
        await asyncio.to_thread(victim.kill)
        async with http_client(replicas.front.url, token) as client:
            assert await served(client) == list(range(20))
        assert await asyncio.wait_for(dying, 30) == [True] * 3
        await until_gone(stage, key, held)
        for _ in range(BRIDGES):
            async with http_client(replicas.front.url, token, mode="legacy") as client:
                await ask(client, "query", sql="select 1 as one")

    asyncio.run(main())
    assert on_http(replicas.urls[1], token, served) == list(range(20))


def test_the_audit_trail_is_one_chain(replicas: Replicas) -> None:
    """After all of the above, by three bridges at once and one that was killed."""
    found = verify(replicas.stage.catalog.audit)
    assert found.fault is None
    actors = {record.entry.actor for record in replicas.stage.catalog.audit.read(limit=500)}
    assert {"of-all", "pages-of-replicas", "at-once", "one-key", "survivors"} <= actors
