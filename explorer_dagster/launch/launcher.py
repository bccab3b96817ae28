"""How does Dagster start, stop and watch a run's worker? Through the warm pool, else through Dagster's default launcher.

A run tag identifies a pool worker by `host/pid:start time`, so that neither a reused pid nor one of another machine is taken for
it. The worker outlives webserver, daemon and code server. Run monitoring notices its death through `check_run_worker_health`;
from another machine nobody can say, and nothing is done to it. There it is cancelled by its run's state, which it looks at
itself (`explorer_dagster.runs`).

Where the pool is, runs are forked, and nowhere else: there a worker of another machine is one of an earlier life of the
installation, which was restored here, or whose machine or container has a new name. Its run is called failed.
"""

import os
import signal
import socket
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self

from dagster import DagsterRun, DefaultRunLauncher, deserialize_value, serialize_value
from dagster._core.launcher import CheckRunHealthResult, LaunchRunContext, WorkerStatus
from dagster._grpc.types import CanCancelExecutionRequest, ExecuteRunArgs

from explorer.contract.tags import RunTags
from explorer.core.home import warm_pool_socket
from explorer.core.processes import WorkerIdentity
from explorer.core.settings import get_settings
from explorer_dagster.launch.fork_server import STALE

_ANSWER_TIMEOUT_S = 10.0


class WarmRunLauncher(DefaultRunLauncher):
    """Forks runs from the warm pool of this HOME. Without a pool, or with `EXPLORER_RUN_LAUNCHER=default`, it is Dagster's
    own."""

    def __init__(self, inst_data: Any = None) -> None:
        super().__init__(inst_data)
        settings = get_settings()
        self._socket: Path | None = warm_pool_socket(settings.home) if settings.run_launcher == "warm" else None

    @classmethod
    def from_config_value(cls, inst_data: Any, config_value: Mapping[str, Any]) -> Self:
        return cls(inst_data=inst_data)

    def launch_run(self, context: LaunchRunContext) -> None:
        pid = self._fork(context.dagster_run)
        if pid is None:
            super().launch_run(context)
        else:
            self._instance.add_run_tags(
                context.dagster_run.run_id, RunTags(worker=str(WorkerIdentity.of(pid))).to_tags()
            )

    def terminate(self, run_id: str) -> bool:
        run = self._instance.get_run_by_id(run_id)
        if run is None or run.is_finished:
            return False
        identity = RunTags.from_tags(run.tags).worker
        if identity is None:
            return bool(super().terminate(run_id))  # type: ignore[no-untyped-call]
        self._instance.report_run_canceling(run)
        worker = WorkerIdentity.parse(identity)
        alive = worker.alive()
        if alive is False:
            self._instance.report_run_canceled(run, "The run's worker was already gone.")
            return False
        if alive:
            os.kill(worker.process.pid, signal.SIGTERM)
        return True

    @property
    def supports_check_run_worker_health(self) -> bool:
        return True

    def check_run_worker_health(self, run: DagsterRun) -> CheckRunHealthResult:
        identity = RunTags.from_tags(run.tags).worker
        if identity is None:
            status = self._default_worker_status(run)
        else:
            # Dagster's monitoring ends a run whose worker is UNKNOWN: of what cannot be seen from here it is told that it runs.
            status = WorkerStatus.NOT_FOUND if self._is_gone(identity) else WorkerStatus.RUNNING
        words = None if status is WorkerStatus.RUNNING else _ended_silently(identity)
        return CheckRunHealthResult(status, words, run_worker_id=identity)

    def get_run_worker_debug_info(self, run: DagsterRun, include_container_logs: bool | None = True) -> str | None:
        """A note for runs that did not start or end in time: whether a process still works on the run."""
        identity = RunTags.from_tags(run.tags).worker
        return _ended_silently(identity) if identity is not None and self._is_gone(identity) else None

    def _is_gone(self, identity: str) -> bool:
        """Whether the worker has ended, or can be none of this installation's any more. One that goes on all the same sees that
        its run has failed, and ends."""
        alive = WorkerIdentity.parse(identity).alive()
        return alive is False or (alive is None and self._socket is not None and self._socket.is_socket())

    def _default_worker_status(self, run: DagsterRun) -> WorkerStatus:
        """Only the code server that spawned a worker of the default launcher knows it."""
        client = self._get_grpc_client_for_termination(run.run_id)  # type: ignore[no-untyped-call]
        if client is None:
            # No code server has taken the run yet.
            return WorkerStatus.RUNNING
        request = CanCancelExecutionRequest(run_id=run.run_id)
        answer: Any = deserialize_value(client.can_cancel_execution(request, timeout=10))
        return WorkerStatus.RUNNING if answer.can_cancel else WorkerStatus.NOT_FOUND

    def _fork(self, run: DagsterRun) -> int | None:
        """The pid of a new worker, or None when no pool can fork one."""
        if self._socket is None or run.job_code_origin is None:
            return None
        args = ExecuteRunArgs(job_origin=run.job_code_origin, run_id=run.run_id, instance_ref=self._instance.get_ref())
        with socket.socket(socket.AF_UNIX) as connection:
            connection.settimeout(_ANSWER_TIMEOUT_S)
            try:
                connection.connect(os.fspath(self._socket))
            except OSError:
                return None
            try:
                connection.sendall(serialize_value(args).encode())
                connection.shutdown(socket.SHUT_WR)
                answer = connection.recv(32)
            except (BrokenPipeError, ConnectionResetError):
                answer = STALE
        return None if answer in (b"", STALE) else int(answer)


def _ended_silently(identity: str | None) -> str:
    worker = WorkerIdentity.parse(identity) if identity else None
    who = f" (process {worker.process.pid} of {worker.host})" if worker else ""
    return (
        f"The run's worker{who} ended without a word: it was killed, by somebody, by the system because memory ran out, or with "
        "the machine or the platform, or it was of a machine that is not here any more. No table is half changed. Look at the "
        "machine's memory (`dmesg` tells of processes killed for it), then run it again"
    )
