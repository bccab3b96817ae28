"""What serving a call reads and writes in the catalog, beside what the stores say."""

import asyncio
import itertools
from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import TypeVar
from uuid import uuid4

import pytest

from explorer.catalog import (
    AsyncCatalog,
    AuditEntry,
    Catalog,
    CatalogUnavailable,
    Identity,
    Issued,
    Scope,
    State,
    Tenant,
    TenantSchema,
    UiRole,
)
from explorer.catalog.access.oauth_grants import s256
from explorer.contract.headers import UI_CLIENT
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


def test_a_token_of_a_person_brings_the_same_as_the_store_knows(
    connections: Connections, catalog: Catalog, make_tenant: Callable[..., Tenant]
) -> None:
    tenants = [make_tenant(), make_tenant()]
    subject, callback = uuid4().hex, "http://localhost:1/callback"
    rights = {tenant.key: frozenset({Scope.QUERY_RUN, Scope.METADATA_READ}) for tenant in tenants}
    record = catalog.identities.sign_in(Identity("www", subject, f"{subject}@example.org"), None, rights)
    client = catalog.oauth_clients.register("A host", [callback]).client_id

    def issued(client_id: str, *scopes: Scope | UiRole) -> Issued:
        _, code = catalog.oauth_grants.issue_code(record.principal_id, client_id, scopes, callback, s256("v" * 43))
        pair = catalog.oauth_grants.exchange(code, client_id, callback, "v" * 43)
        assert isinstance(pair, Issued)
        return pair

    catalog.oauth_clients.keep(UI_CLIENT, "pinned", "Dagster UI", [callback], None)
    pair, other = issued(client, Scope.QUERY_RUN), issued(client, Scope.QUERY_RUN)
    found = asked(connections, catalog, lambda calls: calls.person(pair.access))
    known = catalog.oauth_grants.verify(pair.access)
    assert found is not None
    assert known is not None
    age_s = found.signed_in.checked_age_s
    assert 0 <= age_s <= known.checked_age_s
    assert found.signed_in == replace(known, checked_age_s=age_s)
    assert {key: admitted.tenant for key, admitted in found.tenants.items()} == {each.key: each for each in tenants}
    assert found.standings.keys() == rights.keys()

    def is_known(token: str) -> bool:
        by_call = asked(connections, catalog, lambda calls: calls.person(token)) is not None
        assert by_call == (catalog.oauth_grants.verify(token) is not None)
        # Nobody takes it for a token of a machine, which is good for all that its principal may do.
        assert asked(connections, catalog, lambda calls: calls.admission(token)) is None
        return by_call

    def changed(statement: str, *values: object) -> None:
        with connections.admin.connect(autocommit=True) as conn:
            conn.execute(statement, values)  # type: ignore[arg-type]

    assert is_known(pair.access)
    for text in (
        pair.refresh or "",
        pair.access[:-1],
        "dxa_",
        "dxa_\N{SNOWMAN}",
        issued(UI_CLIENT, UiRole.VIEW).access,
    ):
        assert not is_known(text)
    assert catalog.oauth_grants.revoke(other.refresh or "", client) is not None
    assert not is_known(other.access)
    for table, column, of, who in (
        ("oauth_clients", "blocked_at", "client_id", client),
        ("identities", "blocked_at", "principal_id", record.principal_id),
        ("principals", "revoked_at", "id", record.principal_id),
    ):
        changed(f"UPDATE catalog.{table} SET {column} = now() WHERE {of} = %s", who)
        assert not is_known(pair.access)
        changed(f"UPDATE catalog.{table} SET {column} = NULL WHERE {of} = %s", who)
        assert is_known(pair.access)
    for table in ("oauth_grants", "oauth_tokens"):
        of = "id" if table == "oauth_grants" else "grant_id"
        changed(f"UPDATE catalog.{table} SET expires_at = now() - interval '1 second' WHERE {of} = %s", pair.grant.id)
        assert not is_known(pair.access)
        changed(f"UPDATE catalog.{table} SET expires_at = now() + interval '1 hour' WHERE {of} = %s", pair.grant.id)
        assert is_known(pair.access)


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
