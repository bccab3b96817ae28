"""Overlays of tenants' semantics: all versions are stored, and one is in force at a time."""

from collections.abc import Callable

from explorer.catalog import Catalog, Scope, Tenant


def test_the_newest_version_is_in_force_and_the_same_again_makes_none(catalog: Catalog, tenant: Tenant) -> None:
    assert catalog.semantics.latest(tenant) is None
    first = catalog.semantics.save(tenant, {"synonyms": [{"table": "cases", "words": ["माता"]}]}, "admin")
    again = catalog.semantics.save(tenant, {"synonyms": [{"table": "cases", "words": ["माता"]}]}, "somebody else")
    assert (first.version, again) == (1, first)
    second = catalog.semantics.save(tenant, {}, "somebody else")
    assert (second.version, second.actor, catalog.semantics.latest(tenant)) == (2, "somebody else", second)


def test_tenants_have_overlays_of_their_own(catalog: Catalog, make_tenant: Callable[..., Tenant]) -> None:
    one, other = make_tenant(), make_tenant()
    catalog.semantics.save(one, {"a": 1}, "admin")
    assert catalog.semantics.latest(other) is None


def test_text_that_jsonb_refuses_is_kept_readable(catalog: Catalog, tenant: Tenant) -> None:
    saved = catalog.semantics.save(tenant, {"a": "x\0y"}, "admin\0")
    assert (saved.content, saved.actor) == ({"a": "x\ufffdy"}, "admin\ufffd")
    assert catalog.semantics.save(tenant, {"a": "x\0y"}, "admin") == saved


def test_a_token_may_be_given_the_right_to_write_semantics(catalog: Catalog, tenant: Tenant) -> None:
    principal = catalog.principals.verify(
        catalog.principals.create_token(f"admin of {tenant.key}", [tenant], {Scope.SEMANTICS_WRITE})
    )
    assert principal is not None
    assert principal.grants == {tenant.key: frozenset({Scope.SEMANTICS_WRITE})}
