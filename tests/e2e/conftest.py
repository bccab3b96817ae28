"""The whole platform, started by its own command line, with the demo CommCare server beside it."""

from collections.abc import Iterator

import pytest

from tests.e2e.stack import Stack, running_stack


@pytest.fixture(scope="package")
def stack() -> Iterator[Stack]:
    """Stopped when the tests of this folder have ended, since it costs the other tests."""
    with running_stack() as stack:
        yield stack
