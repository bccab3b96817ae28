"""How does dlt bring rows into raw tables? One run of one source, with a resource for each table whose rows differ.

It merges by the primary key through its staging dataset, which is the tenant's second raw schema: each table changes in one
transaction. The working folder is new for every load, so that dlt never goes on with what a killed load left.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import dlt
from dlt.pipeline.exceptions import PipelineStepFailed

from explorer.load.errors import LoadFailed
from explorer.load.raw.table import RawTable

_TYPES = {"text": "text", "boolean": "bool", "timestamp": "timestamp", "bigint": "bigint", "json": "json"}
# Set in memory for the time of the run, in place of what dlt finds in files of the machine.
_SETTINGS: dict[str, Any] = {
    "runtime.dlthub_telemetry": False,
    # Interrupts must reach us: dlt's own handler swallows the first.
    "runtime.intercept_signals": False,
    "enable_runtime_trace": False,
    # The state of a load is ours (`contract.bookkeeping.loads`), and the tables' structure is in the database.
    "restore_from_destination": False,
    # Names stay as the pipeline's file has them.
    "schema.naming": "direct",
    "extract.workers": 1,
    "normalize.workers": 1,
    # A tenant's login has few connections.
    "load.workers": 2,
}


@dataclass(frozen=True)
class TableFile:
    """`rows` rows of `table`, in an `insert_values` file."""

    table: RawTable
    path: Path
    rows: int


def run_dlt(name: str, raw_schema: str, login: Mapping[str, Any], folder: Path, files: Sequence[TableFile]) -> None:
    """Merge the rows of `files`. `name`: of pipeline and source; `login`: libpq parameters; `folder`: empty.

    Raises:
        LoadFailed: a table could not be written; others may be.
    """
    with dlt.config.values(_SETTINGS), dlt.secrets.values(_SETTINGS):
        pipeline = dlt.pipeline(
            name,
            pipelines_dir=str(folder),
            destination=dlt.destinations.postgres(
                credentials=_credentials(login), create_indexes=False, staging_dataset_name_layout="%s_staging"
            ),
            dataset_name=raw_schema,
            dev_mode=False,
        )
        source = dlt.source(_resources, name=name, max_table_nesting=0)
        try:
            pipeline.run(source(files))
        except PipelineStepFailed as error:
            if isinstance(error.exception, KeyboardInterrupt):
                raise error.exception from None
            raise LoadFailed.because_of(error) from error


def _resources(files: Sequence[TableFile]) -> Iterator[Any]:
    for file in files:
        yield dlt.resource(
            [dlt.mark.with_file_import(str(file.path), "insert_values", file.rows)],
            name=file.table.source,
            table_name=file.table.name,
            write_disposition={"disposition": "merge", "strategy": "upsert"},
            primary_key=file.table.key,
            columns={
                column: {"data_type": _TYPES[kind], "nullable": column != file.table.key}
                for column, kind in file.table.kinds.items()
            },
            file_format="insert_values",
        )


def _credentials(login: Mapping[str, Any]) -> dict[str, Any]:
    """dlt's names of libpq parameters; others than address and login (sslmode, ...) go into the query."""
    names = {"host": "host", "port": "port", "dbname": "database", "user": "username", "password": "password"}
    query = {name: value for name, value in login.items() if name not in names}
    return {own: login[name] for name, own in names.items()} | {"query": query}
