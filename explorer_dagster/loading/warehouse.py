"""How do prepared files get into the tenant's raw tables? By dlt's state, schema, staging and commit, with our own merge.

dlt puts each file into the staging dataset by COPY and then runs one SQL job per table, in one transaction. Its own merge deletes
and inserts what came; ours touches only rows whose content changed and marks rows that are gone (`_deleted_at`), so that readers
are never blocked, never see half a load, and an unchanged project space writes nothing.

The local folder is fresh for every load: state and schema come from the database, where they are committed with the data. A load
that was killed therefore leaves nothing behind that a later one could take for landed.
"""

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from types import MappingProxyType
from typing import Any

import dlt
from dlt.common.destination.client import FollowupJobRequest, PreparedTableSchema
from dlt.common.schema import Schema
from dlt.destinations import postgres
from dlt.destinations.impl.postgres.configuration import PostgresClientConfiguration, PostgresCredentials
from dlt.destinations.impl.postgres.postgres import PostgresClient
from dlt.destinations.sql_client import SqlClientBase
from dlt.destinations.sql_jobs import SqlFollowupJob
from dlt.extract import DltResource, DltSource

from explorer_dagster.loading.files import PROVENANCE_COLUMNS, RECORD_COLUMN, REJECTED_COLUMNS
from explorer_dagster.registry import Source

REJECTED_TABLE = "raw_rejected"
DELETED_COLUMN = "_deleted_at"
APPLICATION_NAME = "explorer-load"
# A tenant's login has 12 connections, and dbt wants some.
_LOAD_WORKERS = 4
_SORT_MEMORY_MB = 64
_DLT_TYPES = {"text": "text", "boolean": "bool", "timestamp": "timestamp", "bigint": "bigint"}
_PROVENANCE_TYPES = {"_run_id": "text", "_loaded_at": "timestamp", "_page": "bigint", "_content_hash": "text"}
# Read by dlt before any config file of the machine. Interrupts must reach us: dlt's own handler swallows the first.
_DLT_SETTINGS = {
    "RUNTIME__DLTHUB_TELEMETRY": "false",
    "RUNTIME__INTERCEPT_SIGNALS": "false",
    "ENABLE_RUNTIME_TRACE": "false",
    "RESTORE_FROM_DESTINATION": "true",
    "DATA_WRITER__DISABLE_COMPRESSION": "true",
    "LOAD__WORKERS": str(_LOAD_WORKERS),
    "LOAD__DELETE_COMPLETED_JOBS": "true",
}


@dataclass(frozen=True)
class TableFile:
    """One file to import. `columns`: to dlt's types; `cursor`: column that tells the newer of two versions.

    `has_repeats`: an id may occur twice; `is_everything`: rows of the table that the file lacks are gone at the source.
    `cursor_to`: the state to keep for the next load, None to keep what is there.
    """

    name: str
    table: str
    path: Path
    rows: int
    primary_key: str
    columns: Mapping[str, str]
    cursor: str | None = None
    has_repeats: bool = False
    is_everything: bool = False
    cursor_to: datetime | None = None

    @classmethod
    def of_source(cls, source: Source, path: Path, rows: int, **facts: Any) -> "TableFile":
        """The file of a source of the pipeline."""
        columns = {name: _DLT_TYPES[kind] for name, kind in source.keys.items()} | {RECORD_COLUMN: "json"}
        cursor = source.cursor.field if source.cursor else None
        return cls(source.name, source.table, path, rows, source.primary_key, columns, cursor, **facts)

    @classmethod
    def of_rejects(cls, path: Path, rows: int) -> "TableFile":
        """The file of records set aside."""
        columns = dict.fromkeys(REJECTED_COLUMNS, "text")
        return cls("rejected", REJECTED_TABLE, path, rows, REJECTED_COLUMNS[0], columns, has_repeats=True)


class Warehouse:
    """A tenant's raw tables. `login`: libpq parameters of its rw role; `folder`: empty, for this load alone."""

    def __init__(self, name: str, dataset: str, login: Mapping[str, Any], folder: Path) -> None:
        os.environ.update(_DLT_SETTINGS)
        self._destination = _RawTables(credentials=_credentials(login), create_indexes=False)
        self._name = name
        self._pipeline = dlt.pipeline(
            pipeline_name=name, destination=self._destination, dataset_name=dataset, pipelines_dir=str(folder)
        )
        self._pipeline.sync_destination()
        # The run would restore state and schema from the database a second time.
        self._pipeline._state_restored = True

    def cursors(self) -> dict[str, datetime]:
        """Source name to the instant up to which it has landed, as committed with the data."""
        resources = self._pipeline.state.get("sources", {}).get(self._name, {}).get("resources", {})
        return {
            name: datetime.fromisoformat(state["cursor"]) for name, state in resources.items() if state.get("cursor")
        }

    def load(self, files: Sequence[TableFile]) -> None:
        """Land all files, in one dlt run; each table changes in one transaction, and the cursors last of all."""
        self._destination.files = {file.table: file for file in files}
        source = DltSource(Schema(self._name), self._name, [_resource(file) for file in files])
        self._pipeline.run(source)


