"""The launcher gives a run to the pool, else to Dagster's default launcher, and stops and watches its worker."""

import os
import signal
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
from dagster._core.launcher import LaunchRunContext, WorkerStatus

from explorer.contract.tags import RunTags
from explorer.core.home import warm_pool_socket
from explorer.core.processes import ProcessIdentity, WorkerIdentity
from explorer.core.settings import get_settings
from explorer_dagster.launch.launcher import WarmRunLauncher
from tests.explorer_dagster.launch.conftest import Pool, until

FINISHED = (dg.DagsterRunStatus.SUCCESS, dg.DagsterRunStatus.FAILURE, dg.DagsterRunStatus.CANCELED)


@dg.op
def write_a_file(context: dg.OpExecutionContext) -> None:
    """Says in which process it ran."""
    Path(context.run.tags["file"]).write_text(str(os.getpid()))


@dg.job(executor_def=dg.in_process_executor)
def file_job() -> None:
    write_a_file()


@pytest.fixture
def defaulted(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Ids of the runs that were left to Dagster's default launcher."""
    left: list[str] = []
    monkeypatch.setattr(
        dg.DefaultRunLauncher, "launch_run", lambda self, context: left.append(context.dagster_run.run_id)
    )
    return left


@pytest.fixture
def instance(pool: Pool, instance_folder: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[dg.DagsterInstance]:
    """An instance whose launcher looks for the pool of HOME, which is the test's."""
    home = pool.socket.parents[1]
    monkeypatch.setenv("EXPLORER_HOME", str(home))
    get_settings.cache_clear()
    assert warm_pool_socket(home) == pool.socket
    (instance_folder / "dagster.yaml").write_text(
        "telemetry: {enabled: false}\n"
        "run_launcher: {module: explorer_dagster.launch.launcher, class: WarmRunLauncher, config: {}}\n"
    )
    with dg.DagsterInstance.from_config(str(instance_folder)) as made:
        yield made
    get_settings.cache_clear()


def launcher_of(instance: dg.DagsterInstance) -> WarmRunLauncher:
    launcher = instance.run_launcher
    assert isinstance(launcher, WarmRunLauncher)
    return launcher


def run_of(instance: dg.DagsterInstance, tmp_path: Path, status: Any = dg.DagsterRunStatus.STARTING) -> dg.DagsterRun:
    origin = dg.reconstructable(file_job).get_python_origin()
    tags = {"file": str(tmp_path / "written")}
    return instance.create_run_for_job(file_job, status=status, tags=tags, job_code_origin=origin)


def launch(instance: dg.DagsterInstance, run: dg.DagsterRun) -> RunTags:
    launcher_of(instance).launch_run(LaunchRunContext(run, workspace=None))
    return RunTags.from_tags(known(instance, run).tags)


def known(instance: dg.DagsterInstance, run: dg.DagsterRun) -> dg.DagsterRun:
    found = instance.get_run_by_id(run.run_id)
    assert found is not None
    return found


def given_to(instance: dg.DagsterInstance, tmp_path: Path, worker: ProcessIdentity, status: Any) -> dg.DagsterRun:
    """A run of this status whose worker is that process."""
    run = run_of(instance, tmp_path, status)
    instance.add_run_tags(run.run_id, RunTags(worker=str(worker)).to_tags())
    return known(instance, run)


def test_a_run_is_done_by_a_worker_of_the_pool(
    instance: dg.DagsterInstance, defaulted: list[str], tmp_path: Path
) -> None:
    run = run_of(instance, tmp_path)
    worker = launch(instance, run).worker
    assert worker is not None
    until(lambda: known(instance, run).status in FINISHED)
    assert known(instance, run).status == dg.DagsterRunStatus.SUCCESS
    assert (tmp_path / "written").read_text() == str(WorkerIdentity.parse(worker).process.pid) != str(os.getpid())
    assert defaulted == []


def test_without_a_pool_or_one_that_is_current_the_default_launcher_does_it(
    instance: dg.DagsterInstance, pool: Pool, defaulted: list[str], tmp_path: Path
) -> None:
    pool.era.unlink()
    stale = run_of(instance, tmp_path)
    assert launch(instance, stale).worker is None
    pool.process.wait(60)
    absent = run_of(instance, tmp_path)
    assert launch(instance, absent).worker is None
    pool.socket.touch()
    dead = run_of(instance, tmp_path)
    assert launch(instance, dead).worker is None
    assert defaulted == [stale.run_id, absent.run_id, dead.run_id]


def test_by_setting_the_pool_is_not_asked(
    instance: dg.DagsterInstance, defaulted: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("EXPLORER_RUN_LAUNCHER", "default")
    get_settings.cache_clear()
    launcher = WarmRunLauncher()
    launcher.register_instance(instance)
    run = run_of(instance, tmp_path)
    launcher.launch_run(LaunchRunContext(run, workspace=None))
    assert RunTags.from_tags(known(instance, run).tags).worker is None
    assert defaulted == [run.run_id]


@pytest.mark.parametrize("status", [dg.DagsterRunStatus.STARTING, dg.DagsterRunStatus.STARTED])
def test_a_worker_is_asked_to_end_whether_its_run_has_begun_or_not(
    instance: dg.DagsterInstance, pool: Pool, tmp_path: Path, status: Any
) -> None:
    worker = pool.worker(b"sleep")
    run = given_to(instance, tmp_path, worker, status)
    assert launcher_of(instance).terminate(run.run_id)
    assert known(instance, run).status == dg.DagsterRunStatus.CANCELING
    until(lambda: not worker.alive())
    # Asked for once more when the worker has gone: the run has ended.
    assert not launcher_of(instance).terminate(run.run_id)
    assert known(instance, run).status == dg.DagsterRunStatus.CANCELED
    assert not launcher_of(instance).terminate(run.run_id)


def test_of_a_dead_worker_the_run_is_cancelled_and_nobody_is_hit(
    instance: dg.DagsterInstance, pool: Pool, tmp_path: Path
) -> None:
    """Its number may have been given to another process since: here to one that lives."""
    bystander = pool.worker(b"sleep")
    reused = ProcessIdentity(bystander.pid, "1")
    run = given_to(instance, tmp_path, reused, dg.DagsterRunStatus.STARTED)
    assert not launcher_of(instance).terminate(run.run_id)
    assert known(instance, run).status == dg.DagsterRunStatus.CANCELED
    assert bystander.alive()


def test_a_run_that_nobody_knows_is_not_stopped(instance: dg.DagsterInstance) -> None:
    assert not launcher_of(instance).terminate("00000000-0000-0000-0000-000000000000")


def test_health_is_that_of_the_very_process(instance: dg.DagsterInstance, pool: Pool, tmp_path: Path) -> None:
    launcher = launcher_of(instance)
    assert launcher.supports_check_run_worker_health
    worker = pool.worker(b"sleep")
    run = given_to(instance, tmp_path, worker, dg.DagsterRunStatus.STARTED)
    health = launcher.check_run_worker_health(run)
    assert (health.status, health.msg, health.run_worker_id) == (WorkerStatus.RUNNING, None, str(worker))
    assert launcher.get_run_worker_debug_info(run) is None

    foreign = given_to(instance, tmp_path, ProcessIdentity(worker.pid, "1"), dg.DagsterRunStatus.STARTED)
    assert launcher.check_run_worker_health(foreign).status == WorkerStatus.NOT_FOUND

    os.kill(worker.pid, signal.SIGKILL)
    until(lambda: not worker.alive())
    dead = launcher.check_run_worker_health(run)
    assert dead.status == WorkerStatus.NOT_FOUND
    assert dead.msg is not None
    assert f"(process {worker.pid} of {socket.gethostname()}) ended without a word" in dead.msg
    assert launcher.get_run_worker_debug_info(run) == dead.msg


def test_a_worker_of_another_machine_is_not_called_dead_where_no_runs_are_forked(
    instance: dg.DagsterInstance, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its pid is nobody's here. It ends itself when it sees that its run is being cancelled."""
    monkeypatch.setenv("EXPLORER_RUN_LAUNCHER", "default")
    get_settings.cache_clear()
    launcher = WarmRunLauncher()
    launcher.register_instance(instance)
    run = run_of(instance, tmp_path, dg.DagsterRunStatus.STARTED)
    instance.add_run_tags(run.run_id, RunTags(worker="elsewhere/1:1").to_tags())
    run = known(instance, run)
    assert launcher.check_run_worker_health(run).status == WorkerStatus.RUNNING
    assert launcher.get_run_worker_debug_info(run) is None
    assert launcher.terminate(run.run_id)
    assert known(instance, run).status == dg.DagsterRunStatus.CANCELING


def test_where_runs_are_forked_a_worker_of_another_machine_is_of_an_earlier_life(
    instance: dg.DagsterInstance, pool: Pool, tmp_path: Path
) -> None:
    """The installation was restored here, or its container or laptop has a new name: nobody else would ever free the tenant."""
    launcher = launcher_of(instance)
    run = run_of(instance, tmp_path, dg.DagsterRunStatus.STARTED)
    instance.add_run_tags(run.run_id, RunTags(worker="elsewhere/1:1").to_tags())
    run = known(instance, run)
    health = launcher.check_run_worker_health(run)
    assert (health.status, health.msg) == (WorkerStatus.NOT_FOUND, launcher.get_run_worker_debug_info(run))
    assert "(process 1 of elsewhere)" in str(health.msg)
    assert "is not here any more" in str(health.msg)
    # Between two pools nothing is known.
    pool.socket.unlink()
    assert launcher.check_run_worker_health(run).status == WorkerStatus.RUNNING


def test_a_run_of_the_default_launcher_that_has_no_server_yet_is_not_called_dead(
    instance: dg.DagsterInstance, tmp_path: Path
) -> None:
    run = run_of(instance, tmp_path)
    health = launcher_of(instance).check_run_worker_health(run)
    assert (health.status, health.run_worker_id) == (WorkerStatus.RUNNING, None)
    assert launcher_of(instance).get_run_worker_debug_info(run) is None
