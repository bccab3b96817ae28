"""A shop with a few items, whose tables are built."""

from collections.abc import Iterator

import pytest

from explorer.postgres.connections import Connections
from tests.conftest import tenants
from tests.explorer.tables.engine.shop import KINDS, Shop


@pytest.fixture
def shop(connections: Connections) -> Iterator[Shop]:
    """Each test has its own."""
    with tenants(connections) as make:
        made = Shop(make())
        made.make_raw()
        made.put("raw_owners", "o1", {"name": "Asha"})
        made.put("raw_owners", "o2", {"name": "Binod"})
        for number in range(6):
            made.put_item(f"i{number}", KINDS[number % 2], f"o{number % 3}", size=str(number), parts=["a", "b"])
        made.update()
        yield made
