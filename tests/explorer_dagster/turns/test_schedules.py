"""Whose turn it is, who has news, and who is held back."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import cast

import dagster as dg
import pytest

from demo_commcare import MATERNAL
from explorer.catalog import ApiKeyCredential
from explorer.catalog.coordination.syncs import GoodRun
from explorer.contract.bookkeeping import loads
from explorer.contract.names import TENANT_PARTITIONS
from explorer.contract.tags import RunTags
from explorer.providers import provider_named
from explorer.registry import Pipeline, Schedule
from explorer.registry.moments import last_turn, next_turn
from explorer_dagster.resources import Platform
from explorer_dagster.turns import looking
from explorer_dagster.turns.outcomes import run_outcomes
from explorer_dagster.turns.schedules import keys_at_work, schedules
from tests.explorer_dagster.conftest import Stage, failure_of

WEEKLY = Schedule(cron="30 2 * * 0", timezone="Asia/Kolkata", default_status="running")
SYNC, FULL = "commcare_sync_schedule", "commcare_sync_full_refresh_schedule"


def named(pipeline: Pipeline, version: str = "1") -> dict[str, dg.ScheduleDefinition]:
    return {schedule.name: schedule for schedule in schedules(pipeline, provider_named("commcare"), version)}


def test_each_schedule_of_the_file_becomes_one_of_dagster(pipeline: Pipeline) -> None:
    both = named(pipeline.model_copy(update={"full_refresh": WEEKLY}))
    assert both.keys() == {SYNC, FULL}
    assert "30 2 * * 0 (Asia/Kolkata)" in str(both[FULL].description)
    assert both[FULL].default_status == dg.DefaultScheduleStatus.RUNNING
    assert both[SYNC].default_status == dg.DefaultScheduleStatus.STOPPED
    assert named(pipeline.model_copy(update={"full_refresh": None, "schedule": None})) == {}


def test_turns_are_spread_and_always_the_same() -> None:
    hourly = Schedule(cron="0 * * * *", spread_minutes=30)
    now = datetime(2026, 1, 4, 3, 10, tzinfo=UTC)
    turns = [next_turn(hourly, f"www:space-{number}", now) for number in range(200)]
    assert turns == [next_turn(hourly, f"www:space-{number}", now) for number in range(200)]
    assert all(now < turn <= now + timedelta(hours=1) and turn.minute < 30 for turn in turns)
    assert len({turn.minute for turn in turns}) > 20
    for number in range(50):
        key = f"www:space-{number}"
        turn = next_turn(hourly, key, now)
        assert last_turn(hourly, key, turn) == turn
        assert last_turn(hourly, key, turn - timedelta(seconds=1)) == turn - timedelta(hours=1)


@pytest.fixture
def at(stage: Stage) -> Iterator[datetime]:
    """A time at which a turn of the stage's tenant has come."""
    stage.instance.add_dynamic_partitions(TENANT_PARTITIONS, [stage.tenant.key])
    yield datetime.now(UTC) + timedelta(days=8)
    stage.demo.control.clear_faults()


def requested(stage: Stage, schedule: dg.ScheduleDefinition, at: datetime) -> list[dg.RunRequest]:
    """What the schedule asks for, for the stage's tenant."""
    with dg.build_schedule_context(
        stage.instance, scheduled_execution_time=at, resources={"platform": Platform()},
        repository_def=stage.definitions.get_repository_def(),
    ) as context:  # fmt: skip
        requests = schedule.evaluate_tick(context).run_requests or []
    return [request for request in requests if request.partition_key == stage.tenant.key]


def test_a_turn_is_taken_once_and_starts_a_run_where_there_is_news(
    stage: Stage, pipeline: Pipeline, at: datetime
) -> None:
    sync = named(pipeline)[SYNC]
    assert len(requested(stage, sync, at)) == 1
    assert requested(stage, sync, at) == []
    assert stage.run().success

    later, control = at + timedelta(hours=7), stage.demo.control
    before = stage.catalog.syncs.of(stage.tenant, pipeline.name).looked_at
    assert requested(stage, sync, later) == []
    looked_at = stage.catalog.syncs.of(stage.tenant, pipeline.name).looked_at
    assert looked_at is not None
    assert before is None or looked_at > before

    control.create_case(MATERNAL, "mother", "New", {})
    assert len(requested(stage, sync, later + timedelta(hours=7))) == 1


