"""How does a Dagster instance find its storage and limits? The classes that `dagster.yaml` names.

They read our settings and the private connection file, so that `dagster.yaml` holds no secret and plain `dagster dev` needs no
environment variables. `launch` starts runs.
"""

from collections.abc import Mapping
from typing import Any, Self

import psycopg2
from dagster import QueuedRunCoordinator
from dagster._serdes import ConfigurableClassData
from dagster_postgres import DagsterPostgresStorage
from sqlalchemy import event
from sqlalchemy.exc import DisconnectionError

from explorer.core.files import write_privately
from explorer.core.settings import get_settings
from explorer.installation import prepare

POOL_RECYCLE_S = 3600
POOL_OVERFLOW = 20


class ExplorerStorage(DagsterPostgresStorage):
    """Dagster's Postgres storage in the platform's own `dagster` database.

    A database that is set up but does not run is started. It is never set up here: `explorer up` does that.

    Connections are pooled: Dagster's default opens one for every stored event, which costs 7 ms each and dominates short runs.
    For the same reason the event log's commits do not wait for the disk: a server that crashes may lose the last half second of
    events, but never a run or its status.
    """

    @classmethod
    def config_type(cls) -> dict[str, Any]:
        return {}

    @classmethod
    def from_config_value(cls, inst_data: ConfigurableClassData | None, config_value: Mapping[str, Any]) -> Self:
        # Every process of Dagster, including `dagster dev`, passes here before it writes anything.
        write_privately()
        storage = cls(postgres_url=prepare(get_settings()).dagster.sqlalchemy_url(), inst_data=inst_data)
        events: Any = storage.event_log_storage
        parts: tuple[Any, ...] = (storage.run_storage, events, storage.schedule_storage)
        for part in parts:
            part.optimize_for_webserver(statement_timeout=0, pool_recycle=POOL_RECYCLE_S, max_overflow=POOL_OVERFLOW)
            event.listen(part._engine, "checkout", _refuse_dead_connection)
        event.listen(events._engine, "connect", _do_not_wait_for_disk)
        return storage


def _do_not_wait_for_disk(connection: Any, _record: object) -> None:
    with connection.cursor() as cursor:
        cursor.execute("SET synchronous_commit = off")
    connection.commit()


def _refuse_dead_connection(connection: Any, _record: object, _proxy: object) -> None:
    """Let the pool replace a connection that the server has closed, for instance at a restart."""
    try:
        with connection.cursor() as cursor:
            cursor.execute("SELECT 1")
    except psycopg2.Error as error:
        raise DisconnectionError from error


class ExplorerRunQueue(QueuedRunCoordinator[Any]):
    """Dagster's run queue with the cap over all tenants taken from EXPLORER_MAX_CONCURRENT_RUNS."""

    @classmethod
    def from_config_value(cls, inst_data: ConfigurableClassData, config_value: Mapping[str, Any]) -> Self:
        limits = {"max_concurrent_runs": get_settings().max_concurrent_runs, **config_value}
        return cls(inst_data=inst_data, **limits)
