"""What is said of a table beside its rows, from what Dagster, the loader and the database know of it."""

import asyncio
from dataclasses import dataclass
from datetime import UTC, datetime

import psycopg
import pytest

from explorer.catalog import SchemaAbsent
from explorer.contract.materializations import Tables
from explorer.postgres.connections import Login
from mcp_bridge.bridge import Bridge
from mcp_bridge.clients.dagster import AssetState
from mcp_bridge.clients.loader_connections import LoaderConnections
from mcp_bridge.facts.relations import live_tables
from mcp_bridge.facts.tables import Known, catch_up, join, table_warnings, tenant_tables
from mcp_bridge.gate.access import Caller
from tests.mcp_bridge.stage import Stage


def test_what_is_amiss_with_a_table_is_said_where_it_is_listed_and_read(stage: Stage) -> None:
    """Values that did not fit, changed types, retired tables, records that could not be loaded, runs that failed."""
    tenant = stage.tenants["demo:broken"]
    bridge, schema = Bridge.open(stage.settings, Caller.operator), stage.catalog.schemas.get(tenant)
    rw = stage.catalog.schemas.rw_login(tenant)
    assert live_tables(bridge, tenant, schema).rejected == {}
    with bridge.connections.tenant(rw.user, rw.password).connect() as connection:
        connection.execute(f"CREATE TABLE {schema.raw}.raw_rejected (resource text, reason text)".encode())
        insert = (
            f"INSERT INTO {schema.raw}.raw_rejected VALUES ('cases', 'no key'), ('cases', 'no key'), ('users', 'x')"
        )
        connection.execute(insert.encode())
    live = live_tables(bridge, tenant, schema)
    raw_key, marts_key = ("commcare", "raw", "cases"), ("commcare", "marts", "cases")
    key = ("commcare", "marts", "case_tables")
    metadata = {
        "tables": [
            {"name": "case_child", "kind": "case_type", "status": "success", "unfit_values": {"dob": 2, "age": 1}}
        ],
        "migrations": [{"table": "case_child", "column": "dob", "before": "bigint", "after": "text"}],
        "retired": [{"name": "users", "since": "2026-01-02", "dropped_after": "2026-04-02"}],
    }
    now = datetime.now(UTC)
    assets = [
        AssetState(raw_key, None, "raw", (), (), (), "run-2", now),
        AssetState(marts_key, None, "marts", (), (raw_key,), (), "run-1", now),
        AssetState(key, None, "marts", (), (raw_key,), (), "run-2", now, Tables.from_metadata(metadata)),
    ]
    known = join(bridge, tenant, live, Known({a.key: a for a in assets}, failed_run="run-2"))
    child, cases, users = (known.tables[name] for name in ("case_child", "cases", "users"))
    for told in (child.row(detailed=False), child.source_row()):
        assert (told["unfit_values"], told["type_changes"]) == (3, ["dob: bigint to text"])
        # Told with the mart of that source, and once among the warnings of whatever is made of it.
        assert "records_set_aside" not in told
        assert "last_build_failed" not in told
    assert cases.source_row()["records_set_aside"] == 2
    assert any("2 of cases (no key)" in warning for warning in table_warnings([child]))
    assert cases.source_row()["last_build_failed"] == "not rebuilt"
    assert users.row(detailed=False)["kind"] == "retired"
    assert users.source_row()["retired"] == {"since": "2026-01-02", "dropped_after": "2026-04-02"}
    warnings = "\n".join(table_warnings([child, cases, users]))
    for said in (
        "case_child (3 in dob, age)",
        "case_child.dob: bigint to text",
        "2 of cases (no key)",
        "latest run, the rows are from an earlier one: cases",
        "users (2026-01-02)",
    ):
        assert said in warnings
    assert "1 of users" not in warnings


def test_what_a_run_has_written_is_read_before_anybody_asks(stage: Stage) -> None:
    tenant = stage.tenants["demo:slow"]
    rw = stage.catalog.schemas.rw_login(tenant)

    async def work() -> None:
        bridge = Bridge.open(stage.settings, Caller.operator)
        await catch_up(bridge)
        assert bridge.tables.in_use(60) == []
        before = await tenant_tables(bridge, tenant)
        await catch_up(bridge)
        assert bridge.tables.in_use(60) == [(before, True)]
        with bridge.connections.tenant(rw.user, rw.password).connect() as connection:
            connection.execute(f"CREATE TABLE {before.live.schema.marts}.case_ahead (case_id text)".encode())
        stage.written("demo:slow", "run-ahead")
        await catch_up(bridge)
        ((ahead, settled),) = bridge.tables.in_use(60)
        assert (settled, ahead.live.schema.run_id, "case_ahead" in ahead.tables) == (True, "run-ahead", True)
        assert await tenant_tables(bridge, tenant) is ahead
        await bridge.aclose()

    asyncio.run(work())


@dataclass
class _Asking:
    """A login that counts how often it is asked for."""

    login: Login
    times: int = 0

    def __call__(self) -> Login:
        self.times += 1
        return self.login


def _asking(stage: Stage, bridge: Bridge) -> _Asking:
    rw = stage.catalog.schemas.rw_login(stage.tenants["demo:slow"])
    return _Asking(bridge.connections.tenant(rw.user, rw.password))


def test_connections_are_lent_again_until_the_server_ends_them(stage: Stage) -> None:
    """A session that a teardown or a restart has ended is not lent; one that failed is not kept."""
    bridge = Bridge.open(stage.settings, Caller.operator)
    ask, loaders = _asking(stage, bridge), LoaderConnections(statement_timeout_s=5)
    role = ask.login.user

    def backend() -> int:
        with loaders.lent(role, ask) as connection:
            return connection.info.backend_pid

    first = backend()
    assert (backend(), ask.times) == (first, 1)
    with bridge.connections.admin.connect(autocommit=True) as admin:
        admin.execute("SELECT pg_terminate_backend(%s, 5000)", [first])
    second = backend()
    assert (second != first, ask.times) == (True, 2)
    with pytest.raises(psycopg.errors.ReadOnlySqlTransaction), loaders.lent(role, ask) as connection:
        connection.execute("CREATE TABLE nobody (a int)")
    assert backend() != second
    with loaders.lent(role, ask) as one, loaders.lent(role, ask) as other:
        assert one is not other
    loaders.close()
    assert one.closed
    assert other.closed


def test_a_connection_is_opened_ahead(stage: Stage) -> None:
    """Who asks meanwhile gets that one; a login that cannot be had is the business of who asks."""
    bridge = Bridge.open(stage.settings, Caller.operator)
    ask, loaders = _asking(stage, bridge), LoaderConnections(statement_timeout_s=5)
    role = ask.login.user

    def refuse() -> Login:
        raise SchemaAbsent("Gone.", next_step="Ask again.")

    loaders.prepare(role, ask)
    loaders.prepare(role, ask)
    with loaders.lent(role, ask) as connection:
        assert connection.execute("SELECT current_user").fetchone() == (role,)
    loaders.prepare(role, ask)
    assert ask.times == 1
    loaders.prepare("nobody", refuse)
    with pytest.raises(SchemaAbsent), loaders.lent("nobody", refuse):
        pass
    loaders.close()
    assert connection.closed
    loaders.prepare(role, ask)
    with loaders.lent(role, ask) as connection:
        assert ask.times == 2
    assert connection.closed
