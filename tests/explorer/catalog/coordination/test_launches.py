"""One launch per tenant at a time, and one run per key: the database enforces both for all processes."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from explorer.catalog import Catalog, Tenant
from explorer.postgres.connections import Connections

JOB = "commcare_sync"


def test_of_many_that_ask_one_launches(catalog: Catalog, make_tenant: Callable[..., Tenant]) -> None:
    tenant, other = make_tenant(), make_tenant()

    def ask(_: int) -> Any:
        return catalog.launches.claim(tenant, "agent", JOB, "key", 30.0)

    with ThreadPoolExecutor(8) as pool:
        held = [claim for claim in pool.map(ask, range(16)) if claim is not None]
    assert len(held) == 1
    assert catalog.launches.claim(other, "agent", JOB, "key", 30.0) is not None
    catalog.launches.launched(held[0], "run-1", "key")
    assert catalog.launches.run_of(tenant, "key") == "run-1"
    assert catalog.launches.run_of(other, "key") is None
    assert catalog.launches.claim(tenant, "agent", JOB, "key", 30.0) is not None


def test_what_a_dead_holder_left_is_taken_over_and_it_says_no_more(
    catalog: Catalog, make_tenant: Callable[..., Tenant]
) -> None:
    tenant = make_tenant()
    dead = catalog.launches.claim(tenant, "dead", JOB, "a", 0.0)
    assert dead is not None
    heir = catalog.launches.claim(tenant, "heir", JOB, "b", 30.0)
    assert heir is not None
    assert (heir.id, heir.taken_over, dead.taken_over) == (dead.id, True, False)
    assert not catalog.launches.use(dead, "dead", JOB, "a", 30.0)
    catalog.launches.launched(dead, "run-of-the-dead", "a")
    catalog.launches.release(dead)
    catalog.launches.leave(dead)
    assert catalog.launches.claim(tenant, "third", JOB, None, 30.0) is None
    assert catalog.launches.use(heir, "heir", JOB, "b", 30.0)
    catalog.launches.launched(heir, "run-1", "b")
    assert catalog.launches.run_of(tenant, "a") is None
    assert catalog.launches.run_of(tenant, "b") == "run-1"


def test_a_hold_of_a_clock_that_was_set_back_is_taken_over(
    catalog: Catalog, make_tenant: Callable[..., Tenant]
) -> None:
    tenant = make_tenant()
    # As made two hours later, by the clock of then.
    dead = catalog.launches.claim(tenant, "dead", JOB, None, 7200.0)
    assert dead is not None
    heir = catalog.launches.claim(tenant, "heir", JOB, None, 30.0)
    assert heir is not None
    assert (heir.id, heir.taken_over) == (dead.id, True)
    assert catalog.launches.claim(tenant, "third", JOB, None, 30.0) is None


def test_a_key_passes_to_its_newest_run_and_is_forgotten_in_time(
    catalog: Catalog, make_tenant: Callable[..., Tenant], connections: Connections
) -> None:
    tenant = make_tenant()
    for run in ("run-1", "run-2"):
        claim = catalog.launches.claim(tenant, "agent", JOB, "key", 30.0)
        assert claim is not None
        catalog.launches.launched(claim, run, "key")
        assert catalog.launches.run_of(tenant, "key") == run
    with connections.admin.connect() as admin:
        admin.execute("UPDATE catalog.launches SET created_at = created_at - interval '31 days'")
    claim = catalog.launches.claim(tenant, "agent", JOB, None, 30.0)
    assert claim is not None
    assert catalog.launches.run_of(tenant, "key") is None
    catalog.launches.release(claim)
    assert catalog.launches.claim(tenant, "agent", JOB, None, 30.0) is not None