def test_a_tenant_stops_or_has_a_cron_of_its_own(stage: Stage, pipeline: Pipeline, at: datetime) -> None:
    sync, choose = named(pipeline)[SYNC], stage.catalog.syncs.configure
    choose(stage.tenant, pipeline.name, {"is_stopped": True}, actor="test")
    assert requested(stage, sync, at) == []
    choose(stage.tenant, pipeline.name, {"is_stopped": False, "cron": "0 0 1 1 *"}, actor="test")
    assert requested(stage, sync, at) == []
    choose(stage.tenant, pipeline.name, {"cron": "* * * * *"}, actor="test")
    assert len(requested(stage, sync, at)) == 1
    # As one could be chosen before it was refused: it stops nobody else's turn.
    choose(stage.tenant, pipeline.name, {"cron": "0 0 30 2 *"}, actor="test")
    assert requested(stage, sync, at + timedelta(days=1)) == []


def test_requests_of_the_day_end_a_sync_and_its_turns_come_when_the_day_is_over(
    stage: Stage, pipeline: Pipeline, at: datetime
) -> None:
    quotas, syncs = stage.catalog.quotas, stage.catalog.syncs
    assert stage.run("cases").success
    spent = quotas.use([stage.tenant.id])[stage.tenant.id].used
    assert spent["requests"] > 0
    assert spent["bytes"] > 0
    assert spent["rows"] == len(stage.demo.truth(MATERNAL).cases)
    quotas.set(stage.tenant, {"requests": spent["requests"] + 2}, actor="test")
    result = stage.run()
    assert not result.success
    assert "quota_exhausted" in str(failure_of(result).metadata)
    with dg.build_sensor_context(stage.instance, resources={"platform": Platform()}) as context:
        run_outcomes({pipeline.name: "1"}).evaluate_tick(context)
    assert syncs.of(stage.tenant, pipeline.name).failures == 0
    assert requested(stage, named(pipeline)[SYNC], at) == []
    quotas.forget(stage.tenant)
    assert len(requested(stage, named(pipeline)[SYNC], at)) == 1


def test_a_wrong_key_starts_nothing_until_it_is_another(stage: Stage, pipeline: Pipeline, at: datetime) -> None:
    assert stage.run().success
    good = stage.catalog.credentials.load(stage.tenant)
    sync, syncs = named(pipeline)[SYNC], stage.catalog.syncs
    stage.catalog.credentials.save(stage.tenant, ApiKeyCredential("nobody@example.org", "wrong"))
    assert requested(stage, sync, at) == []
    held = syncs.of(stage.tenant, pipeline.name)
    assert held.failure is not None
    assert held.failure["code"] == "commcare_credentials_invalid"
    assert held.held_until is not None
    assert held.held_until > datetime.now(UTC) + timedelta(hours=23)
    stage.catalog.credentials.save(stage.tenant, good)
    assert syncs.of(stage.tenant, pipeline.name).held_until is None


