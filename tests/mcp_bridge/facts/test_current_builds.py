"""How tables came to their rows, read with every call."""

import asyncio

import psycopg
import pytest

from explorer.contract.bookkeeping.builds import Finding
from explorer.postgres.errors import DatabaseUnreachable
from mcp_bridge.facts.builds import asking, builds_of
from mcp_bridge.facts.current_builds import CurrentBuilds
from tests.mcp_bridge.stage import Stage

KEY = "demo:rebuilt"


def test_what_is_read_is_what_was_recorded_and_the_same_while_nothing_changes(stage: Stage) -> None:
    """All who ask while one reads share the reading after it. A connection that was lost is opened again."""
    finding = Finding("values_fit", "warn", 2, "two do not fit", {"case_name": 2})
    stage.recorded(KEY, "run-a", {"cases": 3, "users": 2}, cases=finding)
    tenant, schema = stage.tenants[KEY], stage.catalog.schemas.get(stage.tenants[KEY])

    async def main() -> None:
        services = stage.services()
        current = CurrentBuilds(services.databases)
        found = await asyncio.gather(*(current.of(tenant, schema) for _ in range(20)))
        first = found[0]
        assert all(builds is first for builds in found)
        with services.databases.connection(tenant, schema) as connection:
            assert first == builds_of(connection, schema)
        assert dict(first["cases"].unfit) == {"case_name": 2}
        pid = int(await services.databases.ask(tenant, schema, b"SELECT pg_backend_pid()::text") or 0)
        stage.recorded(KEY, "run-b", {"users": 5})
        with stage.connections.admin.connect(autocommit=True) as admin:
            admin.execute("SELECT pg_terminate_backend(%s, 5000)", [pid])
        second = await current.of(tenant, schema)
        assert (second["users"].run_id, second["users"].rows, second["cases"]) == ("run-b", 5, first["cases"])
        third = await current.of(tenant, schema)
        assert third == second
        assert await current.of(tenant, schema) is third
        await services.aclose()

    asyncio.run(main())


def test_where_nothing_was_built_there_is_nothing_and_nothing_can_be_written(stage: Stage) -> None:
    tenant, schema = stage.tenants["demo:words"], stage.catalog.schemas.get(stage.tenants["demo:words"])

    async def main() -> None:
        services = stage.services()
        with pytest.raises(DatabaseUnreachable) as refused:
            await services.databases.ask(tenant, schema, f"CREATE TABLE {schema.staging}.mine (a int)".encode())
        assert isinstance(refused.value.__cause__, psycopg.errors.ReadOnlySqlTransaction)
        with pytest.raises(DatabaseUnreachable):
            await services.databases.ask(tenant, schema, asking(schema))
        assert await CurrentBuilds(services.databases).of(tenant, schema) == {}
        await services.aclose()

    asyncio.run(main())
