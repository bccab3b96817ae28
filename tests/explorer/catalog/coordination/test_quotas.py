"""What a tenant may load in a day: counted exactly over processes, refused with the time to come again."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing

import pytest

from explorer.catalog import Catalog, LimitInvalid, Quota, QuotaExhausted, Tenant
from explorer.catalog.coordination.quotas import DAY_S
from explorer.catalog.coordination.request_slots import RequestSlots
from explorer.http.limiter import RateLimiter
from explorer.postgres.connections import Connections


def set_quota(catalog: Catalog, tenant: Tenant, **values: int | None) -> None:
    catalog.quotas.set(tenant, values, actor="test")


def test_of_runs_at_the_same_moment_none_passes_the_quota(catalog: Catalog, tenant: Tenant) -> None:
    set_quota(catalog, tenant, runs=5)

    def take(_: int) -> bool:
        try:
            catalog.quotas.take_run(tenant)
        except QuotaExhausted:
            return False
        return True

    with ThreadPoolExecutor(8) as pool:
        assert sum(pool.map(take, range(16))) == 5
    use = catalog.quotas.use([tenant.id])[tenant.id]
    assert (use.used["runs"], use.exhausted) == (5, "runs")
    with pytest.raises(QuotaExhausted) as refused:
        catalog.quotas.require(tenant)
    details = refused.value.details
    assert (details["exhausted"], details["limit"]) == ("runs", 5)
    assert DAY_S - 60 < details["retry_after_s"] <= DAY_S
    assert str(details["retry_after_s"]) in refused.value.next_step
    assert set(catalog.quotas.exhausted([tenant.id])) == {tenant.id}
    set_quota(catalog, tenant, runs=6)
    catalog.quotas.take_run(tenant)


def test_a_tenants_own_values_replace_the_general_ones_and_are_audited(catalog: Catalog, tenant: Tenant) -> None:
    assert Quota(runs=3).over(Quota(1, 2, 3, 4)) == Quota(3, 2, 3, 4)
    set_quota(catalog, tenant, requests=10, rows=7)
    set_quota(catalog, tenant, rows=None)
    assert catalog.quotas.use([tenant.id])[tenant.id].quota == Quota(0, 10, 0, 0)
    entry = catalog.audit.read(tenant=tenant.key)[0].entry
    assert (entry.action, entry.detail["values"]) == ("set_quota", {"rows": None})
    for wrong in ({}, {"runs": -1}, {"calls": 1}):
        with pytest.raises(LimitInvalid):
            catalog.quotas.set(tenant, wrong, actor="test")


@pytest.fixture
def slots(catalog: Catalog, connections: Connections, tenant: Tenant) -> Iterator[RequestSlots]:
    """As a loader opens them."""
    set_quota(catalog, tenant, requests=3, bytes=1000)
    allowance = catalog.quotas.allowance(tenant)
    with closing(RequestSlots(connections.service, tenant.server, tenant.external_id, allowance)) as slots:
        yield slots


def test_requests_are_counted_before_they_are_sent(catalog: Catalog, tenant: Tenant, slots: RequestSlots) -> None:
    limiter = RateLimiter(1000.0, slots)
    for _ in range(3):
        limiter.wait()
    with pytest.raises(QuotaExhausted, match="3 requests in a day"):
        limiter.wait()
    assert catalog.quotas.use([tenant.id])[tenant.id].used["requests"] == 3
    catalog.quotas.forget(tenant)
    limiter.wait()


def test_bytes_are_counted_with_the_next_request_or_at_the_end(
    catalog: Catalog, tenant: Tenant, slots: RequestSlots
) -> None:
    limiter = RateLimiter(1000.0, slots)
    limiter.wait()
    limiter.received(400)
    limiter.wait()
    limiter.received(700)
    with pytest.raises(QuotaExhausted, match="1000 bytes in a day"):
        limiter.wait()
    limiter.received(5)
    slots.close()
    catalog.quotas.loaded(tenant, 12)
    used = catalog.quotas.use([tenant.id])[tenant.id].used
    assert used == {"runs": 0, "requests": 2, "rows": 12, "bytes": 1105}