def test_runs_that_fail_hold_the_tenant_back_ever_longer(stage: Stage, pipeline: Pipeline, at: datetime) -> None:
    syncs, since = stage.catalog.syncs, datetime.now(UTC)
    sensor = run_outcomes({pipeline.name: "1"})

    def outcome() -> None:
        with dg.build_sensor_context(
            stage.instance, resources={"platform": Platform()}, cursor=since.isoformat()
        ) as context:
            sensor.evaluate_tick(context)

    stage.demo.control.fail("api", status=403, times=1000)
    waits = []
    for _ in range(2):
        stage.run()
        outcome()
        held = syncs.of(stage.tenant, pipeline.name)
        assert held.held_until is not None
        waits.append((held.held_until - datetime.now(UTC)).total_seconds())
    assert waits == [pytest.approx(3600, abs=60), pytest.approx(4 * 3600, abs=60)]
    # Read again, the same failures count once, and not after an unblock.
    outcome()
    assert syncs.of(stage.tenant, pipeline.name).failures == 2
    assert syncs.lift(stage.tenant) == 1
    outcome()
    assert syncs.of(stage.tenant, pipeline.name).failures == 0

    stage.run(tags={"explorer/full_refresh": "true"})
    syncs.follow(pipeline.name, [stage.tenant.id], at)
    syncs.follow(pipeline.name, [stage.tenant.id], at, full_refresh=True)
    outcome()
    held = syncs.of(stage.tenant, pipeline.name)
    assert (held.failures, held.followed_at, held.full_refresh_followed_at) == (1, at, None)

    stage.demo.control.clear_faults()
    # A run of a part says nothing about the whole.
    assert stage.run("users").success
    outcome()
    assert syncs.of(stage.tenant, pipeline.name).failures == 1
    assert stage.run().success
    outcome()
    held = syncs.of(stage.tenant, pipeline.name)
    assert (held.failures, held.failure, held.held_until, held.ran_with) == (0, None, None, "1")

    # The next turn needs no run, unless its definitions are others.
    assert requested(stage, named(pipeline)[SYNC], at + timedelta(days=1)) == []
    assert len(requested(stage, named(pipeline, "2")[SYNC], at + timedelta(days=2))) == 1


def test_small_allowances_are_left_to_runs(stage: Stage, pipeline: Pipeline, at: datetime) -> None:
    """A space with 50 requests a day has five for looks: two looks."""
    assert stage.run().success
    stage.catalog.syncs.configure(stage.tenant, pipeline.name, {"requests_per_day": 50}, actor="test")
    sent = []
    for number in range(4):
        before = len(stage.demo.control.requests)
        assert requested(stage, named(pipeline)[SYNC], at + timedelta(days=number)) == []
        sent.append(len(stage.demo.control.requests) - before)
    assert sent == [2, 2, 0, 0]
    # With no look left, what a look asks for is read by a run after a day.
    aged(stage, 25, "cases", "forms")
    before = len(stage.demo.control.requests)
    assert len(requested(stage, named(pipeline)[SYNC], at + timedelta(days=5))) == 1
    assert len(stage.demo.control.requests) == before


def test_a_full_read_in_the_queue_keeps_no_sync_waiting() -> None:
    """It comes last there, after days perhaps."""
    full = {"explorer/full_refresh": "true"}
    told = [("queued", "QUEUED", full), ("reads-all", "STARTED", full), ("syncs", "QUEUED", {})]
    runs = [
        SimpleNamespace(status=dg.DagsterRunStatus(status), tags={"dagster/partition": key, **tags})
        for key, status, tags in told
    ]
    queue = cast(dg.DagsterInstance, SimpleNamespace(get_runs=lambda _: runs))
    assert keys_at_work(queue, "commcare_sync", RunTags()) == {"reads-all", "syncs"}
    runs.pop()
    assert keys_at_work(queue, "commcare_sync", RunTags(full_refresh=True)) == {"queued", "reads-all"}


def aged(stage: Stage, hours: int, *sources: str) -> None:
    """Let so many hours pass since these sources were read, or all."""
    prefix = stage.catalog.schemas.get(stage.tenant).prefix
    where = "source = ANY(%s)" if sources else "%s::text[] IS NOT NULL"
    with stage.pg_server.connections.admin.connect(autocommit=True) as connection:
        connection.execute(
            f"UPDATE {prefix}_raw._explorer_cursors SET updated_at = updated_at - %s * interval '1 hour' WHERE {where}",
            [hours, list(sources)],
        )


def age_h(stage: Stage, source: str) -> float:
    """Hours since the source was read or looked at."""
    prefix = stage.catalog.schemas.get(stage.tenant).prefix
    with stage.pg_server.connections.admin.connect(autocommit=True) as connection:
        _, reached = loads.reached(connection, f"{prefix}_raw")
    return reached[source].age_s / 3600


