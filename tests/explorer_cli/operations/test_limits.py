"""`explorer limits`: what is set is shown, and what is used."""

from collections.abc import Iterator

import pytest

from explorer.catalog import ApiKeyCredential, Catalog, Identity, Scope, Tenant, budget_key, migrate
from explorer.catalog.coordination.budgets import Amounts, Spent
from explorer.tenants import add_tenant
from tests.conftest import PgServer
from tests.explorer_cli.conftest import Answer, Explorer
from tests.unasked import Unasked

KEY = "demo:cli-limits"


@pytest.fixture(scope="module")
def catalog(pg_server: PgServer) -> Iterator[Catalog]:
    migrate(pg_server.connections)
    with Catalog.open(pg_server.settings) as catalog:
        yield catalog


@pytest.fixture(scope="module")
def tenant(pg_server: PgServer, catalog: Catalog) -> Tenant:
    return add_tenant(
        pg_server.settings, catalog, pg_server.connections, Unasked("Limits"), key=KEY, server="http://127.0.0.1:9",
        external_id="cli-limits", credential=ApiKeyCredential("user@example.org", "0123456789abcdef"),
    )  # fmt: skip


def test_what_is_set_is_shown_with_what_is_used(
    explorer: Explorer, pg_server: PgServer, catalog: Catalog, tenant: Tenant
) -> None:
    def run(*arguments: str) -> Answer:
        return explorer("limits", *arguments, EXPLORER_HOME=str(pg_server.home))

    catalog.principals.create_token("night", [tenant])
    principal = next(each for each in catalog.principals.list() if each.name == "night")
    catalog.usage.spend([Spent(budget_key(principal.id, tenant.id), 3600, Amounts(2, 30, 400, 5_000))])
    assert run("set", KEY, "--calls", "10", "--exclude-table", "users", "--json").json["limits"] == {
        "calls": 10,
        "excluded_tables": ["users"],
    }
    assert run("set", KEY, "--principal", "night", "--seconds", "7").code == 0
    shown = run("show", KEY, "--json").json
    assert shown["limits"] == {"calls": 10, "excluded_tables": ["users"]}
    assert shown["defaults"]["calls"] == 100_000
    (row,) = shown["principals"]
    assert (row["name"], row["own"]) == ("night", {"seconds": 7})
    assert row["used"] == {"calls": 2, "rows": 30, "bytes": 400, "seconds": 5}
    assert 3_500 < row["window_ends_in_s"] <= 3_600
    assert "calls 10" in run("show", KEY).err
    assert run("set", KEY, "--exclude-table", "", "--json").json["limits"] == {"calls": 10}
    assert run("clear", KEY, "--principal", "night", "--json").json["cleared"] is True
    (row,) = run("show", KEY, "--json").json["principals"]
    assert (row["own"], row["used"]["calls"]) == ({}, 0)
    assert run("set", KEY, "--json").json["error"]["code"] == "limit_invalid"
    assert (
        run("set", KEY, "--principal", "nobody", "--calls", "1", "--json").json["error"]["code"] == "unknown_principal"
    )
    catalog.principals.revoke("night")


def test_people_have_limits_too(explorer: Explorer, pg_server: PgServer, catalog: Catalog, tenant: Tenant) -> None:
    def run(*arguments: str) -> Answer:
        return explorer("limits", *arguments, EXPLORER_HOME=str(pg_server.home))

    rights = {KEY: frozenset({Scope.QUERY_RUN})}
    person, gone = (catalog.identities.sign_in(Identity("www", name, name), None, rights) for name in ("ada", "bob"))
    for each in (person, gone):
        catalog.usage.spend([Spent(budget_key(each.principal_id, tenant.id), 3600, Amounts(3))])
    assert run("set", KEY, "--principal", gone.name, "--calls", "9").code == 0
    catalog.identities.end(gone.principal_id)
    rows = run("show", KEY, "--json").json["principals"]
    assert [(row["name"], row["own"], row["used"]["calls"]) for row in rows] == [
        (person.name, {}, 3), (gone.name, {"calls": 9}, 3),
    ]  # fmt: skip
    assert run("clear", KEY, "--principal", gone.name).code == 0
    assert [row["name"] for row in run("show", KEY, "--json").json["principals"]] == [person.name]
    assert catalog.usage.used(budget_key(gone.principal_id, tenant.id), 3600).amounts.calls == 0
    assert run("clear", KEY).code == 0
    assert catalog.usage.used(budget_key(person.principal_id, tenant.id), 3600).amounts.calls == 0
