"""What serving a call reads and writes in the catalog, beside what the stores say."""

import asyncio
import itertools
from collections.abc import Awaitable, Callable
from typing import TypeVar

import pytest

from explorer.catalog import AsyncCatalog, AuditEntry, Catalog, CatalogUnavailable, Scope, State, Tenant, TenantSchema
from explorer.postgres.connections import Connections, Login

T = TypeVar("T")
names = (f"caller-{number}" for number in itertools.count())


def asked(connections: Connections, catalog: Catalog, work: Callable[[AsyncCatalog], Awaitable[T]]) -> T:
    async def main() -> T:
        calls = AsyncCatalog(connections.service, lambda: catalog.keyring, within_s=5)
        try:
            return await work(calls)
        finally:
            calls.close()

    return asyncio.run(main())


def test_a_token_brings_its_principal_and_the_tenants_as_the_stores_know_them(
    connections: Connections, catalog: Catalog, make_tenant: Callable[..., Tenant]
) -> None:
    tenants = [make_tenant(), make_tenant()]
    token = catalog.principals.create_token(next(names), tenants, {Scope.QUERY_RUN})
    found = asked(connections, catalog, lambda calls: calls.admission(token))
    assert found is not None
    assert found.principal == catalog.principals.verify(token)
    for tenant in tenants:
        admitted = found.tenants[tenant.key]
        assert admitted.tenant == catalog.tenants.get(tenant.key)
        assert admitted.schema == catalog.schemas.get(tenant)
        login = asked(connections, catalog, lambda calls, admitted=admitted: _reader(calls, admitted))  # type: ignore[misc]
        assert login == catalog.schemas.ro_login(tenant)
    assert "passwords" not in repr(found)


async def _reader(calls: AsyncCatalog, admitted: object) -> object:
    return calls.reader(admitted)  # type: ignore[arg-type]


def test_no_other_text_is_a_token(connections: Connections, catalog: Catalog, tenant: Tenant) -> None:
    name = next(names)
    token = catalog.principals.create_token(name, [tenant])
    catalog.principals.revoke(name)
    for text in (token, token[:-1], "", "dex_", "dex_\N{SNOWMAN}", "dxa_x"):
        assert asked(connections, catalog, lambda calls, text=text: calls.admission(text)) is None  # type: ignore[misc]


def test_a_caller_of_many_tenants_gets_their_names_alone(
    connections: Connections, catalog: Catalog, make_tenant: Callable[..., Tenant]
) -> None:
    tenants = [make_tenant() for _ in range(9)]
    token = catalog.principals.create_token(next(names), tenants)
    found = asked(connections, catalog, lambda calls: calls.admission(token))
    assert found is not None
    assert found.principal.grants.keys() == {tenant.key for tenant in tenants}
    assert found.tenants == {}
    admitted = asked(connections, catalog, lambda calls: calls.tenant(tenants[3].key))
    assert admitted is not None
    assert admitted.tenant == tenants[3]


def test_a_removed_tenant_is_nobodys(
    connections: Connections, catalog: Catalog, make_tenant: Callable[..., Tenant]
) -> None:
    kept, removed = make_tenant(), make_tenant()
    token = catalog.principals.create_token(next(names), [kept, removed])
    catalog.registration.mark_removed(removed)
    found = asked(connections, catalog, lambda calls: calls.admission(token))
    assert found is not None
    assert found.principal.grants.keys() == found.tenants.keys() == {kept.key}
    assert asked(connections, catalog, lambda calls: calls.tenant(removed.key)) is None


def test_a_token_without_tenants_is_still_one(
    connections: Connections, catalog: Catalog, make_tenant: Callable[..., Tenant]
) -> None:
    only = make_tenant()
    token = catalog.principals.create_token(next(names), [only])
    catalog.registration.forget(only)
    found = asked(connections, catalog, lambda calls: calls.admission(token))
    assert found is not None
    assert (found.principal.grants, found.tenants) == ({}, {})


def test_the_state_of_the_schemas_is_of_this_moment(connections: Connections, catalog: Catalog, tenant: Tenant) -> None:
    def schema() -> TenantSchema:
        found = asked(connections, catalog, lambda calls: calls.tenant(tenant.key))
        assert found is not None
        return found.schema

    before = schema()
    assert before == catalog.schemas.get(tenant)
    catalog.schemas.transition(tenant, {State.ACTIVE}, State.MATERIALIZING, run_id="r")
    assert schema() == catalog.schemas.get(tenant) != before


def test_entries_are_added_together_in_order(connections: Connections, catalog: Catalog) -> None:
    actor = next(names)
    entries = [AuditEntry(actor, "query", None, "ok", detail={"number": number, "bad": "a\0b"}) for number in range(3)]
    asked(connections, catalog, lambda calls: calls.append(entries))
    found = catalog.audit.read(actor=actor)
    assert [record.entry.detail["number"] for record in reversed(found)] == [0, 1, 2]
    assert found[0].entry.detail["bad"] == "a\ufffdb"


def test_what_one_wants_all_are_told(connections: Connections, catalog: Catalog, tenant: Tenant) -> None:
    async def main() -> list[str]:
        told = list[str]()
        ours, theirs = (
            AsyncCatalog(connections.service, lambda: catalog.keyring, within_s=5, on_wanted=told.append)
            for _ in range(2)
        )
        await asyncio.gather(ours.tenant(tenant.key), theirs.tenant(tenant.key))
        await ours.want("a connection")
        async with asyncio.timeout(5):
            while len(told) < 2:
                await asyncio.sleep(0.01)
        ours.close()
        theirs.close()
        return told

    assert asyncio.run(main()) == ["a connection"] * 2


def test_a_database_that_is_not_there_is_said(catalog: Catalog) -> None:
    async def main() -> None:
        calls = AsyncCatalog(Login("127.0.0.1", 1, "x", "x", "x"), lambda: catalog.keyring, within_s=2)
        for work in (calls.admission("dex_x"), calls.append([]), calls.tenant("x")):
            with pytest.raises(CatalogUnavailable):
                await work

    asyncio.run(main())
