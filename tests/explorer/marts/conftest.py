"""A studio: a tenant and a dbt project of its own, shared by the tests of a module, since dbt reads a project for seconds."""

from collections.abc import Callable, Iterator

import pytest

from explorer.core.settings import Settings
from explorer.postgres.connections import Connections
from tests.conftest import tenants
from tests.explorer.marts.studio import Studio, copy_project


@pytest.fixture(scope="module")
def shared_studio(connections: Connections, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Studio]:
    folder = tmp_path_factory.mktemp("studio")
    settings = Settings(_env_file=None, home=folder / "home", project_dir=folder / "checkout")
    copy_project(settings.project_dir)
    with tenants(connections) as make:
        yield Studio(make(), connections, settings)


@pytest.fixture
def make_studio(shared_studio: Studio) -> Callable[..., Studio]:
    """`make_studio(name="select ...")`: a tenant without tables, and a project with these models only."""

    def studio(**models: str) -> Studio:
        shared_studio.clear()
        shared_studio.write(**models)
        return shared_studio

    return studio
