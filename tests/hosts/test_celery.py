"""Runs on other machines, by Celery: what happens when one of them, or the way to it, is gone."""

import subprocess
import time

import pytest
from dagster._core.launcher import WorkerStatus

from tests.hosts.conftest import CHILDREN, MOTHERS, Installation, python
from tests.hosts.machines import until

# The first one waits until everything has started.
pytestmark = pytest.mark.timeout(600)


@pytest.fixture(autouse=True)
def quick(place: Installation) -> None:
    """The demo server answers at once, and nobody is at work."""
    place.demo.control.set_latency(0)


def slowly(place: Installation) -> None:
    """A run then takes half a minute and more."""
    place.demo.control.set_latency(1.5)


def synced(place: Installation, tenant: str) -> str:
    run = place.launch(tenant)
    place.reaches(run, "SUCCESS")
    return run


def test_runs_are_done_by_workers_of_other_machines(place: Installation) -> None:
    run = synced(place, MOTHERS)
    assert "Started process for run" in place.told(run)
    # Celery only writes down what fails when a fork begins.
    assert not [name for name in ("first", "second") if "Signal handler" in place.made[name].log("worker")]
    assert place.instance is not None
    launcher, record = place.instance.run_launcher, place.instance.get_run_by_id(run)
    assert record is not None

    def has_ended() -> bool:
        told = launcher.check_run_worker_health(record)
        return told.status == WorkerStatus.FAILED and "has ended (SUCCESS)" in str(told.msg)

    # A task that went well is no sign of life: a run that did not end with it would keep its tenant for ever.
    until(has_ended, 30, "the task has ended")


def test_a_worker_that_is_killed_fails_its_run_within_a_minute_and_no_other(place: Installation) -> None:
    slowly(place)
    mothers, children = place.launch(MOTHERS), place.launch(CHILDREN)
    for run in (mothers, children):
        place.reaches(run, "STARTED")
    at_work: list[str] = []

    def both() -> bool:
        at_work[:] = place.worker_of(mothers, children)
        return sorted(at_work) == ["first", "second"]

    until(both, 60, "each is at work on one")
    killed = at_work[0]
    place.made[killed].kill("worker")
    assert place.reaches(mothers, "FAILURE", within_s=60) < 60
    assert "No worker has said" in place.told(mothers)
    place.demo.control.set_latency(0)
    place.reaches(children, "SUCCESS")
    # The worker that is left, or the new one: both can.
    place.start(killed)
    synced(place, MOTHERS)
    until(lambda: place.made[killed].log("worker").count("ready.") == 2, 120, "the new worker")


def test_a_run_is_cancelled_in_every_state(place: Installation) -> None:
    slowly(place)
    started, queued = place.launch(MOTHERS), place.launch(MOTHERS)
    place.reaches(started, "STARTED")
    # Of a tenant that is being synced the second run stays in the queue.
    assert place.status(queued) == "QUEUED"
    assert place.cancel(queued) == "TerminateRunSuccess"
    place.reaches(queued, "CANCELED", within_s=30)
    assert place.cancel(started) == "TerminateRunSuccess"
    place.reaches(started, "CANCELED", within_s=45)
    until(lambda: not place.worker_of(started), 30, "the worker has left it")

    # Without workers there is one that was launched and that nobody has begun.
    for name in ("first", "second"):
        place.made[name].kill("worker")
    waiting = place.launch(CHILDREN)
    place.reaches(waiting, "STARTING", within_s=30)
    assert place.cancel(waiting, "MARK_AS_CANCELED_IMMEDIATELY") == "TerminateRunSuccess"
    place.reaches(waiting, "CANCELED", within_s=30)
    for name in ("first", "second"):
        place.start(name)
    place.demo.control.set_latency(0)
    synced(place, CHILDREN)
    assert place.status(waiting) == "CANCELED"


def test_runs_go_on_without_a_daemon_and_the_queue_goes_on_with_the_next_one(place: Installation) -> None:
    slowly(place)
    run = place.launch(MOTHERS)
    place.reaches(run, "STARTED")
    place.made["daemon"].kill("daemon")
    queued = place.launch(CHILDREN)
    place.demo.control.set_latency(0)
    place.reaches(run, "SUCCESS")
    assert place.status(queued) == "QUEUED"
    place.start("daemon")
    place.reaches(queued, "SUCCESS", within_s=180)


def test_a_worker_without_the_database_for_20_s_tells_the_truth(place: Installation) -> None:
    slowly(place)
    run = place.launch(MOTHERS)
    place.reaches(run, "STARTED")
    at_work: list[str] = []

    def known() -> bool:
        at_work[:] = place.worker_of(run)
        return bool(at_work)

    until(known, 60, "it is at work")
    machine = place.made[at_work[0]]
    machine.cut_from(place.database)
    time.sleep(20)
    machine.join_again(place.database)
    place.demo.control.set_latency(0)
    place.reaches(run, "SUCCESS", "FAILURE", within_s=150)
    # Whatever became of it, the next one is whole.
    synced(place, MOTHERS)


def test_a_process_with_an_empty_home_changes_nothing(place: Installation) -> None:
    """The administrator's login alone, which made new passwords once, and then nobody else could log in."""
    machine = place.made["control"]
    empty = machine.home / "empty"
    environment = {
        **place.environment(machine), "EXPLORER_HOME": str(empty), "EXPLORER_CATALOG_URL": "",
        "EXPLORER_DAGSTER_DATABASE_URL": "", "EXPLORER_DATABASE_URL": place.admin_url,
    }  # fmt: skip
    for name in ("EXPLORER_CATALOG_URL", "EXPLORER_DAGSTER_DATABASE_URL"):
        del environment[name]
    loads = machine.command(python("-c", "import dagster; dagster.DagsterInstance.get()"))
    upgrades = machine.command(python("-m", "explorer_cli", "db", "upgrade"))
    for command, says in ((loads, "explorer db upgrade"), (upgrades, "another HOME set it up")):
        done = subprocess.run(
            command, env=environment, cwd=machine.home, capture_output=True, text=True, check=False, timeout=120
        )
        assert done.returncode != 0
        assert says in done.stdout + done.stderr
    assert place.connections is not None
    for login in (place.connections.service, place.connections.dagster):
        login.connect().close()
