"""What does a run report of the assets that it materialized? One record per kind of asset."""

from collections.abc import Mapping
from datetime import datetime
from typing import Any, ClassVar

import msgspec

from explorer.contract.records import COLUMN_LINEAGE, COLUMN_SCHEMA, ROW_COUNT, TABLE_NAME, Record


class Discovery(Record, frozen=True, kw_only=True):
    """A tenant's structure. `counts`: numbers of its parts, each under a label of its own.

    `version`: of the structure in the catalog; `changed`: whether this run made that version; `diff`: changes since the version
    before. `since_the_last_sync`, `changes`, `found`: the same for people.
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


class Retention(Record, frozen=True, kw_only=True):
    """What was too old: runs with their events and logs, folders that no tenant has any more, and schemas that nobody asked, by
    their tenants' keys."""

    runs_removed: int
    folders_removed: int
    schemas_expired: tuple[str, ...] = ()


class SourceDefinition(Record, frozen=True, kw_only=True):
    """The source of a raw table, in the definition of its asset. `incremental`: whether a sync reads only changes."""

    endpoint: str
    primary_key: str
    incremental: bool


class RawLoad(Record, frozen=True, kw_only=True):
    """What a load did to a raw table. The counts are those of `explorer.load.ResourceReport`.

    `cursor`, `cursor_before`: ISO times; `row_count`: rows of the table that are not marked as deleted.
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


class Table(Record, frozen=True, kw_only=True):
    """A table or view that one asset stands for: a table of one row per record, or a dbt model.

    `verb`: what the run did with it (`tables.engine`); `last_change`, `changed_by`: when its rows changed last, and in which run.
    The columns are listed where the run may have changed them: Dagster's own objects.
    """

    table_name: str | None = msgspec.field(default=None, name=TABLE_NAME)
    row_count: int | None = msgspec.field(default=None, name=ROW_COUNT)
    verb: str | None = None
    last_change: datetime | None = None
    changed_by: str | None = None
    duration_s: float | None = None
    column_schema: Any = msgspec.field(default=None, name=COLUMN_SCHEMA)
    column_lineage: Any = msgspec.field(default=None, name=COLUMN_LINEAGE)


class App(Record, frozen=True, kw_only=True):
    """An application that describes a table."""

    id: str
    name: str


class ListedTable(Record, frozen=True, kw_only=True):
    """One generated table. `status`: success, error, skipped, not built ...; `error`: why it was not built; `row_count`: None if
    not counted; `source`: the resource it is made from; `form`: title of its form; `unfit_values`: number by column."""

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
    """A column whose type the run changed, and a sentence that says why. `at`: ISO time."""

    table: str
    column: str
    before: str
    after: str
    at: str | None = None
    reason: str | None = None


class RetiredTable(Record, frozen=True, kw_only=True):
    """A table whose source is gone. It gets no new rows after `since` and is dropped after `dropped_after` (ISO dates)."""

    name: str
    since: str
    dropped_after: str


class Tables(Record, frozen=True, kw_only=True):
    """The part of any table asset's metadata that the bridge reads. `tables` is None where the asset is one table."""

    row_count: int | None = msgspec.field(default=None, name=ROW_COUNT)
    tables: tuple[ListedTable, ...] | None = None
    migrations: tuple[TypeChange, ...] = ()
    retired: tuple[RetiredTable, ...] = ()


class GeneratedTables(Record, frozen=True, kw_only=True):
    """An asset that stands for many generated tables. `overview`: the list for people; `rebuilt`, `applied`, `failed`: numbers of
    tables; `columns_told`, `columns_total`: how many columns the metadata lists, and how many exist. `tables`: the list for the
    bridge."""

    overview: str
    table_count: int
    rebuilt: int
    applied: int
    failed: int
    unfit_values: int
    row_count: int = msgspec.field(name=ROW_COUNT)
    column_schema: Any = msgspec.field(name=COLUMN_SCHEMA)
    column_lineage: Any = msgspec.field(name=COLUMN_LINEAGE)
    columns_told: int
    columns_total: int
    migrations: tuple[TypeChange, ...]
    retired: tuple[RetiredTable, ...]
    tables: tuple[ListedTable, ...]


class SavedModels(Record, frozen=True, kw_only=True):
    """The asset of the models that people have saved. `overview`: the list for people; `rebuilt`, `failed`: numbers of models;
    `tables`: the list for the bridge; `dropped`: tables of models that are not saved any more."""

    overview: str
    table_count: int
    rebuilt: int
    failed: int
    row_count: int = msgspec.field(name=ROW_COUNT)
    dropped: tuple[str, ...]
    tables: tuple[ListedTable, ...]


class Summary(Record, frozen=True, kw_only=True):
    """What a list of a run's materializations shows of each one, for every kind of asset."""

    row_count: int | None = msgspec.field(default=None, name=ROW_COUNT)
    rows_landed: int | None = None
    rows_rejected: int | None = None
    skipped_reason: str | None = None
    table_count: int | None = None
    failed: int | None = None
