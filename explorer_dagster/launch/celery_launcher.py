"""How does a run get a worker on another machine? As a task of Celery, by Dagster's own launcher, which knows two things more.

A worker that was killed, or whose machine is gone, is noticed: Celery itself keeps the task `STARTED` for ever. And cancelling is
written down before the worker is told, so that the run ends as cancelled, also when nobody is there to be told. The broker's
address is a setting, so that the instance's file holds no secret.
"""

import time
from collections.abc import Mapping
from typing import Any, Self

import dagster as dg
from celery.exceptions import OperationalError
from dagster._core.launcher import CheckRunHealthResult, WorkerStatus
from dagster_celery import launcher
from dagster_celery.tags import DAGSTER_CELERY_TASK_ID_TAG

from explorer.core.errors import SettingsInvalid
from explorer.core.settings import Settings, get_settings

QUEUE = "dagster"
# How long nobody may say that he works on a run until it is called failed: longer than a network that is cut for a moment, and
# with the interval of the monitoring and the time of a question less than a minute.
GONE_AFTER_S = 30.0
_ANSWERS_WITHIN_S = 2.0
# One question to all workers tells of all runs.
_ASKED_EVERY_S = 3.0
_CONFIG = {
    # A worker takes no task that it cannot begin at once: another one may be idle.
    "worker_disable_prefetch": True,
    "worker_prefetch_multiplier": 1,
    "broker_connection_retry_on_startup": True,
}
# Of a task that has ended, however it ended: of its run nobody tells any more.
_ENDED = ("SUCCESS", "FAILURE", "REVOKED")


def app_settings(settings: Settings) -> dict[str, Any]:
    """What launcher and workers must have in common.

    Raises:
        SettingsInvalid: there is no broker.
    """
    if settings.celery_broker_url is None:
        raise SettingsInvalid(
            "Runs are given to Celery, but EXPLORER_CELERY_BROKER_URL is not set.",
            next_step="Set it to the broker's address, for instance redis://:password@redis:6379/0, or choose another launcher.",
        )
    url = settings.celery_broker_url.get_secret_value()
    return {
        "broker": url,
        "backend": url,
        "config_source": _CONFIG,
        "task_default_queue": QUEUE,
    }


class CeleryRunLauncher(launcher.CeleryRunLauncher):
    """Dagster's launcher by Celery, which notices dead workers and cancels truly."""

    def __init__(self, inst_data: Any = None) -> None:
        shared = app_settings(get_settings())
        super().__init__(
            default_queue=shared["task_default_queue"],
            broker=shared["broker"],
            backend=shared["backend"],
            config_source=shared["config_source"],
            inst_data=inst_data,
        )
        self._at_work: frozenset[str] = frozenset()
        self._asked_s = float("-inf")
        self._missed_since: dict[str, float] = {}

    @classmethod
    def config_type(cls) -> dict[str, Any]:
        return {}

    @classmethod
    def from_config_value(cls, inst_data: Any, config_value: Mapping[str, Any]) -> Self:
        return cls(inst_data=inst_data)

    def register_instance(self, instance: dg.DagsterInstance) -> None:
        super().register_instance(instance)
        self._runs = instance

    def terminate(self, run_id: str) -> bool:
        run = self._runs.get_run_by_id(run_id)
        if run is None or run.is_finished:
            return False
        self._runs.report_run_canceling(run)
        task = run.tags.get(DAGSTER_CELERY_TASK_ID_TAG)
        if task is not None:
            # Who has the task gets a SIGTERM; who does not have it yet leaves it.
            self.celery.control.revoke(task, terminate=True)
        return True

    def check_run_worker_health(self, run: dg.DagsterRun) -> CheckRunHealthResult:
        task = run.tags.get(DAGSTER_CELERY_TASK_ID_TAG)
        if task is None:
            # It is being launched at this moment.
            return CheckRunHealthResult(WorkerStatus.RUNNING)
        try:
            state = self.celery.AsyncResult(task).state
            if state in _ENDED:
                # Dagster's monitoring looks once more whether the run has ended. Told of a SUCCESS it would let it be, for ever.
                words = (
                    f"Its task of Celery has ended ({state}), and the run has not: its end could not be written down"
                )
                return CheckRunHealthResult(WorkerStatus.FAILED, words, run_worker_id=task)
            missed_s = self._missed_s(task)
        except (OperationalError, OSError):
            # Without the broker nobody can say anything; and nobody is called dead for it, also not right afterwards.
            self._missed_since.clear()
            return CheckRunHealthResult(WorkerStatus.RUNNING, "The broker does not answer", run_worker_id=task)
        if missed_s < GONE_AFTER_S:
            return CheckRunHealthResult(WorkerStatus.RUNNING, run_worker_id=task)
        self._missed_since.pop(task, None)
        return CheckRunHealthResult(WorkerStatus.NOT_FOUND, _gone(missed_s), run_worker_id=task)

    def get_run_worker_debug_info(self, run: dg.DagsterRun, include_container_logs: bool | None = True) -> str | None:
        """A note for runs that did not start or end in time: whether a worker has their task."""
        task = run.tags.get(DAGSTER_CELERY_TASK_ID_TAG)
        if task is None:
            return "No task was given to Celery."
        try:
            return None if self._missed_s(task) == 0 else "No worker of Celery that answers has the run's task."
        except (OperationalError, OSError):
            return "The broker of Celery does not answer."

    def _missed_s(self, task: str) -> float:
        """For how many seconds no worker has said that it works on the task; 0 when one has just said so."""
        now_s = time.monotonic()
        if now_s - self._asked_s > _ASKED_EVERY_S:
            said = self.celery.control.inspect(timeout=_ANSWERS_WITHIN_S).active() or {}
            self._at_work = frozenset(str(each["id"]) for tasks in said.values() for each in tasks)
            self._asked_s = now_s = time.monotonic()
        if task in self._at_work:
            self._missed_since.pop(task, None)
            return 0.0
        return now_s - self._missed_since.setdefault(task, now_s)


def _gone(missed_s: float) -> str:
    return (
        f"No worker has said for {missed_s:.0f} s that it works on the run: its worker was killed, or its machine or "
        "its network is gone. No table is half changed. Look at the workers, then run it again"
    )
