"""How does a Dagster instance find its storage and limits? The classes that `dagster.yaml` names.

They read our settings and the private connection file, so that `dagster.yaml` holds no secret and plain `dagster dev` needs no
environment variables. `launch` starts runs.
"""

from collections.abc import Mapping
from typing import Any, Self

from dagster import DagsterRun, DagsterRunStatus, QueuedRunCoordinator
from dagster_postgres import DagsterPostgresStorage, PostgresEventLogStorage, PostgresScheduleStorage
from sqlalchemy import make_url

from explorer.core.files import write_privately
from explorer.core.settings import get_settings
from explorer.installation import prepare
from explorer_dagster import queueing
from explorer_dagster.events import ExplorerEvents

# A connection older than this is replaced before it is used, so that one which the server has closed meanwhile does no harm.
POOL_RECYCLE_S = 1
POOL_OVERFLOW = 20
_QUOTAS = queueing.RunQuotas()


class ExplorerSchedules(PostgresScheduleStorage):
    """Dagster's schedule storage, in which a schedule that was stopped during its tick stays stopped.

    At the end of a tick the daemon writes the state that it read at its beginning, with the time up to which it has looked.
    Whoever starts or stops a schedule writes none.
    """

    def update_instigator_state(self, state: Any) -> Any:
        if getattr(state.instigator_data, "last_iteration_timestamp", None) is not None:
            now = self.get_instigator_state(state.instigator_origin_id, state.selector_id)
            state = state.with_status(now.status) if now is not None else state
        return super().update_instigator_state(state)


class ExplorerStorage(DagsterPostgresStorage):
    """Dagster's Postgres storage in the platform's own `dagster` database.

    A database that is set up but does not run is started. It is never set up here: `explorer up` does that.

    Connections are pooled: Dagster's default opens one for every stored event, which costs 7 ms each and dominates short runs.
    For the same reason the event log's commits do not wait for the disk: a server that crashes may lose the last half second of
    events, but never a run or its status.
    """

    def __init__(self, url: str, inst_data: Any = None) -> None:
        super().__init__(url, inst_data=inst_data)
        events = make_url(url).update_query_dict({"options": "-c synchronous_commit=off"})
        self._events = ExplorerEvents(events.render_as_string(hide_password=False))
        self._schedules = ExplorerSchedules(url)
        for part in (self.run_storage, self.event_log_storage, self.schedule_storage):
            # What Dagster's webserver calls on its storage: a pool in place of a connection per statement.
            part.optimize_for_webserver(statement_timeout=0, pool_recycle=POOL_RECYCLE_S, max_overflow=POOL_OVERFLOW)

    @property
    def event_log_storage(self) -> PostgresEventLogStorage:
        return self._events

    @property
    def schedule_storage(self) -> PostgresScheduleStorage:
        return self._schedules

    @classmethod
    def config_type(cls) -> dict[str, Any]:
        return {}

    @classmethod
    def from_config_value(cls, inst_data: Any, config_value: Mapping[str, Any]) -> Self:
        # Every process of Dagster, including `dagster dev`, passes here before it writes anything.
        write_privately()
        return cls(prepare(get_settings()).dagster.sqlalchemy_url(), inst_data)


class ExplorerRunQueue(QueuedRunCoordinator[Any]):
    """Dagster's run queue with the cap over all tenants taken from EXPLORER_MAX_CONCURRENT_RUNS, a place for each run, and the
    tenants' quotas."""

    @classmethod
    def from_config_value(cls, inst_data: Any, config_value: Mapping[str, Any]) -> Self:
        config = {"max_concurrent_runs": get_settings().max_concurrent_runs, **config_value}
        kept = queueing.limits(config["max_concurrent_runs"])
        config["tag_concurrency_limits"] = [*(config.get("tag_concurrency_limits") or ()), *kept]
        return cls(inst_data=inst_data, **config)

    def submit_run(self, context: Any) -> DagsterRun:
        run, instance = context.dagster_run, context.workspace.instance
        if run.status == DagsterRunStatus.NOT_STARTED and (refusal := _QUOTAS.refusal(run.tags)) is not None:
            # Not an exception, which would end the tick or the backfill that other tenants' runs come from.
            instance.report_run_canceled(run, message=str(refusal))
            canceled: DagsterRun = instance.get_run_by_id(run.run_id) or run
            return canceled
        instance.add_run_tags(run.run_id, queueing.place(run.tags))
        return super().submit_run(context)
