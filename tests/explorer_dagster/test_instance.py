"""The instance's storage and queue: made from settings, and working after a restart of the database."""

from collections.abc import Iterator
from pathlib import Path

import dagster as dg
import pytest
from sqlalchemy import text

from explorer.catalog import Catalog
from explorer.core.settings import get_settings
from explorer_dagster.instance import ExplorerRunQueue
from tests.conftest import PgServer

SET_BY = "SELECT source FROM pg_settings WHERE name = 'synchronous_commit'"
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
    found = instance.get_run_by_id(run.run_id)
    assert found is not None
    assert found.job_name == "kept"
    instance.report_engine_event("still there", found)
    assert "still there" in [record.message for record in instance.all_logs(run.run_id)]


def test_events_do_not_wait_for_the_disk_and_runs_do(instance: dg.DagsterInstance) -> None:
    asked = {}
    for name, part in (("events", instance.event_log_storage), ("runs", instance.run_storage)):
        with part._engine.connect() as connection:
            asked[name] = connection.execute(text(SET_BY)).scalar()
    assert asked["events"] == "session"
    assert asked["runs"] != "session"


def test_how_many_runs_go_at_once_is_a_setting(instance: dg.DagsterInstance) -> None:
    queue = instance.run_coordinator
    assert isinstance(queue, ExplorerRunQueue)
    config = queue.get_run_queue_config()
    assert config.max_concurrent_runs == 3
    # One run per tenant at a time.
    [limit] = config.tag_concurrency_limits
    assert (limit["key"], limit["limit"]) == ("dagster/partition", 1)
