"""What of a run is kept in Dagster's event log? What says something: what was changed, what fails, what a later run needs.

A run of Dagster's own writes six events for each asset with a check. Here a run that changes tables writes at most a hundred.
"""

from collections import defaultdict

from dagster import AssetKey, DagsterEventType, EventLogEntry, MaterializeResult
from dagster_postgres import PostgresEventLogStorage
from sqlalchemy import text

from explorer.contract.records import Record
from explorer.contract.tags import AS_BEFORE
from explorer_dagster.metadata import as_metadata

# Texts of Dagster's own about what was left out: a list of checks that were not needed, and that later assets of a step are told
# to be made from the materialization that is kept, as they are.
_OF_WHAT_IS_LEFT_OUT = ("did not yield or return expected outputs", "Data version mismatch for asset")
_SAYS_NOTHING = frozenset({
    # A check has the state of its last evaluation until the next one.
    DagsterEventType.ASSET_CHECK_EVALUATION_PLANNED,
    DagsterEventType.RESOURCE_INIT_STARTED,
    DagsterEventType.RESOURCE_INIT_SUCCESS,
})  # fmt: skip
# Of checks that passed and pass again.
_LAST_STATUS = text(
    "SELECT execution_status FROM asset_check_executions"
    " WHERE asset_key = :asset AND check_name = :name AND partition IS NOT DISTINCT FROM :partition ORDER BY id DESC LIMIT 1"
)
_ENDS_A_STEP = (DagsterEventType.STEP_SUCCESS, DagsterEventType.STEP_FAILURE)
_FORGET = text(
    "DELETE FROM event_logs WHERE run_id = :run AND dagster_event_type IN ('STEP_OUTPUT', 'ASSET_OBSERVATION')"
)


def materialized(key: AssetKey | None, facts: Record, *, is_as_before: bool) -> MaterializeResult[None]:
    """What a step tells of an asset that is up to date. `key`: None in a step of one asset; `is_as_before`: the run found it so,
    so that the materialization which it has still tells all."""
    return MaterializeResult(asset_key=key, metadata=as_metadata(facts), tags=AS_BEFORE if is_as_before else None)


class ExplorerEvents(PostgresEventLogStorage):
    """Dagster's event log without what says nothing.

    - An asset that the run found as it was (`AS_BEFORE`) keeps the materialization that it has, and a check of it that passed
      and passes again its evaluation. So the latest of both are of the run that changed something.
    - The outputs of a step are stored together when it ends, and deleted when the run has succeeded: only the steps of a run
      that is started again after a failure ask for them. So are reports of progress, which are for those who wait. Metadata are
      stored once, with the materialization.
    """

    def __init__(self, postgres_url: str) -> None:
        super().__init__(postgres_url)
        # Of the runs that are executed in this process.
        self._outputs: defaultdict[str, list[EventLogEntry]] = defaultdict(list)
        self._changed: defaultdict[str, set[str]] = defaultdict(set)

    def store_event(self, event: EventLogEntry) -> None:
        told = event.dagster_event
        if told is None:
            if not any(words in event.user_message for words in _OF_WHAT_IS_LEFT_OUT):
                super().store_event(event)
        elif told.event_type == DagsterEventType.STEP_OUTPUT:
            self._outputs[event.run_id].append(_without_metadata(event))
        elif told.event_type not in _SAYS_NOTHING and not self._is_as_before(event):
            if told.event_type in _ENDS_A_STEP:
                self._store_outputs(event.run_id)
            super().store_event(event)
            if told.event_type == DagsterEventType.ASSET_MATERIALIZATION and told.asset_key is not None:
                self._changed[event.run_id].add(told.asset_key.to_string())
            elif told.event_type == DagsterEventType.RUN_SUCCESS:
                self._forget(event.run_id)

    def _is_as_before(self, event: EventLogEntry) -> bool:
        told = event.dagster_event
        if told is None:
            return False
        if told.event_type == DagsterEventType.ASSET_MATERIALIZATION and told.asset_key is not None:
            tags = told.step_materialization_data.materialization.tags or {}
            if told.partition is None or not AS_BEFORE.items() <= tags.items():
                return False
            # One whose run was deleted is told again.
            return bool(self.get_latest_storage_id_by_partition(told.asset_key, told.event_type, {told.partition}))
        if told.event_type == DagsterEventType.ASSET_CHECK_EVALUATION:
            found = told.asset_check_evaluation_data
            asset = found.asset_key.to_string()
            if not found.passed or asset in self._changed[event.run_id]:
                return False
            with self.index_connection() as connection:
                of = {"asset": asset, "name": found.check_name, "partition": found.partition}
                return bool(connection.execute(_LAST_STATUS, of).scalar() == "SUCCEEDED")
        return False

    def _store_outputs(self, run_id: str) -> None:
        if outputs := self._outputs.pop(run_id, None):
            with self.index_connection() as connection:
                connection.execute(self.prepare_insert_event_batch(outputs))

    def _forget(self, run_id: str) -> None:
        self._changed.pop(run_id, None)
        with self.index_connection() as connection:
            connection.execute(_FORGET, {"run": run_id})


def _without_metadata(event: EventLogEntry) -> EventLogEntry:
    told = event.dagster_event
    if told is None:
        return event
    output = told.step_output_data._replace(metadata={})
    return event._replace(dagster_event=told._replace(event_specific_data=output))
