"""Budgets per principal and tenant: the remainder is in the answer, a refusal says when to come again."""

import asyncio
from collections.abc import Iterator
from typing import Any

import pytest
from mcp.client import Client

from explorer.catalog import Catalog
from tests.mcp_bridge.stage import Stage, ask, envelope, http_client, on_http, refused

KEY = "demo:budgets"
SQL = "select * from cases order by case_id"


@pytest.fixture
def limited(stage: Stage) -> Iterator[Catalog]:
    """The catalog; what is set for the tenant is taken away again."""
    yield stage.catalog
    tenant = stage.tenants[KEY]
    for each in stage.catalog.limits.of(tenant):
        stage.catalog.limits.clear(tenant, each.principal)


async def call(client: Client, tool: str, **arguments: Any) -> dict[str, Any]:
    return envelope(await client.call_tool(tool, arguments))


def test_each_answer_says_what_is_left(stage: Stage, bridge_url: str, limited: Catalog) -> None:
    token = stage.token("counted", KEY)
    limited.limits.set(stage.tenants[KEY], {"calls": 3, "rows": 0, "bytes": 10_000, "seconds": 60})

    async def work(client: Client) -> None:
        first = await call(client, "query", sql=SQL)
        assert first["budget"].keys() == {"calls", "bytes", "seconds", "resets_in_s"}
        assert (first["budget"]["calls"], first["budget"]["seconds"]) == (2, 60)
        assert 9_000 < first["budget"]["bytes"] < 10_000
        assert 3_500 < first["budget"]["resets_in_s"] <= 3_600
        assert (await call(client, "list_tables"))["budget"]["calls"] == 1
        # A failed call counts, too; what needs no tenant does not.
        await refused(client, "query", sql="select nothing")
        assert "budget" not in await call(client, "list_tenants")
        error = await refused(client, "query", sql=SQL)
        assert error["code"] == "budget_exhausted"
        assert error["details"]["exhausted"] == "calls"
        assert 3_500 < error["details"]["retry_after_s"] <= 3_600
        assert str(error["details"]["retry_after_s"]) in error["next_step"]

    on_http(bridge_url, token, work)
    entries = [record.entry for record in limited.audit.read(actor="counted")]
    assert [entry.code for entry in entries if entry.action == "query"] == ["budget_exhausted", "unknown_column", None]


@pytest.mark.parametrize(("name", "limit"), [("rows", 4), ("bytes", 800)])
def test_rows_and_bytes_are_counted(stage: Stage, bridge_url: str, limited: Catalog, name: str, limit: int) -> None:
    token = stage.token(f"counted-{name}", KEY)
    limited.limits.set(stage.tenants[KEY], {name: limit}, f"counted-{name}")

    async def work(client: Client) -> None:
        assert (await call(client, "query", sql=SQL))["budget"][name] > 0
        assert (await call(client, "query", sql=SQL))["budget"][name] == 0
        assert (await refused(client, "query", sql=SQL))["details"]["exhausted"] == name

    on_http(bridge_url, token, work)


def test_rows_that_were_cut_from_the_answer_are_free(stage: Stage, bridge_url: str, limited: Catalog) -> None:
    """What the audit trail and the budget say is what the caller has got."""
    token = stage.token("counted-cut", KEY)
    limited.limits.set(stage.tenants[KEY], {"rows": 1000}, "counted-cut")
    wide = "select g, (select string_agg(md5((g * i)::text), ' ') from generate_series(1, 40) i) from generate_series(1, 60) g"

    async def work(client: Client) -> int:
        answer = await call(client, "query", sql=wide)
        rows = int(answer["data"]["row_count"])
        assert 0 < rows < 60
        assert answer["budget"]["rows"] == 1000 - rows
        return rows

    rows = on_http(bridge_url, token, work)
    (entry,) = [record.entry for record in limited.audit.read(actor="counted-cut")]
    assert entry.detail["rows"] == rows


