"""The times of scheduled runs, and their tenants."""

from datetime import UTC, datetime

import dagster as dg
import pytest

from explorer.registry import Pipeline, Schedule
from explorer_dagster.resources import Platform
from explorer_dagster.schedules import schedules
from tests.explorer_dagster.conftest import Stage

WEEKLY = Schedule(cron="30 2 * * 0", timezone="Asia/Kolkata", default_status="running")


def named(pipeline: Pipeline) -> dict[str, dg.ScheduleDefinition]:
    return {schedule.name: schedule for schedule in schedules(pipeline)}


def test_each_schedule_of_the_file_becomes_one_of_dagster(pipeline: Pipeline) -> None:
    both = named(pipeline.model_copy(update={"full_refresh": WEEKLY}))
    assert both.keys() == {"commcare_sync_schedule", "commcare_sync_full_refresh_schedule"}
    weekly = both["commcare_sync_full_refresh_schedule"]
    assert (weekly.cron_schedule, weekly.execution_timezone) == ("30 2 * * 0", "Asia/Kolkata")
    assert weekly.default_status == dg.DefaultScheduleStatus.RUNNING
    assert both["commcare_sync_schedule"].default_status == dg.DefaultScheduleStatus.STOPPED
    assert named(pipeline.model_copy(update={"full_refresh": None, "schedule": None})) == {}


def requested(stage: Stage, schedule: dg.ScheduleDefinition) -> list[dg.RunRequest]:
    """What the schedule asks for, for the stage's tenant."""
    at = datetime(2026, 1, 4, 3, tzinfo=UTC)
    with dg.build_schedule_context(
        stage.instance, scheduled_execution_time=at, resources={"platform": Platform()},
        repository_def=stage.definitions.get_repository_def(),
    ) as context:  # fmt: skip
        requests = schedule.evaluate_tick(context).run_requests or []
    return [request for request in requests if request.partition_key == stage.tenant.key]


def test_a_pipeline_starts_for_the_tenants_of_its_provider_alone(stage: Stage, pipeline: Pipeline) -> None:
    other = pipeline.model_copy(update={"provider": "other"})
    assert len(requested(stage, named(pipeline)["commcare_sync_schedule"])) == 1
    assert requested(stage, named(other)["commcare_sync_schedule"]) == []


@pytest.mark.parametrize(
    ("running", "syncs", "refreshes"),
    [(None, 1, 1), ({}, 0, 1), ({"explorer/full_refresh": "true"}, 0, 0)],
)
def test_a_tenant_at_work_is_left_alone(
    stage: Stage, pipeline: Pipeline, running: dict[str, str] | None, syncs: int, refreshes: int
) -> None:
    """A full refresh finds deleted records; a running sync of changes does not replace it."""
    if running is not None:
        job = stage.definitions.resolve_job_def("commcare_sync")
        tags = {"dagster/partition": stage.tenant.key, **running}
        stage.instance.create_run_for_job(job, status=dg.DagsterRunStatus.STARTED, tags=tags)
    both = named(pipeline.model_copy(update={"full_refresh": WEEKLY}))
    found = {name: requested(stage, schedule) for name, schedule in both.items()}
    assert len(found["commcare_sync_schedule"]) == syncs
    assert len(found["commcare_sync_full_refresh_schedule"]) == refreshes
    refreshes_all = {name: {r.tags.get("explorer/full_refresh") for r in asked} for name, asked in found.items()}
    assert refreshes_all["commcare_sync_schedule"] <= {None}
    assert refreshes_all["commcare_sync_full_refresh_schedule"] <= {"true"}
