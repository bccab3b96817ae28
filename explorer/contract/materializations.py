"""What a run says of the assets that it materialized: one record per kind of asset."""

from collections.abc import Mapping
from typing import Any, ClassVar

import msgspec

from explorer.contract.records import COLUMN_LINEAGE, COLUMN_SCHEMA, ROW_COUNT, TABLE_NAME, Record


class Discovery(Record, frozen=True, kw_only=True):
    """What a tenant's structure looks like. `counts`: what it consists of, written one by one under their own labels.

    `version`: of the structure in the catalog; `changed`: whether this run made it; `diff`: how it differs from the one before.
    `since_the_last_sync`, `changes`, `found`: the same for people.
    """

    counts: Mapping[str, int]
    version: int
    changed: bool
    since_the_last_sync: str
    changes: str
    diff: dict[str, Any]
    warnings: tuple[str, ...]
    requests: int
    bytes: int
    found: str

    def to_metadata(self) -> dict[str, Any]:
        metadata = super().to_metadata()
        return dict(metadata.pop("counts")) | metadata


class SourceDefinition(Record, frozen=True, kw_only=True):
    """What the definition of a raw table says of its source. `incremental`: whether a sync reads only what changed."""

    endpoint: str
    primary_key: str
    incremental: bool


class RawLoad(Record, frozen=True, kw_only=True):
    """What a load did to a raw table: see `explorer.load.ResourceReport`, whose counts these are.

    `cursor`, `cursor_before`: ISO instants; `row_count`: rows of the table that are not marked as gone.
    """

    row_count: int | None = msgspec.field(default=None, name=ROW_COUNT)
    table_name: str | None = msgspec.field(default=None, name=TABLE_NAME)
    status: str | None = None
    skipped_reason: str | None = None
    rows_landed: int | None = None
    rows_new: int | None = None
    rows_changed: int | None = None
    rows_deleted: int | None = None
    rows_missing: int | None = None
    rows_rejected: int | None = None
    values_repaired: int | None = None
    api_total: int | None = None
    cursor: str | None = None
    cursor_before: str | None = None
    requests: int | None = None
    bytes: int | None = None
    duration_s: float | None = None


class StaticModel(Record, frozen=True, kw_only=True):
    """A model of the dbt project. `rebuilt`: whether it had to be built; its columns are told then only.

    `column_schema`, `column_lineage`: Dagster's own objects.
    """

    table_name: str | None = msgspec.field(default=None, name=TABLE_NAME)
    rebuilt: bool | None = None
    column_schema: Any = msgspec.field(default=None, name=COLUMN_SCHEMA)
    column_lineage: Any = msgspec.field(default=None, name=COLUMN_LINEAGE)
    duration_s: float | None = None
    row_count: int | None = msgspec.field(default=None, name=ROW_COUNT)


class App(Record, frozen=True, kw_only=True):
    """An application that describes a table."""

    id: str
    name: str


class ListedTable(Record, frozen=True, kw_only=True):
    """One generated table. `status`: success, error, skipped, not built ...; `error`: why it was not built; `row_count`: None
    where it was not counted; `source`: what it is cut by; `form`: title of its form; `unfit_values`: by column, how many."""

    written_as_null: ClassVar[frozenset[str]] = frozenset({"row_count"})

    name: str
    kind: str | None = None
    source: str | None = None
    description: str | None = None
    apps: tuple[App, ...] | None = None
    xmlns: str | None = None
    form: str | None = None
    unfit_values: dict[str, int] | None = None
    row_count: int | None = None
    status: str | None = None
    error: str | None = None


class TypeChange(Record, frozen=True, kw_only=True):
    """A column whose type the run changed, with a sentence why. `at`: ISO instant."""

    table: str
    column: str
    before: str
    after: str
    at: str | None = None
    reason: str | None = None


class RetiredTable(Record, frozen=True, kw_only=True):
    """A table whose source is gone: nothing is added to it `since`, and it goes after `dropped_after` (ISO dates)."""

    name: str
    since: str
    dropped_after: str


class Tables(Record, frozen=True, kw_only=True):
    """What answers are made of, of the metadata of any table's asset. `tables` is None where the asset is one table itself."""

    row_count: int | None = msgspec.field(default=None, name=ROW_COUNT)
    tables: tuple[ListedTable, ...] | None = None
    migrations: tuple[TypeChange, ...] = ()
    retired: tuple[RetiredTable, ...] = ()


class GeneratedTables(Record, frozen=True, kw_only=True):
    """Of an asset that stands for many generated tables. `overview`: the list for people; `rebuilt`, `failed`: how many were;
    `columns`: table to column to the path of its question or property; `columns_told`, `columns_total`: how many columns the
    metadata tells, and how many there are."""

    tables: tuple[ListedTable, ...]
    overview: str
    table_count: int
    rebuilt: int
    failed: int
    unfit_values: int
    migrations: tuple[TypeChange, ...]
    retired: tuple[RetiredTable, ...]
    row_count: int = msgspec.field(name=ROW_COUNT)
    column_schema: Any = msgspec.field(name=COLUMN_SCHEMA)
    column_lineage: Any = msgspec.field(name=COLUMN_LINEAGE)
    columns: dict[str, dict[str, str]]
    columns_told: int
    columns_total: int


class Summary(Record, frozen=True, kw_only=True):
    """What a list of a run's materializations shows of each, whichever kind of asset it is of."""

    row_count: int | None = msgspec.field(default=None, name=ROW_COUNT)
    rows_landed: int | None = None
    rows_rejected: int | None = None
    skipped_reason: str | None = None
    table_count: int | None = None
    failed: int | None = None
