"""Shared fixtures of the bridge's tests: one real Dagster, one set of tenants, one bridge process over HTTP."""

from collections.abc import Iterator

import pytest

from tests.conftest import PgServer
from tests.mcp_bridge.dagster_fixture import running_dagster
from tests.mcp_bridge.stage import Stage, http_bridge, make_stage


@pytest.fixture(scope="session")
def dagster_url(pg_server: PgServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with running_dagster(tmp_path_factory.mktemp("dagster"), pg_server) as url:
        yield url


@pytest.fixture(scope="session")
def stage(pg_server: PgServer, dagster_url: str) -> Stage:
    return make_stage(pg_server, dagster_url)


@pytest.fixture(scope="session")
def bridge_url(stage: Stage, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with http_bridge(stage, tmp_path_factory.mktemp("bridge")) as url:
        yield url


@pytest.fixture(scope="session")
def token(stage: Stage) -> str:
    """May do everything with demo:one."""
    return stage.token("agent-one", "demo:one")
