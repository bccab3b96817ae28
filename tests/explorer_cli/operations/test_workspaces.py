"""`explorer workspaces`: who is in one, and what its login may read afterwards."""

from collections.abc import Iterator
from typing import Any

import pytest

from explorer.catalog import ApiKeyCredential, Catalog, Scope, Tenant, migrate
from explorer.tenants import add_tenant
from tests.conftest import PgServer
from tests.explorer_cli.conftest import Explorer
from tests.unasked import Unasked

ONE, TWO = "demo:cli-ws-one", "demo:cli-ws-two"


@pytest.fixture(scope="module")
def catalog(pg_server: PgServer) -> Iterator[Catalog]:
    migrate(pg_server.connections)
    with Catalog.open(pg_server.settings) as catalog:
        yield catalog


@pytest.fixture(scope="module")
def members(pg_server: PgServer, catalog: Catalog) -> list[Tenant]:
    return [
        add_tenant(
            pg_server.settings, catalog, pg_server.connections, Unasked("W"), key=key, server="http://127.0.0.1:9",
            external_id=key.replace(":", "-"), credential=ApiKeyCredential("user@example.org", "0123456789abcdef"),
        )
        for key in (ONE, TWO)
    ]  # fmt: skip


def test_a_workspace_is_made_changed_shown_and_dropped(
    explorer: Explorer, pg_server: PgServer, catalog: Catalog, members: list[Tenant]
) -> None:
    def run(*arguments: str) -> Any:
        return explorer("workspaces", *arguments, "--json", EXPLORER_HOME=str(pg_server.home)).json

    def readers(name: str, owner: str | None = None) -> set[str]:
        """Whose readers the workspace's login is, by what the server says."""
        role = catalog.workspaces.get(catalog.principals.id_of(owner) if owner else None, name).role
        with pg_server.connections.admin.connect() as admin:
            rows = admin.execute(
                "SELECT g.rolname FROM pg_auth_members m JOIN pg_roles g ON g.oid = m.roleid"
                " WHERE m.member = %s::regrole",
                [role],
            ).fetchall()
        schemas = {catalog.schemas.get(tenant).ro: tenant.key for tenant in members}
        return {schemas[name] for (name,) in rows}

    assert run("create", "both", ONE, TWO)["tenants"] == [ONE, TWO]
    assert readers("both") == {ONE, TWO}
    assert run("create", "both", ONE)["error"]["code"] == "workspace_invalid"
    assert run("remove", "both", TWO)["tenants"] == [ONE]
    assert readers("both") == {ONE}
    assert run("remove", "both", ONE)["error"]["code"] == "workspace_invalid"
    assert run("add", "both", TWO)["tenants"] == [ONE, TWO]
    assert [row["why_not"] for row in run("show", "both")["members"]] == [None, None]
    assert run("add", "both", "demo:nowhere")["error"]["code"] == "unknown_tenant"

    catalog.principals.create_token("ws-agent", members[:1], {Scope.QUERY_RUN})
    assert "ws-agent may not query" in run("create", "theirs", ONE, TWO, "--principal", "ws-agent")["error"]["message"]
    assert run("create", "theirs", ONE, "--principal", "ws-agent")["principal"] == "ws-agent"
    assert {(w["name"], w["principal"]) for w in run("list")["workspaces"]} >= {("both", None), ("theirs", "ws-agent")}
    assert readers("theirs", "ws-agent") == {ONE}
    role = catalog.workspaces.get(catalog.principals.id_of("ws-agent"), "theirs").role
    explorer("tokens", "revoke", "ws-agent", EXPLORER_HOME=str(pg_server.home))
    with pg_server.connections.admin.connect() as admin:
        found = admin.execute("SELECT FROM pg_auth_members WHERE member = %s::regrole", [role]).fetchall()
    assert found == []

    assert run("drop", "both")["name"] == "both"
    assert run("show", "both")["error"]["code"] == "unknown_workspace"
