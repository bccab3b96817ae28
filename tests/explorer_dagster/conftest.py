"""A pipeline's loading as Dagster runs it: a real instance, a tenant in a real Postgres, a demo project space."""

import shutil
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from uuid import uuid4

import dagster as dg
import pytest

from demo_commcare import MATERNAL, RunningServer, serve_in_thread
from explorer.catalog import ApiKeyCredential, Catalog, Tenant, migrate
from explorer.contract.names import TENANT_PARTITIONS
from explorer.contract.tags import RunTags
from explorer.core.settings import get_settings
from explorer.providers import provider_named
from explorer.registry import Pipeline, load_pipeline
from explorer.tenants import add_tenant, remove_tenant
from explorer_dagster.assets.discovery import discovery_assets
from explorer_dagster.assets.loading import raw_assets
from explorer_dagster.pipelines import definitions_of
from explorer_dagster.resources import Platform
from explorer_dagster.turns.sensors import throttled_runs
from tests.conftest import PgServer

PIPELINE_FILE = Path(__file__).parents[2] / "pipelines" / "commcare_sync.yml"


@pytest.fixture(scope="session")
def pipeline() -> Pipeline:
    return load_pipeline(PIPELINE_FILE)


@pytest.fixture(scope="session")
def definitions(pipeline: Pipeline) -> dg.Definitions:
    """Discovery and loading as the code location has them, without tables and dbt."""
    provider = provider_named(pipeline.provider)
    assets = [*discovery_assets(pipeline, provider), raw_assets(pipeline, provider, lambda _: False)]
    job = dg.define_asset_job(
        pipeline.name,
        selection=dg.AssetSelection.assets(*assets),
        executor_def=dg.in_process_executor,
    )
    return dg.Definitions(
        assets=assets, jobs=[job], sensors=[throttled_runs([job], {provider.title})], resources={"platform": Platform()}
    )


@pytest.fixture(scope="session")
def shared_demo() -> Iterator[RunningServer]:
    with serve_in_thread(cases=40) as server:
        yield server


@pytest.fixture
def demo(shared_demo: RunningServer) -> Iterator[RunningServer]:
    """The server, whose faults and refusals end with the test."""
    yield shared_demo
    control = shared_demo.control
    control.clear_faults()
    control.no_throttle()
    control.set_subscription(MATERNAL, True)
    control.allow(MATERNAL, "location")


@pytest.fixture
def catalog(pg_server: PgServer, monkeypatch: pytest.MonkeyPatch) -> Iterator[Catalog]:
    """The catalog, with the process's settings set to this server: what a run's worker finds in its environment."""
    monkeypatch.setenv("EXPLORER_HOME", str(pg_server.home))
    monkeypatch.setenv("EXPLORER_REQUESTS_PER_SECOND", "1000")
    monkeypatch.setenv("EXPLORER_HTTP_MAX_RETRY_AFTER_S", "5")
    get_settings.cache_clear()
    migrate(pg_server.connections)
    with Catalog.open(pg_server.settings) as catalog:
        yield catalog
    get_settings.cache_clear()


def materialized(result: Any) -> dict[tuple[str, ...], dict[str, Any]]:
    """The metadata of the assets that a run materialized: key to label to plain value."""
    return {
        tuple(event.asset_key.path): {label: value.value for label, value in event.materialization.metadata.items()}
        for event in result.get_asset_materialization_events()
    }


def failure_of(result: Any) -> Any:
    """Description and metadata of the one failed step."""
    (event,) = [event for event in result.all_events if event.is_step_failure]
    return event.step_failure_data.user_failure_data


