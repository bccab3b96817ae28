"""What is remembered of a tenant's tables, and when it is found anew."""

import asyncio

from tests.mcp_bridge.stage import Stage


def test_what_a_run_has_written_is_read_before_anybody_asks(stage: Stage) -> None:
    tenant = stage.tenants["demo:slow"]
    rw = stage.catalog.schemas.rw_login(tenant)

    async def work() -> None:
        services = stage.services()
        facts = services.facts
        await facts.catch_up()
        assert facts._tables.in_use(60) == []
        before = await facts.tables(tenant)
        await facts.catch_up()
        assert facts._tables.in_use(60) == [(before, True)]
        with stage.connections.tenant(rw.user, rw.password).connect() as connection:
            connection.execute(f"CREATE TABLE {before.live.schema.marts}.case_ahead (case_id text)".encode())
        stage.written("demo:slow", "run-ahead")
        await facts.catch_up()
        ((ahead, settled),) = facts._tables.in_use(60)
        assert (settled, ahead.live.schema.run_id, "case_ahead" in ahead.tables) == (True, "run-ahead", True)
        assert await facts.tables(tenant) is ahead
        await services.aclose()

    asyncio.run(work())
