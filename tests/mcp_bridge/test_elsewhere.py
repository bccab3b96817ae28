"""A bridge on another machine: its HOME is empty, and none of its settings is the administrator's login."""

import asyncio
from pathlib import Path

import psycopg
import pytest
from mcp.client import Client

from explorer.catalog import State
from explorer.core.settings import Settings
from explorer.postgres.connections import load_connections
from explorer.postgres.errors import LoginMissing
from tests.mcp_bridge.stage import Stage, ask, elsewhere, http_bridge, http_client, on_http, refused

KEY = "demo:elsewhere"


def test_it_serves_without_the_administrators_login(stage: Stage, bridge_url: str, tmp_path: Path) -> None:
    """Cursors and rights are those of the bridge at home; schemas are made and dropped by the job, in the caller's name."""
    token, tenant = stage.token("far-away", KEY), stage.tenants[KEY]

    async def main(url: str) -> None:
        async with http_client(url, token) as client, http_client(bridge_url, token) as at_home:
            rows = await ask(client, "query", sql="select case_id from cases order by 1")
            assert rows["rows"] == [["c1"], ["c2"], ["c3"]]
            page = await ask(at_home, "list_tables", limit=1)
            assert (await ask(client, "list_tables", limit=1, cursor=page["next_cursor"]))["tables"] != page["tables"]
            before = await ask(client, "get_schema_status")
            seen: list[str | None] = []

            async def progress(value: float, total: float | None, message: str | None) -> None:
                seen.append(message)

            result = await client.call_tool("teardown_schema", {"confirm": KEY}, progress_callback=progress)
            gone = (result.structured_content or {})["data"]
            assert (gone["state"], gone["dropped"]) == ("absent", True)
            assert seen[0] == f"teardown of {KEY}: asked"
            assert (await refused(client, "query", sql="select 1"))["code"] == "schema_absent"
            made = await ask(client, "provision_schema")
            assert (made["state"], made["created"]) == ("active", True)
            assert made["schemas"]["marts"] != before["schemas"]["marts"]
            assert (await ask(client, "list_tables"))["tables"] == []

    with http_bridge(stage, tmp_path, **elsewhere(stage, tmp_path)) as url:
        asyncio.run(main(url))
    assert not list((tmp_path / "home").rglob("*"))
    job = [r.entry for r in stage.catalog.audit.read(actor="far-away") if r.entry.action == "provisioning"]
    assert [(entry.outcome, entry.detail["kind"]) for entry in job] == [("ok", "provision"), ("ok", "teardown")]
    assert stage.catalog.schemas.get(tenant).state is State.ACTIVE


def test_what_it_has_makes_no_schemas(stage: Stage, tmp_path: Path) -> None:
    login = stage.connections.service.sqlalchemy_url()
    connections = load_connections(Settings(_env_file=None, home=tmp_path, database_url=None, catalog_url=login))
    assert connections.service == stage.connections.service
    for name in ("admin", "catalog", "dagster"):
        with pytest.raises(LoginMissing, match=f"the {name} login"):
            getattr(connections, name)
    with connections.service.connect(autocommit=True) as connection:
        for statement in ("CREATE SCHEMA t_ffffffff_marts", "CREATE ROLE t_ffffffff_ro"):
            with pytest.raises(psycopg.errors.InsufficientPrivilege):
                connection.execute(statement)


def test_what_nobody_began_is_asked_about_again(stage: Stage, bridge_url: str, tmp_path: Path) -> None:
    """Dagster was away when the user agreed; the next call, by somebody else, is another question."""
    away = {
        **elsewhere(stage, tmp_path),
        "EXPLORER_DAGSTER_URL": "http://127.0.0.1:9",
        "EXPLORER_DAGSTER_TOKEN": "none",
    }
    first, second = stage.token("in-vain", KEY), stage.token("much-later", KEY)

    async def agree(client: Client) -> str:
        return str((await refused(client, "teardown_schema", confirm=KEY))["code"])

    async def later(client: Client) -> None:
        assert (await refused(client, "teardown_schema"))["code"] == "confirmation_required"
        assert (await ask(client, "get_schema_status"))["state"] == "active"

    with http_bridge(stage, tmp_path, **away) as url:
        assert on_http(url, first, agree) == "dagster_unavailable"
    on_http(bridge_url, second, later)


def test_what_the_job_cannot_do_is_told_without_details_and_done_later(stage: Stage, bridge_url: str) -> None:
    """Somebody else's view of a tenant's table keeps its schemas; its name is the operator's to read."""
    token, tenant = stage.token("in-the-way", KEY), stage.tenants[KEY]
    marts = stage.catalog.schemas.get(tenant).marts

    async def work(client: Client) -> None:
        with stage.connections.admin.connect(autocommit=True) as admin:
            admin.execute(f"CREATE TABLE {marts}.mine (a int)".encode())
            error = await refused(client, "teardown_schema", confirm=KEY)
            assert error["code"] == "provisioning_refused"
            assert marts not in str(error)
            assert (await ask(client, "get_schema_status"))["state"] == "teardown"
            admin.execute(f"DROP TABLE {marts}.mine".encode())
            assert (await ask(client, "teardown_schema", confirm=KEY))["dropped"] is True
            assert (await ask(client, "provision_schema"))["created"] is True

    on_http(bridge_url, token, work)