def test_a_budget_is_the_principals_and_the_tenants(stage: Stage, bridge_url: str, limited: Catalog) -> None:
    mine, theirs = stage.token("spender", KEY, "demo:one"), stage.token("other", KEY)
    limited.limits.set(stage.tenants[KEY], {"calls": 5})
    limited.limits.set(stage.tenants[KEY], {"calls": 1}, "spender")

    async def spend(client: Client) -> None:
        await ask(client, "list_tables", tenant=KEY)
        assert (await refused(client, "list_tables", tenant=KEY))["code"] == "budget_exhausted"
        await ask(client, "list_tables", tenant="demo:one")

    async def other(client: Client) -> None:
        assert (await call(client, "list_tables"))["budget"]["calls"] == 4

    on_http(bridge_url, mine, spend)
    on_http(bridge_url, theirs, other)
    limited.limits.clear(stage.tenants[KEY], "spender")
    on_http(bridge_url, mine, lambda client: ask(client, "list_tables", tenant=KEY))


def test_calls_at_once_do_not_pass_a_budget_of_calls(stage: Stage, bridge_url: str, limited: Catalog) -> None:
    token = stage.token("crowd", KEY)
    limited.limits.set(stage.tenants[KEY], {"calls": 4})

    async def main() -> list[bool]:
        async with http_client(bridge_url, token) as client:
            calls = [client.call_tool("query", {"sql": "select 1 as one"}) for _ in range(12)]
            return [envelope(result)["success"] for result in await asyncio.gather(*calls)]

    assert sum(asyncio.run(main())) == 4


def test_bounds_of_one_query(stage: Stage, bridge_url: str, limited: Catalog) -> None:
    token = stage.token("bounded", KEY)
    limited.limits.set(stage.tenants[KEY], {"max_rows_per_query": 2, "max_query_timeout_seconds": 1})

    async def work(client: Client) -> None:
        page = await ask(client, "query", sql=SQL, limit=100)
        assert (page["row_count"], page["truncated"], page["truncated_by"]) == (2, True, "rows")
        slow = "select count(*) from generate_series(1, 100000) a, generate_series(1, 100000) b"
        assert (await refused(client, "query", sql=slow))["code"] == "timeout"

    on_http(bridge_url, token, work)


def test_tables_that_may_not_be_read_are_not_there(stage: Stage, bridge_url: str, limited: Catalog) -> None:
    token = stage.token("reads-few-tables", KEY, "demo:one")
    login = limited.schemas.rw_login(stage.tenants[KEY])
    with stage.connections.tenant(login.user, login.password).connect() as connection:
        connection.execute("CREATE OR REPLACE VIEW workers AS SELECT username FROM users")
    stage.written(KEY, "run-with-view")
    limited.limits.set(stage.tenants[KEY], {"excluded_tables": ["users"]})

    async def names(client: Client, key: str = KEY) -> set[str]:
        return {table["name"] for table in (await ask(client, "list_tables", tenant=key))["tables"]}

    async def excluded(client: Client) -> None:
        assert await names(client) == {"cases", "case_child"}
        assert await names(client, "demo:one") == {"cases", "case_child", "users"}
        for sql in ("select * from users", "select * from workers", "select (select count(*) from users) from cases"):
            assert (await refused(client, "query", tenant=KEY, sql=sql))["code"] == "unknown_relation"
        assert (await refused(client, "describe_table", tenant=KEY, table="users"))["code"] == "unknown_table"
        found = await ask(client, "search_metadata", tenant=KEY, search="username")
        assert found["hits"] == []
        await ask(client, "query", tenant="demo:one", sql="select * from users")

    async def allowed(client: Client) -> None:
        assert await names(client) == {"users", "workers"}

    async def lifted(client: Client) -> None:
        assert await names(client) == {"cases", "case_child", "users", "workers"}

    on_http(bridge_url, token, excluded)
    limited.limits.set(stage.tenants[KEY], {"excluded_tables": None, "allowed_tables": ["users", "workers"]})
    on_http(bridge_url, token, allowed)
    limited.limits.clear(stage.tenants[KEY])
    on_http(bridge_url, token, lifted)
