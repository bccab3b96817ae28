"""What does dlt do in a load? The raw tables' schema and its history, a load package with a job per table, the list of loads.

dlt's load step gets its package directly, with an empty file per table: extract and normalize would only pass these files on, for
most of a run's fixed cost. A job does not load its file but writes a table from rows that may still be arriving (`load_job`). The
folder is new for every load, so that nothing of a killed one is taken for loaded.
"""

import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType, TracebackType
from typing import Any, Self
from uuid import uuid4

import psycopg2
from dlt.common.destination.client import LoadJob, PreparedTableSchema, RunnableLoadJob
from dlt.common.exceptions import DltException
from dlt.common.runners.pool_runner import run_pool
from dlt.common.schema import Schema
from dlt.common.schema.utils import new_table
from dlt.common.storages import LoadStorageConfiguration
from dlt.common.storages.load_package import PackageStorage, create_load_id
from dlt.destinations import postgres
from dlt.destinations.impl.postgres.configuration import PostgresClientConfiguration, PostgresCredentials
from dlt.destinations.impl.postgres.postgres import PostgresClient
from dlt.load import Load
from dlt.load.configuration import LoaderConfiguration

from explorer.load.errors import LoadFailed
from explorer.load.raw.table import DELETED_COLUMN, RawTable

_DLT_TYPES = {"text": "text", "boolean": "bool", "timestamp": "timestamp", "bigint": "bigint", "json": "json"}
_PROVENANCE_TYPES = {"_run_id": "text", "_loaded_at": "timestamp", "_page": "bigint", "_content_hash": "text"}
# dlt reads these before any config file of the machine. Interrupts must reach us: dlt's own handler swallows the first.
_DLT_SETTINGS = {
    "RUNTIME__DLTHUB_TELEMETRY": "false",
    "RUNTIME__INTERCEPT_SIGNALS": "false",
    "ENABLE_RUNTIME_TRACE": "false",
}

Job = Callable[[], None]


class DltLoad:
    """One load of a tenant's raw tables. `login`: libpq parameters of its rw role; `folder`: empty, only for this load."""

    def __init__(
        self, name: str, raw_schema: str, login: Mapping[str, Any], folder: Path, tables: Sequence[RawTable]
    ) -> None:
        os.environ.update(_DLT_SETTINGS)
        self._schema = Schema(name)
        for table in tables:
            self._schema.update_table(_table(table))
        self._schema._bump_version()
        self._folder = folder
        self._destination = _RawTables(credentials=_credentials(login), create_indexes=False)
        self._destination.keys = {table.name: table.key for table in tables}
        bound = PostgresClientConfiguration(credentials=_credentials(login))._bind_dataset_name(raw_schema, name)
        self._config = self._destination.configuration(bound)

    def run(self, jobs: Mapping[str, Job], *, is_incomplete: bool) -> None:
        """Update the tables' structure, then run all jobs in parallel.

        `jobs`: by table; they do not raise. `is_incomplete`: a table or column is missing, whatever dlt's history says.

        Raises:
            LoadFailed: the structure could not be made, or the load could not be recorded.
        """
        self._destination.jobs = jobs
        self._destination.is_incomplete = is_incomplete
        config = LoaderConfiguration(
            # One worker per job, so that no job waits for another: some of them wait for their rows.
            workers=max(2, len(jobs)),
            _load_storage_config=LoadStorageConfiguration(
                load_volume_path=str(self._folder), delete_completed_jobs=True
            ),
        )
        load = Load(self._destination, is_storage_owner=True, config=config, initial_client_config=self._config)
        self._make_package(load, jobs)
        try:
            run_pool(load.config, load)
        except (DltException, psycopg2.Error) as error:
            raise LoadFailed.because_of(error) from error

    def _make_package(self, load: Load, tables: Iterable[str]) -> None:
        packages = load.load_storage.new_packages
        load_id = create_load_id()
        packages.create_package(load_id)
        packages.save_schema(load_id, self._schema)
        packages.save_schema_updates(load_id, {})
        for table in tables:
            name = PackageStorage.build_job_file_name(table, uuid4().hex[:10], loader_file_format="csv")
            packages.storage.touch_file(packages.get_job_file_path(load_id, PackageStorage.NEW_JOBS_FOLDER, name))
        load.load_storage.commit_new_load_package(load_id)


class _RawTables(postgres):  # type: ignore[misc]
    """dlt's Postgres destination with our jobs. `keys`: primary key by table; `jobs`: of the running load, by table."""

    keys: Mapping[str, str] = MappingProxyType({})
    jobs: Mapping[str, Job] = MappingProxyType({})
    is_incomplete = False

    @property
    def client_class(self) -> type[PostgresClient]:
        return _RawTablesClient

    def configuration(self, initial_config: Any, accept_partial: bool = False) -> Any:
        # Cached: dlt resolves it some twenty times a run, each time through all config providers.
        if initial_config is not None and initial_config.is_resolved():
            return initial_config
        return super().configuration(initial_config, accept_partial)

    def client(self, schema: Schema, initial_config: Any = None) -> PostgresClient:
        client = super().client(schema, initial_config)
        client.raw_tables = self
        return client


class _RawTablesClient(PostgresClient):  # type: ignore[misc]
    raw_tables: _RawTables

    def update_stored_schema(
        self, only_tables: Iterable[str] | None = None, expected_update: Any = None, force: bool = False
    ) -> Any:
        # All tables of the pipeline, not only those with a job: the transforms read them all.
        return super().update_stored_schema(None, expected_update, force or self.raw_tables.is_incomplete)

    def _get_constraints_sql(self, table_name: str, new_columns: Sequence[Any], generate_alter: bool) -> str:
        key = self.raw_tables.keys.get(table_name)
        if key is None or generate_alter:
            return ""
        return f",\nPRIMARY KEY ({self.sql_client.escape_column_name(key)})"

    def create_load_job(
        self, table: PreparedTableSchema, file_path: str, load_id: str, restore: bool = False
    ) -> LoadJob:
        return _TableJob(file_path, self.raw_tables.jobs[table["name"]])


class _TableJob(RunnableLoadJob):  # type: ignore[misc]
    """Calls the table's job, which connects only when it has something to write: a login has few connections."""

    def __init__(self, file_path: str, job: Job) -> None:
        super().__init__(file_path)
        self._job = job

    def run_managed(self, job_client: Any, done_event: Any, /) -> None:
        super().run_managed(_Unconnected(), done_event)

    def run(self) -> None:
        self._job()


class _Unconnected:
    """Replaces the client whose connection dlt would keep open during a whole job."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...

    def prepare_load_job_execution(self, job: RunnableLoadJob) -> None: ...


def _table(table: RawTable) -> Any:
    types = {name: _DLT_TYPES[kind] for name, kind in table.columns.items()} | _PROVENANCE_TYPES
    columns = [
        {"name": name, "data_type": kind, "nullable": name != table.key}
        for name, kind in {**types, DELETED_COLUMN: "timestamp"}.items()
    ]
    return new_table(table.name, write_disposition="append", columns=columns, resource=table.source)


def _credentials(login: Mapping[str, Any]) -> PostgresCredentials:
    """dlt's form of libpq parameters; other parameters than address and login (sslmode, ...) go into the query."""
    parameters = dict(login)
    credentials = PostgresCredentials()
    credentials.host, credentials.port = parameters.pop("host"), int(parameters.pop("port"))
    credentials.database = parameters.pop("dbname")
    credentials.username, credentials.password = parameters.pop("user"), parameters.pop("password")
    credentials.query = parameters
    return credentials
