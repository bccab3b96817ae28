"""A worker looks at its own run, and ends when somebody else has ended that."""

import signal
import threading
from collections.abc import Iterator
from pathlib import Path

import dagster as dg
import pytest

from explorer_dagster import runs
from explorer_dagster.runs import ended_with_its_run


@pytest.fixture
def told(monkeypatch: pytest.MonkeyPatch) -> Iterator[threading.Event]:
    """Set by a SIGTERM to this process."""
    monkeypatch.setattr(runs, "LOOKED_AT_EVERY_S", 0.01)
    event = threading.Event()
    before = signal.signal(signal.SIGTERM, lambda *_: event.set())
    yield event
    signal.signal(signal.SIGTERM, before)


def test_a_run_that_somebody_cancels_or_calls_failed_ends_its_worker(
    instance_folder: Path, told: threading.Event
) -> None:
    job = dg.GraphDefinition("g").to_job("watched")
    with dg.DagsterInstance.from_config(str(instance_folder)) as instance:
        for end in (instance.report_run_canceling, instance.report_run_failed):
            run = instance.create_run_for_job(job, status=dg.DagsterRunStatus.STARTED)
            with ended_with_its_run(instance, run.run_id):
                assert not told.wait(0.1)
                end(run)
                assert told.wait(60)
            told.clear()


def test_a_run_that_goes_on_or_is_over_is_left_alone(instance_folder: Path, told: threading.Event) -> None:
    job = dg.GraphDefinition("g").to_job("watched")
    with dg.DagsterInstance.from_config(str(instance_folder)) as instance:
        run = instance.create_run_for_job(job, status=dg.DagsterRunStatus.STARTED)
        with ended_with_its_run(instance, run.run_id):
            assert not told.wait(0.1)
        instance.report_run_failed(run)
        assert not told.wait(0.1)