@dataclass
class Stage:
    """One tenant and the Dagster instance that its runs are in."""

    demo: RunningServer
    tenant: Tenant
    catalog: Catalog
    instance: dg.DagsterInstance
    definitions: dg.Definitions
    pg_server: PgServer
    results: list[Any] = field(default_factory=list)

    def run(self, *resources: str, tags: dict[str, str] | None = None, **options: Any) -> Any:
        """One run of the job in this process, of all assets or of the raw tables named."""
        selection = [dg.AssetKey(["commcare", "raw", name]) for name in resources] or None
        job = self.definitions.resolve_job_def("commcare_sync")
        options = {"asset_selection": selection, "partition_key": self.tenant.key, **options}
        return job.execute_in_process(instance=self.instance, tags=tags, raise_on_error=False, **options)

    def run_assets(self, *keys: tuple[str, ...], tags: dict[str, str] | None = None) -> Any:
        """One run of these assets only."""
        return self.run(asset_selection=[dg.AssetKey(key) for key in keys], tags=tags)

    def tags(self, result: Any) -> dict[str, str]:
        run = self.instance.get_run_by_id(result.run_id)
        assert run is not None
        return dict(run.tags)

    def run_tags(self, result: Any) -> RunTags:
        return RunTags.from_tags(self.tags(result))

    def tick(self) -> list[dg.RunRequest]:
        """What the sensor asks for at this moment."""
        sensor = self.definitions.resolve_sensor_def("throttled_runs")
        # As the daemon makes it: the helper for tests leaves out the instance's reference, which partitions are looked up by.
        context = dg.SensorEvaluationContext(
            instance_ref=self.instance.get_ref(), instance=self.instance, repository_name=None, cursor=None,
            last_tick_completion_time=None, last_run_key=None,
            repository_def=self.definitions.get_repository_def(), resources={"platform": Platform()},
        )  # fmt: skip
        with context:
            return list(sensor.evaluate_tick(context).run_requests or [])

    def launch(self, request: dg.RunRequest) -> Any:
        """What the daemon makes of a request."""
        return self.run(
            tags={**request.tags, "dagster/run_key": request.run_key or ""},
            asset_selection=request.asset_selection,
            partition_key=request.partition_key,
            run_config=request.run_config,
        )

    def rows(self, table: str) -> int:
        prefix = self.catalog.schemas.get(self.tenant).prefix
        with self.pg_server.connections.admin.connect(autocommit=True) as connection:
            row = connection.execute(f"SELECT count(*) FROM {prefix}_raw.{table} WHERE _deleted_at IS NULL").fetchone()
        assert row
        return int(row[0])


@pytest.fixture
def whole(stage: Stage, pipeline: Pipeline) -> Iterator[Stage]:
    """The same with tables and dbt: all assets of the pipeline. Its instance keeps the events in memory, since they are many."""
    platform = dg.Definitions(resources={"platform": Platform()})
    stage.definitions = dg.Definitions.merge(definitions_of(pipeline), platform)
    with dg.DagsterInstance.ephemeral() as stage.instance:
        stage.instance.add_dynamic_partitions(TENANT_PARTITIONS, [stage.tenant.key])
        yield stage


@pytest.fixture(scope="session")
def made_instance(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of an instance without runs, whose databases are made: making them takes longer than many a run."""
    folder = tmp_path_factory.mktemp("instance")
    (folder / "dagster.yaml").write_text("telemetry: {enabled: false}")
    with dg.DagsterInstance.from_config(str(folder)) as instance:
        instance.add_dynamic_partitions(TENANT_PARTITIONS, [])
    return folder


@pytest.fixture
def instance_folder(made_instance: Path, tmp_path: Path) -> Path:
    """A copy of the test's own."""
    return shutil.copytree(made_instance, tmp_path / "instance")


@pytest.fixture
def stage(
    demo: RunningServer, catalog: Catalog, pg_server: PgServer, definitions: dg.Definitions, instance_folder: Path
) -> Iterator[Stage]:
    settings, connections = get_settings(), pg_server.connections
    key = f"t:{uuid4().hex[:8]}"
    tenant = add_tenant(
        settings, catalog, connections, provider_named("commcare"), key=key, server=demo.url, external_id=MATERNAL,
        credential=ApiKeyCredential(demo.username, demo.api_key),
    )  # fmt: skip
    with dg.DagsterInstance.from_config(str(instance_folder)) as instance:
        instance.add_dynamic_partitions(TENANT_PARTITIONS, [tenant.key])
        yield Stage(demo, tenant, catalog, instance, definitions, pg_server)
    remove_tenant(settings, catalog, connections, key, purge=True)
    with connections.admin.connect(autocommit=True) as connection:
        connection.execute("DELETE FROM catalog.request_slots")