def test_what_a_look_cannot_tell_a_run_does(stage: Stage, pipeline: Pipeline, at: datetime) -> None:
    assert stage.run().success
    sync, control, days = named(pipeline)[SYNC], stage.demo.control, iter(range(100))

    def launched() -> bool:
        return bool(requested(stage, sync, at + timedelta(days=next(days))))

    # What is read and is as it was is read now: a quiet tenant has no run at each turn after a day.
    aged(stage, 25)
    assert stage.run().success
    assert not launched()
    # One source alone that is too old needs a run, whatever the others are.
    aged(stage, 25, "locations")
    assert launched()
    # A good run of everything that could not read it either stands for a day.
    now = datetime.now(UTC)
    stage.catalog.syncs.ran(pipeline.name, [GoodRun(stage.tenant.id, now, now, "1")])
    assert not launched()

    # A server that fails at an impatient single try says nothing against the tenant.
    control.fail("api", status=503, times=1)
    assert launched()
    assert stage.catalog.syncs.of(stage.tenant, pipeline.name).failures == 0
    control.clear_faults()
    # A source that is refused is none that was looked at.
    aged(stage, 3, "cases", "forms")
    control.fail("/form/", status=403, times=1)
    assert not launched()
    assert 2 < age_h(stage, "forms") < 4
    assert age_h(stage, "cases") < 1
    control.clear_faults()
    # All that a look asks for is refused.
    control.fail("api", status=403, times=2)
    assert launched()
    control.clear_faults()

    # A 429 makes everybody wait, and the turn is not lost.
    control.fail("api", status=429, times=1, headers={"Retry-After": "2"})
    turn = at + timedelta(days=next(days))
    before = len(control.requests)
    assert requested(stage, sync, turn) == []
    assert requested(stage, sync, turn) == []
    assert len(control.requests) == before + 1
    followed = stage.catalog.syncs.of(stage.tenant, pipeline.name).followed_at
    assert followed is not None
    assert followed < turn


def test_looks_that_hang_are_ended_and_the_turns_stay(
    stage: Stage, pipeline: Pipeline, at: datetime, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert stage.run().success
    monkeypatch.setattr(looking, "_MORE_S", 0.5)
    monkeypatch.setattr(looking, "TIME_S", 0.5)
    monkeypatch.setattr(looking, "_END_S", 30.0)
    stage.demo.control.set_latency(3.0)
    try:
        assert requested(stage, named(pipeline)[SYNC], at) == []
    finally:
        stage.demo.control.set_latency(0.0)
    assert stage.catalog.syncs.of(stage.tenant, pipeline.name).followed_at is None


@pytest.mark.parametrize(
    ("running", "syncs", "refreshes"),
    [(None, 1, 1), ({}, 0, 1), ({"explorer/full_refresh": "true"}, 0, 0)],
)
def test_a_tenant_at_work_is_left_alone(
    stage: Stage, pipeline: Pipeline, at: datetime, running: dict[str, str] | None, syncs: int, refreshes: int
) -> None:
    """A full refresh finds deleted records; a running sync of changes does not replace it."""
    if running is not None:
        job = stage.definitions.resolve_job_def("commcare_sync")
        tags = {"dagster/partition": stage.tenant.key, **running}
        stage.instance.create_run_for_job(job, status=dg.DagsterRunStatus.STARTED, tags=tags)
    both = named(pipeline.model_copy(update={"full_refresh": WEEKLY}))
    found = {name: requested(stage, schedule, at) for name, schedule in both.items()}
    assert len(found[SYNC]) == syncs
    assert len(found[FULL]) == refreshes
    refreshes_all = {name: {r.tags.get("explorer/full_refresh") for r in asked} for name, asked in found.items()}
    assert refreshes_all[SYNC] <= {None}
    assert refreshes_all[FULL] <= {"true"}
