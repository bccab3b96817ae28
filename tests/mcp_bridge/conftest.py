"""What the bridge's tests share: one real Dagster and names."""

from collections.abc import Iterator

import pytest

from dagster_fixture import running_dagster


@pytest.fixture(scope="session")
def dagster_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with running_dagster(tmp_path_factory.mktemp("dagster")) as url:
        yield url