class _RawTables(postgres):  # type: ignore[misc]
    """dlt's Postgres destination with our merge. `files`: what the running load brings, by table."""

    files: Mapping[str, TableFile] = MappingProxyType({})
    _own_config: PostgresClientConfiguration | None = None

    @property
    def client_class(self) -> type[PostgresClient]:
        return _RawTablesClient

    def configuration(self, initial_config: Any, accept_partial: bool = False) -> Any:
        # dlt looks through all providers for each of its clients, some sixty times a run: a third of the fixed cost.
        if initial_config is not None and initial_config.is_resolved():
            return initial_config
        return super().configuration(initial_config, accept_partial)

    def capabilities(self, config: Any = None, naming: Any = None) -> Any:
        if config is None:
            if self._own_config is None:
                own = PostgresClientConfiguration(credentials=self.config_params["credentials"].copy())
                self._own_config = self.configuration(own, accept_partial=True)
            config = self._own_config
        return super().capabilities(config, naming)

    def client(self, schema: Schema, initial_config: Any = None) -> PostgresClient:
        client = super().client(schema, initial_config)
        client.files = self.files
        return client


class _RawTablesClient(PostgresClient):  # type: ignore[misc]
    files: Mapping[str, TableFile] = MappingProxyType({})

    def _get_constraints_sql(self, table_name: str, new_columns: Sequence[Any], generate_alter: bool) -> str:
        file = self.files.get(table_name)
        if file is None or generate_alter or self.in_staging_dataset_mode:
            return ""
        return f",\nPRIMARY KEY ({self.sql_client.escape_column_name(file.primary_key)})"

    def _create_merge_followup_jobs(self, table_chain: Sequence[PreparedTableSchema]) -> list[FollowupJobRequest]:
        class RawMerge(_RawMerge):
            file = self.files[table_chain[0]["name"]]

        return [RawMerge.from_table_chain(table_chain, self.sql_client)]


class _RawMerge(SqlFollowupJob):  # type: ignore[misc]
    """The statements that bring a table to what its staging table says; dlt runs them in one transaction."""

    file: TableFile

    @classmethod
    def generate_sql(cls, table_chain: Sequence[PreparedTableSchema], sql_client: SqlClientBase[Any]) -> list[str]:
        name = table_chain[0]["name"]
        with sql_client.with_staging_dataset():
            staged = sql_client.make_qualified_table_name(name)
        return merge_statements(cls.file, staged, sql_client.make_qualified_table_name(name))


def merge_statements(file: TableFile, staged: str, table: str) -> list[str]:
    """SQL for qualified, quoted table names. All names come from the registry, which allows only plain ones."""
    key = f'"{file.primary_key}"'
    columns = [*file.columns, *PROVENANCE_COLUMNS]
    names = ", ".join(f'"{column}"' for column in columns)
    changes = ", ".join(f'"{column}" = excluded."{column}"' for column in columns if column != file.primary_key)
    statements = [f"SET LOCAL work_mem = '{_SORT_MEMORY_MB}MB'"]
    if file.has_repeats:
        newest = f'"{file.cursor}" DESC NULLS LAST, ' if file.cursor else ""
        statements.append(
            f"DELETE FROM {staged} s USING (SELECT ctid AS place, row_number() OVER (PARTITION BY {key} ORDER BY {newest}"  # noqa: S608
            f'"_page" DESC, ctid DESC) AS version FROM {staged} WHERE {key} IN'
            f" (SELECT {key} FROM {staged} GROUP BY {key} HAVING count(*) > 1)) v WHERE s.ctid = v.place AND v.version > 1"
        )
    if file.is_everything:
        statements.append(
            f'UPDATE {table} t SET "{DELETED_COLUMN}" = now() WHERE "{DELETED_COLUMN}" IS NULL'  # noqa: S608
            f" AND NOT EXISTS (SELECT FROM {staged} s WHERE s.{key} = t.{key})"
        )
    statements.append(
        f"INSERT INTO {table} AS t ({names}) SELECT {names} FROM {staged} ON CONFLICT ({key})"  # noqa: S608
        f' DO UPDATE SET {changes}, "{DELETED_COLUMN}" = NULL WHERE t."_content_hash" IS DISTINCT FROM excluded."_content_hash"'
        f' OR t."{DELETED_COLUMN}" IS NOT NULL'
    )
    return statements


def _resource(file: TableFile) -> DltResource:
    columns = {**file.columns, **_PROVENANCE_TYPES, DELETED_COLUMN: "timestamp"}

    def rows() -> Iterator[Any]:
        if file.cursor_to is not None:
            dlt.current.resource_state()["cursor"] = file.cursor_to.isoformat()
        yield dlt.mark.with_file_import(str(file.path), "csv", file.rows)

    return dlt.resource(
        rows,
        name=file.name,
        table_name=file.table,
        write_disposition="merge",
        primary_key=file.primary_key,
        columns={
            name: {"name": name, "data_type": kind, "nullable": name != file.primary_key}
            for name, kind in columns.items()
        },
        schema_contract={"tables": "evolve", "columns": "freeze", "data_type": "freeze"},
    )


def _credentials(login: Mapping[str, Any]) -> PostgresCredentials:
    """dlt's form of libpq parameters; what is not address or login (sslmode, ...) goes into the query."""
    parameters = dict(login)
    credentials = PostgresCredentials()
    credentials.host, credentials.port = parameters.pop("host"), int(parameters.pop("port"))
    credentials.database = parameters.pop("dbname")
    credentials.username, credentials.password = parameters.pop("user"), parameters.pop("password")
    credentials.query = parameters | {"application_name": APPLICATION_NAME}
    return credentials
