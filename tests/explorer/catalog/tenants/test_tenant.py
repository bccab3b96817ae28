from collections.abc import Callable

import pytest

from explorer.catalog import Catalog, Tenant
from explorer.core.errors import UnknownTenant


def test_active_tenants_are_listed_by_key(catalog: Catalog, make_tenant: Callable[..., Tenant]) -> None:
    mine = [make_tenant(), make_tenant()]
    listed = catalog.tenants.list()
    assert [tenant.key for tenant in listed] == sorted(tenant.key for tenant in listed)
    assert set(mine) <= set(listed)


@pytest.mark.parametrize(
    "spoil", [str.upper, lambda key: key[:3] + "\0" + key[3:], lambda key: key + "\ud800", lambda _: ""]
)
def test_no_other_text_is_a_tenant(catalog: Catalog, tenant: Tenant, spoil: Callable[[str], str]) -> None:
    with pytest.raises(UnknownTenant) as refused:
        catalog.tenants.get(spoil(tenant.key))
    assert tenant.key not in str(refused.value)
