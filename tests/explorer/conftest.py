"""A tenant with raw tables filled by hand, for the tests of tables and marts."""

from collections.abc import Callable, Iterator

import pytest

from explorer.postgres.connections import Connections
from tests.conftest import tenants
from tests.explorer.workshop import Workshop


@pytest.fixture(scope="module")
def make_workshop(connections: Connections) -> Iterator[Callable[[], Workshop]]:
    """`make_workshop()` provisions a tenant without any raw table; all are removed after the module."""
    with tenants(connections) as make:
        yield lambda: Workshop(make(), connections)
