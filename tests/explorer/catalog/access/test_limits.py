from uuid import uuid4

import pytest

from explorer.catalog import Catalog, LimitInvalid, Limits, Tenant, UnknownPrincipal


@pytest.fixture
def principal(catalog: Catalog, tenant: Tenant) -> str:
    name = f"agent-{uuid4().hex}"
    catalog.principals.create_token(name, [tenant])
    return name


def test_a_principals_own_values_replace_the_tenants(catalog: Catalog, tenant: Tenant, principal: str) -> None:
    catalog.limits.set(tenant, {"calls": 10, "rows": 500, "excluded_tables": ["users"]})
    catalog.limits.set(tenant, {"calls": 3}, principal)
    catalog.limits.set(tenant, {"max_rows_per_query": 7}, principal)
    general, own = catalog.limits.of(tenant)
    assert (general.principal, own.principal) == (None, principal)
    assert own.limits == Limits(calls=3, max_rows_per_query=7)
    merged = own.limits.over(general.limits)
    assert merged == Limits(calls=3, rows=500, max_rows_per_query=7, excluded_tables=("users",))
    assert not merged.may_read("users")
    assert merged.may_read("cases")
    assert not Limits(allowed_tables=("cases",)).may_read("forms")


def test_a_value_can_be_lifted_and_all_cleared(catalog: Catalog, tenant: Tenant, principal: str) -> None:
    catalog.limits.set(tenant, {"calls": 10, "allowed_tables": ["a", "a", "b"]})
    assert catalog.limits.set(tenant, {"calls": None}) == Limits(allowed_tables=("a", "b"))
    catalog.limits.set(tenant, {"seconds": 1.0}, principal)
    assert catalog.limits.clear(tenant, principal) is True
    assert catalog.limits.clear(tenant, principal) is False
    assert [each.limits for each in catalog.limits.of(tenant)] == [Limits(allowed_tables=("a", "b"))]
    assert catalog.limits.clear(tenant) is True
    assert catalog.limits.of(tenant) == []
    written = [(r.entry.action, r.entry.detail.get("principal")) for r in catalog.audit.read(tenant=tenant.key)]
    assert written[:5] == [
        ("clear_limits", None),
        ("clear_limits", principal),
        ("set_limits", principal),
        ("set_limits", None),
        ("set_limits", None),
    ]


@pytest.mark.parametrize(
    "values",
    [{}, {"calls": -1}, {"calls": True}, {"rows": "many"}, {"max_rows_per_query": 0}, {"max_rows_per_query": 2**40},
     {"max_query_timeout_seconds": 0.5}, {"excluded_tables": [""]}],
)  # fmt: skip
def test_what_can_be_no_limit_is_refused(catalog: Catalog, tenant: Tenant, values: dict[str, object]) -> None:
    with pytest.raises(LimitInvalid):
        catalog.limits.set(tenant, values)
    assert catalog.limits.of(tenant) == []


def test_tables_and_strangers(catalog: Catalog, tenant: Tenant, principal: str) -> None:
    with pytest.raises(LimitInvalid, match="not for one principal"):
        catalog.limits.set(tenant, {"excluded_tables": ["users"]}, principal)
    with pytest.raises(UnknownPrincipal):
        catalog.limits.set(tenant, {"calls": 1}, "nobody")
    catalog.principals.revoke(principal)
    with pytest.raises(UnknownPrincipal):
        catalog.limits.clear(tenant, principal)
