"""One platform and one Chromium; each test has windows of its own."""

from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, BrowserContext, expect

from tests.browser.place import DESKTOP, Place, chromium, open_place
from tests.conftest import PgServer

# Machines of CI are slow.
expect.set_options(timeout=20_000)


@pytest.fixture(scope="session")
def place(pg_server: PgServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    with open_place(pg_server, tmp_path_factory.mktemp("place")) as place:
        yield place


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    with chromium() as browser:
        yield browser


@pytest.fixture
def context(browser: Browser) -> Iterator[BrowserContext]:
    """The profile of a person at a desk."""
    context = browser.new_context(**DESKTOP)
    context.set_default_timeout(20_000)
    yield context
    context.close()
