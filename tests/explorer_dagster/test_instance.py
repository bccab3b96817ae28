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
from explorer.contract import observations
from explorer.contract.names import PROVISIONING_TAGS
from explorer.contract.tags import RunTags
from explorer.core.settings import get_settings
from explorer_dagster import queueing
from explorer_dagster.events import materialized
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


# The outside world of the assets below: what each run finds.
WORLD: dict[str, Any] = {}
ONE = dg.StaticPartitionsDefinition(["one"])


@dg.multi_asset(
    specs=[dg.AssetSpec("told"), dg.AssetSpec("same")],
    partitions_def=ONE,
    check_specs=[dg.AssetCheckSpec("left_out", asset="told"), dg.AssetCheckSpec("is_sound", asset="same")],
    can_subset=True,
)
def first() -> Iterator[dg.MaterializeResult[None] | dg.AssetCheckResult]:
    for name in ("told", "same"):
        yield materialized(
            dg.AssetKey(name), observations.TableProgress(table=name, rows=7), is_as_before=name == "same"
        )
    yield dg.AssetCheckResult(asset_key="same", check_name="is_sound", passed=WORLD["is_sound"])


@dg.asset(deps=["told"], partitions_def=ONE)
def second() -> None:
    if WORLD["fails"]:
        raise dg.Failure("asked for")


def test_the_log_of_a_run_has_what_says_something(instance: dg.DagsterInstance) -> None:
    def run(*, is_sound: bool, fails: bool = False) -> list[tuple[str, str | None]]:
        WORLD.update(is_sound=is_sound, fails=fails)
        result = dg.materialize([first, second], instance=instance, partition_key="one", raise_on_error=False)
        logs = instance.all_logs(result.run_id)
        assert not [each.message for each in logs if "left_out" in each.message and "did not yield" in each.message]
        events = [each.dagster_event for each in logs if each.dagster_event is not None]
        return [
            (event.event_type.value, event.asset_key.path[0] if event.asset_key else event.step_key) for event in events
        ]

    materialization, check = "ASSET_MATERIALIZATION", ("ASSET_CHECK_EVALUATION", "first")
    whole = run(is_sound=True)
    assert {(materialization, "told"), (materialization, "same"), (materialization, "second"), check} <= set(whole)
    assert "STEP_OUTPUT" not in dict(whole)
    as_before = run(is_sound=True)
    assert (materialization, "told") in as_before
    assert not {(materialization, "same"), check} & set(as_before)
    # What fails is told each time, and that it is over.
    assert [check in run(is_sound=sound) for sound in (False, False, True, True)] == [True, True, True, False]
    latest = instance.get_latest_materialization_event(dg.AssetKey("told"))
    assert latest is not None
    assert latest.asset_materialization is not None
    assert latest.asset_materialization.metadata["rows"].value == 7
    kept = run(is_sound=True, fails=True)
    assert ("STEP_OUTPUT", "first") in kept


def test_a_run_that_failed_goes_on_from_there(instance: dg.DagsterInstance) -> None:
    """It needs the outputs of the steps that did not fail, and has no more metadata than the materializations."""
    WORLD.update(is_sound=True, fails=True)
    job = dg.reconstructable(again)
    tags = {"dagster/partition": "one"}
    assert not dg.execute_job(job, instance=instance, tags=tags).success
    [failed] = instance.get_run_ids(dg.RunsFilter(job_name="again"), limit=1)
    outputs = [record.dagster_event for record in instance.all_logs(failed, of_type=dg.DagsterEventType.STEP_OUTPUT)]
    assert {str(event.step_output_data.metadata) for event in outputs if event is not None} == {"{}"}
    WORLD.update(fails=False)
    options = dg.ReexecutionOptions.from_failure(failed, instance)
    with dg.execute_job(job, instance=instance, tags=tags, reexecution_options=options) as result:
        assert result.success
        assert [event.step_key for event in result.all_events if event.is_step_success] == ["second"]


def again() -> dg.JobDefinition:
    """The job of both steps."""
    job = dg.define_asset_job("again", executor_def=dg.in_process_executor)
    return dg.Definitions(assets=[first, second], jobs=[job]).resolve_job_def("again")


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
