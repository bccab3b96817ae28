"""Who changes a tenant's tables is alone, and is waited for."""

from concurrent.futures import ThreadPoolExecutor

import pytest

from explorer.postgres.connections import Connections
from explorer.postgres.run_lock import TenantBusy, Waiting, run_lock
from tests.conftest import tenants


def test_one_waits_for_the_other_with_words_and_not_for_ever(connections: Connections) -> None:
    with tenants(connections) as make, ThreadPoolExecutor(1) as executor:
        tenant, said = make(), list[str]()

        def work(limit_s: float) -> str:
            waiting = Waiting(limit_s, said.append)
            with run_lock(tenant.rw, "demo", tenant.prefix, holder="run 1", waiting=waiting):
                return "done"

        with run_lock(tenant.rw, "demo", tenant.prefix, holder="explorer dbt, process 7"):
            with pytest.raises(TenantBusy, match=r"of demo are being changed by explorer dbt, process 7\.") as refused:
                work(0)
            assert refused.value.next_step
            with pytest.raises(TenantBusy, match=r"process 7, and have been for 0\.1 s"):
                work(0.1)
            assert len(said) == 1
            assert "explorer dbt, process 7: this waits for it to end, at most 0.1 s" in said.pop()
            waits = executor.submit(work, 60)
            while not said:
                assert not waits.done()
        assert waits.result(30) == "done"
        assert "this goes on" in said[-1]
