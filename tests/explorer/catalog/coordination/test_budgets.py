from concurrent.futures import ThreadPoolExecutor
from uuid import uuid4

import pytest

from explorer.catalog import Catalog
from explorer.catalog.coordination.budgets import Amounts, Spent
from explorer.postgres.connections import Connections


@pytest.fixture
def key() -> str:
    return f"test:{uuid4()}"


def test_what_is_spent_adds_up_in_a_window(catalog: Catalog, key: str) -> None:
    assert catalog.usage.used(key, 60).amounts == Amounts()
    one = Amounts(1, 10, 1000, 20)
    catalog.usage.spend([Spent(key, 60, one)])
    found = catalog.usage.spend([Spent(key, 60, one), Spent(key, 60, one), Spent(key, 3600, one)])
    assert found[key, 60].amounts == Amounts(3, 30, 3000, 60)
    assert found[key, 3600].amounts == one
    assert 0 < found[key, 60].left_s <= 60 < found[key, 3600].left_s
    assert catalog.usage.used(key, 60).amounts == Amounts(3, 30, 3000, 60)
    catalog.usage.forget(key)
    assert catalog.usage.used(key, 60).amounts == Amounts()


def test_a_window_that_is_over_begins_anew(catalog: Catalog, connections: Connections, key: str) -> None:
    catalog.usage.spend([Spent(key, 60, Amounts(calls=5))])
    with connections.admin.connect() as conn:
        conn.execute("UPDATE catalog.usage SET ends_at = now() - interval '1 second' WHERE key = %s", [key])
    assert catalog.usage.used(key, 60).amounts == Amounts()
    assert catalog.usage.spend([Spent(key, 60, Amounts(calls=1))])[key, 60].amounts == Amounts(calls=1)


def test_nothing_is_lost_between_processes(catalog: Catalog, key: str) -> None:
    others = [f"{key}:{number}" for number in range(3)]

    def spend(number: int) -> None:
        keys = others if number % 2 else list(reversed(others))
        for _ in range(20):
            catalog.usage.spend([Spent(each, 600, Amounts(calls=1, ms=2)) for each in keys])

    with ThreadPoolExecutor(6) as pool:
        list(pool.map(spend, range(6)))
    assert {catalog.usage.used(each, 600).amounts for each in others} == {Amounts(calls=120, ms=240)}


def test_ended_windows_are_forgotten(catalog: Catalog, connections: Connections, key: str) -> None:
    catalog.usage.spend([Spent(key, 60, Amounts(calls=5)), Spent(key, 600, Amounts(calls=5))])
    with connections.admin.connect() as conn:
        conn.execute(
            "UPDATE catalog.usage SET ends_at = now() - interval '1 s' WHERE key = %s AND window_s = 60", [key]
        )
    catalog.usage.forget_ended()
    with connections.admin.connect() as conn:
        left = conn.execute("SELECT window_s FROM catalog.usage WHERE key = %s", [key]).fetchall()
    assert left == [(600,)]
