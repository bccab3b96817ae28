"""What we rely on where Dagster and uvicorn have no public way: read this first when a new version of them fails a test.

The names are those of `NO_PUBLIC_WAY` in tests/test_public_api.py. The version is checked first: look at each name in the new
version's source, then write its number here.
"""

import inspect
import json
import os
from importlib.metadata import version
from typing import Any

import dagster as dg
import pytest
from dagster._cli.api import execute_run_command
from dagster._core.launcher import CheckRunHealthResult, LaunchRunContext, WorkerStatus
from dagster._core.workspace.context import WorkspaceProcessContext
from dagster._core.workspace.load_target import WorkspaceFileTarget
from dagster._grpc.types import CanCancelExecutionRequest, ExecuteRunArgs
from dagster_webserver.app import create_app_from_workspace_process_context
from uvicorn.protocols.http.h11_impl import H11Protocol


@dg.op
def nothing() -> None:
    """Does nothing."""


@dg.job(executor_def=dg.in_process_executor)
def empty_job() -> None:
    nothing()


def parameters(function: Any) -> list[str]:
    return list(inspect.signature(function).parameters)


@pytest.mark.parametrize(
    ("distribution", "seen"),
    [("dagster", "1.13.27"), ("dagster-webserver", "1.13.27"), ("dagster-postgres", "0.29.27"), ("uvicorn", "0.54.0")],
)
def test_the_version_is_the_one_whose_source_was_read(distribution: str, seen: str) -> None:
    now = version(distribution)
    assert now == seen, (
        f"{distribution} is {now}, and its names that are not public were read in {seen}. Look at each of them in NO_PUBLIC_WAY"
        f" (tests/test_public_api.py) in the source of {now}; run this file, tests/test_public_api.py and"
        " tests/explorer_dagster/launch; then write the number here, in pyproject.toml and in constraints.txt."
    )


def test_a_launcher_gets_the_run_and_reaches_its_instance() -> None:
    assert LaunchRunContext._fields == ("dagster_run", "workspace")
    assert parameters(dg.DefaultRunLauncher.launch_run) == ["self", "context"]
    assert parameters(dg.DefaultRunLauncher.terminate) == ["self", "run_id"]
    with dg.DagsterInstance.ephemeral() as instance:
        launcher = dg.DefaultRunLauncher()
        launcher.register_instance(instance)
        assert launcher._instance is instance


def test_the_monitoring_of_runs_ends_a_run_whose_worker_is_not_found() -> None:
    assert {"RUNNING", "NOT_FOUND"} <= set(WorkerStatus.__members__)
    found = CheckRunHealthResult(WorkerStatus.NOT_FOUND, "gone", run_worker_id="1")
    assert (found.status, found.msg, found.run_worker_id) == (WorkerStatus.NOT_FOUND, "gone", "1")


def test_the_server_of_a_default_worker_is_known_by_a_tag_of_its_run() -> None:
    with dg.DagsterInstance.ephemeral() as instance:
        launcher = dg.DefaultRunLauncher()
        launcher.register_instance(instance)
        waiting = instance.create_run_for_job(empty_job)
        assert launcher._get_grpc_client_for_termination(waiting.run_id) is None
        tags = {".dagster/grpc_info": json.dumps({"host": "localhost", "port": 1})}
        taken = instance.create_run_for_job(empty_job, tags=tags)
        client = launcher._get_grpc_client_for_termination(taken.run_id)
        assert parameters(client.can_cancel_execution) == ["can_cancel_execution_request", "timeout"]
        assert CanCancelExecutionRequest(run_id=taken.run_id).run_id == taken.run_id


def test_a_worker_runs_what_it_is_given_in_its_own_process(tmp_path: Any) -> None:
    (tmp_path / "dagster.yaml").write_text("telemetry: {enabled: false}\n")
    with dg.DagsterInstance.from_config(str(tmp_path)) as instance:
        origin = dg.reconstructable(empty_job).get_python_origin()
        run = instance.create_run_for_job(empty_job, status=dg.DagsterRunStatus.STARTING, job_code_origin=origin)
        given = ExecuteRunArgs(job_origin=origin, run_id=run.run_id, instance_ref=instance.get_ref())
        execute_run_command.main(args=[dg.serialize_value(given)], standalone_mode=False)
        after = instance.get_run_by_id(run.run_id)
        assert after is not None
        assert after.status == dg.DagsterRunStatus.SUCCESS
        assert f"(pid: {os.getpid()})" in "".join(record.message for record in instance.all_logs(run.run_id))


def test_the_web_application_is_made_of_an_instance_and_a_workspace_file() -> None:
    assert parameters(WorkspaceProcessContext)[:2] == ["instance", "workspace_load_target"]
    assert "version" in parameters(WorkspaceProcessContext)
    assert WorkspaceFileTarget(["workspace.yaml"]).paths == ["workspace.yaml"]
    assert parameters(create_app_from_workspace_process_context)[0] == "workspace_process_context"


def test_a_connection_of_uvicorn_knows_its_transport_its_loop_and_its_request() -> None:
    source = inspect.getsource(H11Protocol)
    assert all(f"self.{name}" in source for name in ("transport", "loop", "cycle"))
    assert all(callable(getattr(H11Protocol, name)) for name in ("connection_made", "data_received", "connection_lost"))
