"""The instance's storage and queue: made from settings, and working after a restart of the database."""

import time
from collections.abc import Iterator
from datetime import datetime, tzinfo
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import dagster as dg
import pytest
from dagster_postgres import PostgresEventLogStorage, PostgresRunStorage
from sqlalchemy import text

from explorer.catalog import Catalog
from explorer.contract.names import PROVISIONING_TAGS
from explorer.contract.tags import RunTags
from explorer.core.settings import get_settings
from explorer_dagster import queueing
from explorer_dagster.instance import POOL_RECYCLE_S, ExplorerRunQueue
from explorer_dagster.resources import Platform
from explorer_dagster.turns.maintenance import retention
from tests.conftest import PgServer
from tests.explorer_dagster.conftest import Stage

SET_BY = "SELECT source FROM pg_settings WHERE name = 'synchronous_commit' AND setting = 'off'"
YAML = Path(__file__).parents[2] / "dagster.yaml"


@pytest.fixture
def instance(catalog: Catalog, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[dg.DagsterInstance]:
    """The instance of the project's own dagster.yaml, in an installation that is set up."""
    monkeypatch.setenv("EXPLORER_MAX_CONCURRENT_RUNS", "3")
    get_settings.cache_clear()
    (tmp_path / "dagster.yaml").write_text(YAML.read_text())
    with dg.DagsterInstance.from_config(str(tmp_path)) as made:
        yield made
    get_settings.cache_clear()


def test_runs_and_events_are_in_the_platforms_own_database(instance: dg.DagsterInstance, pg_server: PgServer) -> None:
    run = instance.create_run_for_job(dg.GraphDefinition("g").to_job("stored"))
    with pg_server.connections.dagster.connect(autocommit=True) as connection:
        found = connection.execute("SELECT pipeline_name FROM runs WHERE run_id = %s", [run.run_id]).fetchall()
    assert found == [("stored",)]


def test_connections_that_the_server_has_ended_are_replaced(instance: dg.DagsterInstance, pg_server: PgServer) -> None:
    run = instance.create_run_for_job(dg.GraphDefinition("g").to_job("kept"))
    assert instance.all_logs(run.run_id) is not None
    with pg_server.connections.admin.connect(autocommit=True) as connection:
        ended = connection.execute(
            "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE datname = %s AND pid <> pg_backend_pid()",
            [pg_server.connections.dagster.dbname],
        ).fetchone()
    assert ended is not None
    assert ended[0] > 0
    time.sleep(POOL_RECYCLE_S + 0.1)
    found = instance.get_run_by_id(run.run_id)
    assert found is not None
    assert found.job_name == "kept"
    instance.report_engine_event("still there", found)
    assert "still there" in [record.message for record in instance.all_logs(run.run_id)]


def test_events_do_not_wait_for_the_disk_and_runs_do(instance: dg.DagsterInstance) -> None:
    asked = {}
    events = cast(PostgresEventLogStorage, instance.event_log_storage)
    runs = cast(PostgresRunStorage, instance.run_storage)
    for name, connect in (("events", events.index_connection), ("runs", runs.connect)):
        with connect() as connection:
            asked[name] = connection.execute(text(SET_BY)).scalar()
    assert asked["events"] == "client"
    assert asked["runs"] != "client"


def test_connections_are_kept_between_statements(instance: dg.DagsterInstance, pg_server: PgServer) -> None:
    """Dagster's default opens a connection for each."""
    storage = cast(PostgresEventLogStorage, instance.event_log_storage)
    with storage.index_connection() as connection:
        first = connection.execute(text("SELECT pg_backend_pid()")).scalar()
    with storage.index_connection() as connection:
        assert connection.execute(text("SELECT pg_backend_pid()")).scalar() == first


def test_how_many_runs_go_at_once_is_a_setting(instance: dg.DagsterInstance) -> None:
    queue = instance.run_coordinator
    assert isinstance(queue, ExplorerRunQueue)
    config = queue.get_run_queue_config()
    assert config.max_concurrent_runs == 3
    # One run per tenant at a time, and one of the provisioning job.
    limits = [(limit["key"], limit["limit"]) for limit in config.tag_concurrency_limits]
    provisioning = [(key, 1) for key in PROVISIONING_TAGS if key != "dagster/priority"]
    # All but one of the three are for runs that nobody waits for.
    assert limits == [("dagster/partition", 1), *provisioning, ("explorer/class", 2)]


def test_who_waits_goes_first_and_full_reads_last() -> None:
    agent, person = RunTags(launch="an id", requested_by="agent").to_tags(), {"dagster/partition": "a"}
    scheduled = RunTags(schedule="commcare_sync_schedule").to_tags()
    full, backfill = scheduled | RunTags(full_refresh=True).to_tags(), RunTags(backfill="abc").to_tags()
    places = [RunTags.from_tags(queueing.place(tags)) for tags in (agent, person, scheduled, full, backfill)]
    waited = [place.run_class == "waited_for" for place in places]
    assert waited == [True, True, False, False, False]
    priorities = [place.priority or 0 for place in places]
    assert priorities[0] == priorities[1] > priorities[2] > priorities[3] == priorities[4]
    chosen = RunTags(schedule="commcare_sync_schedule", priority=7).to_tags()
    assert "dagster/priority" not in queueing.place(chosen)
    assert queueing.limits(1) == []


def test_a_run_that_is_too_much_for_the_day_does_not_come_into_the_queue(
    instance: dg.DagsterInstance, catalog: Catalog, stage: Stage
) -> None:
    """Whoever launches it: all of them submit it here."""
    catalog.quotas.set(stage.tenant, {"runs": 1}, actor="test")
    own = RunTags(partition_key=stage.tenant.key).to_tags()
    assert queueing.RunQuotas().refusal({}) is None
    assert queueing.RunQuotas().refusal(own) is None
    run = instance.create_run_for_job(dg.GraphDefinition("g").to_job("counted"), tags=own)
    context = SimpleNamespace(dagster_run=run, workspace=SimpleNamespace(instance=instance))
    assert instance.run_coordinator.submit_run(cast(Any, context)).status == dg.DagsterRunStatus.CANCELED
    said = [record.message for record in instance.all_logs(run.run_id)]
    assert any("is used up: 1 runs in a day. Come again in" in words for words in said)
    assert catalog.quotas.use([stage.tenant.id])[stage.tenant.id].used["runs"] == 1


def test_metadata_are_stored_with_the_materialization_alone(instance: dg.DagsterInstance) -> None:
    @dg.multi_asset(
        specs=[dg.AssetSpec("told")], check_specs=[dg.AssetCheckSpec("left_out", asset="told")], can_subset=True
    )
    def told() -> Iterator[dg.MaterializeResult[None]]:
        yield dg.MaterializeResult(metadata={"rows": 7})

    result = dg.materialize([told], instance=instance)
    stored = [record.dagster_event for record in instance.all_logs(result.run_id)]
    outputs = [event for event in stored if event and event.event_type == dg.DagsterEventType.STEP_OUTPUT]
    assert [event.step_output_data.metadata for event in outputs] == [{}]
    said = [record.message for record in instance.all_logs(result.run_id)]
    assert not [message for message in said if "left_out" in message and "did not yield" in message]
    latest = instance.get_latest_materialization_event(dg.AssetKey("told"))
    assert latest is not None
    assert latest.asset_materialization is not None
    assert latest.asset_materialization.metadata["rows"].value == 7


def test_old_runs_are_removed_but_for_those_that_tables_are_of(
    instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    @dg.asset
    def kept() -> None:
        """Filled twice."""

    before, now = dg.materialize([kept], instance=instance), dg.materialize([kept], instance=instance)
    idle = instance.create_run_for_job(dg.GraphDefinition("g").to_job("idle"), status=dg.DagsterRunStatus.SUCCESS)
    young = dg.materialize([retention], instance=instance, resources={"platform": Platform()})
    assert young.asset_value is not None
    assert instance.get_run_by_id(before.run_id) is not None

    monkeypatch.setattr("explorer_dagster.turns.maintenance.datetime", Tomorrow)
    monkeypatch.setenv("EXPLORER_RUN_RETENTION_DAYS", "1")
    get_settings.cache_clear()
    assert dg.materialize([retention], instance=instance, resources={"platform": Platform()}).success
    left = [instance.get_run_by_id(run_id) is not None for run_id in (before.run_id, now.run_id, idle.run_id)]
    assert left == [False, True, False]


class Tomorrow(datetime):
    """Two days later."""

    @classmethod
    def now(cls, tz: tzinfo | None = None) -> "Tomorrow":
        return cls.fromtimestamp(time.time() + 2 * 86_400, tz)
