from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from uuid import uuid4

import pytest

from explorer.catalog import (
    DEFAULT_SCOPES,
    Catalog,
    PrincipalExists,
    PrincipalInvalid,
    Scope,
    ScopeUnknown,
    Tenant,
    UnknownPrincipal,
)
from explorer.postgres.connections import Connections


@pytest.fixture
def name() -> str:
    return f"agent {uuid4().hex}"


def test_a_token_stands_for_its_principal(
    catalog: Catalog, connections: Connections, make_tenant: Callable[..., Tenant], name: str
) -> None:
    one, two = make_tenant(), make_tenant()
    token = catalog.principals.create_token(name, [one, two, one], {Scope.QUERY_RUN, Scope.SCHEMA_MANAGE})
    assert token.startswith("dex_")
    assert len(token) >= 47
    principal = catalog.principals.verify(token)
    assert principal is not None
    scopes = frozenset({Scope.QUERY_RUN, Scope.SCHEMA_MANAGE})
    assert (principal.name, principal.grants) == (name, {one.key: scopes, two.key: scopes})
    with connections.admin.connect() as conn:
        rows = conn.execute("SELECT t::text || p::text FROM catalog.tokens t, catalog.principals p").fetchall()
    assert not [row for (row,) in rows if token[4:] in row]


def test_by_default_a_token_may_all_but_what_is_granted_by_name(catalog: Catalog, tenant: Tenant, name: str) -> None:
    principal = catalog.principals.verify(catalog.principals.create_token(name, [tenant]))
    assert principal is not None
    assert principal.grants[tenant.key] == DEFAULT_SCOPES
    assert frozenset(Scope) - DEFAULT_SCOPES == {Scope.SCHEMA_MANAGE, Scope.SEMANTICS_WRITE, Scope.MODELS_WRITE}


@pytest.mark.parametrize(
    "spoil", [str.upper, lambda t: t[:-1], lambda t: t + "A", lambda t: t[4:], lambda _: "", lambda t: f"{t}\0"]
)
def test_every_other_text_is_nobody(catalog: Catalog, tenant: Tenant, name: str, spoil: Callable[[str], str]) -> None:
    assert catalog.principals.verify(spoil(catalog.principals.create_token(name, [tenant]))) is None
    assert catalog.principals.verify("dex_é\ud800") is None


def test_an_expired_token_is_nobody(catalog: Catalog, connections: Connections, tenant: Tenant, name: str) -> None:
    token = catalog.principals.create_token(name, [tenant], expires_at=datetime.now(UTC) + timedelta(hours=1))
    assert catalog.principals.verify(token) is not None
    with connections.catalog.connect() as conn:
        conn.execute(
            "UPDATE catalog.tokens SET expires_at = now() FROM catalog.principals p WHERE p.id = principal_id AND name = %s",
            [name],
        )
    assert catalog.principals.verify(token) is None


def test_a_revoked_principal_is_nobody_and_its_name_free_again(catalog: Catalog, tenant: Tenant, name: str) -> None:
    token = catalog.principals.create_token(name, [tenant])
    with pytest.raises(PrincipalExists):
        catalog.principals.create_token(name, [tenant])
    catalog.principals.revoke(name)
    assert catalog.principals.verify(token) is None
    with pytest.raises(UnknownPrincipal):
        catalog.principals.revoke(name)
    assert catalog.principals.verify(catalog.principals.create_token(name, [tenant])) is not None
    assert catalog.principals.verify(token) is None


def test_removed_tenants_are_not_granted(catalog: Catalog, make_tenant: Callable[..., Tenant], name: str) -> None:
    kept, removed = make_tenant(), make_tenant()
    token = catalog.principals.create_token(name, [kept, removed])
    catalog.registration.mark_removed(removed)
    principal = catalog.principals.verify(token)
    assert principal is not None
    assert set(principal.grants) == {kept.key}


def test_use_is_noted_once_a_minute(catalog: Catalog, connections: Connections, tenant: Tenant, name: str) -> None:
    def last_used() -> datetime | None:
        return next(summary.last_used_at for summary in catalog.principals.list() if summary.name == name)

    token = catalog.principals.create_token(name, [tenant])
    assert last_used() is None
    catalog.principals.verify(token)
    first = last_used()
    catalog.principals.verify(token)
    assert last_used() == first is not None
    with connections.catalog.connect() as conn:
        conn.execute("UPDATE catalog.tokens SET last_used_at = last_used_at - interval '61 seconds'")
    catalog.principals.verify(token)
    assert (last_used() or first) >= first


def test_the_list_shows_grants_and_on_request_the_revoked(catalog: Catalog, tenant: Tenant, name: str) -> None:
    catalog.principals.create_token(name, [tenant], {Scope.QUERY_RUN})
    assert [p.grants for p in catalog.principals.list() if p.name == name] == [
        {tenant.key: frozenset({Scope.QUERY_RUN})}
    ]
    catalog.principals.revoke(name)
    assert name not in {p.name for p in catalog.principals.list()}
    assert [p.revoked_at is not None for p in catalog.principals.list(include_revoked=True) if p.name == name] == [True]


def test_requests_that_make_no_sense_are_refused(catalog: Catalog, tenant: Tenant, name: str) -> None:
    create = catalog.principals.create_token
    for bad_name in ("", " x", "a\nb", "x" * 129, "operator", "anonymous"):
        with pytest.raises(PrincipalInvalid):
            create(bad_name, [tenant])
    with pytest.raises(PrincipalInvalid):
        create(name, [])
    with pytest.raises(PrincipalInvalid):
        create(name, [tenant], set())
    for expiry in (datetime.now(UTC), datetime(2999, 1, 1)):
        with pytest.raises(PrincipalInvalid):
            create(name, [tenant], expires_at=expiry)
    with pytest.raises(ScopeUnknown, match="query:run"):
        Scope.parse("query")
    assert name not in {p.name for p in catalog.principals.list(include_revoked=True)}
